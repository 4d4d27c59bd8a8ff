"""Stages ``hprim.parse`` and ``hprim-sante.parse`` against our parse of the same report as HL7.

The three messages say the same 35 results; HPRIM Médecin and HL7 are written by our own formats. A
ratio is the time of the reference divided by ours: above 1 we are faster than the HL7 reader.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from bench._measure import row, watched
from dlx.contracts import Parsed
from dlx.report import Person, Report
from dlx.testing.reports import prescriber_for, report_for
from formats.hl7v2_oru import FORMAT as ORU
from formats.hprim_medecin import FORMAT as MEDECIN
from formats.hprim_sante import FORMAT as SANTE

GATE, GOAL = 1.0, 2.5
RESULTS = 35


def sante_message(report: Report) -> bytes:
    """The results as an HPRIM Santé ORU."""
    lines = [
        "H|~^\\&|LABT0001.HPR||LAB1~LABO-TEST||ORU|||CLI1~CLINIQUE-TEST||P|H2.4~C|202611031015",
        "P|1|P1|||DURAND-TEST~ANNE||19610315|F",
        f"OBR|1||~{report.number}|BIO~Biochimie~L|||202611030805",
    ]
    for rank, line in enumerate(report.observations(), 1):
        lines.append(
            f"OBX|{rank}|NM|{line.codes[1].code}~{line.label}~L||{line.values[0].text}"  # type: ignore[union-attr]
            f"|{line.unit}|{line.reference}|{'^'.join(line.flags)}|||F"
        )
    lines.append("L|1||1")
    return ("\r\n".join(lines) + "\r\n").encode("latin-1")


def _plain() -> Report:
    """A report of plain numbers without remarks, so that the three messages say the same."""
    reports = (report_for(seed=seed, results=RESULTS) for seed in range(1, 200))
    one = next(r for r in reports if not any(o.values[0].comparator for o in r.observations()))  # type: ignore[union-attr]
    bare = tuple(
        replace(
            battery,
            comments=(),
            observations=tuple(
                replace(o, comments=(), previous=(), second=None, validated_by=())
                for o in battery.observations
            ),
        )
        for battery in one.batteries
    )
    return replace(one, batteries=bare)


def _time(parse: Callable[[], Parsed], rounds: int) -> list[float]:
    times = []
    for _ in range(rounds):
        start = time.process_time_ns()
        parse()
        times.append((time.process_time_ns() - start) / 1e6)
    return times


def _checked(parse: Callable[[], Parsed], report: Report) -> Callable[[], Parsed]:
    """Correctness first: no figure is given for a reader that does not find the results."""
    found = [(o.label, o.values[0].text) for o in parse().reports[0].observations()]  # type: ignore[union-attr]
    wanted = [(o.label, o.values[0].text) for o in report.observations()]  # type: ignore[union-attr]
    if found != wanted:
        raise AssertionError("the timed reader does not find the results of the report")
    return parse


def run(quick: bool) -> list[dict[str, Any]]:
    """Rows of the two stages; CPU time, reference and stage in turn, the smallest of each."""
    report = _plain()
    medecin = MEDECIN.render(report, prescriber_for(), {"coded": "yes"}).content  # type: ignore[misc]
    hl7 = ORU.render(report, Person(), ORU.options).content  # type: ignore[misc]
    sources = {
        "hprim.parse": (MEDECIN, medecin),
        "hprim-sante.parse": (SANTE, sante_message(report)),
    }
    reference = _checked(lambda: ORU.parse(hl7, ORU.reading), report)  # type: ignore[misc]
    rows = []
    for stage, (fmt, data) in sources.items():
        ours = _checked(lambda fmt=fmt, data=data: fmt.parse(data, fmt.reading), report)  # type: ignore[misc]
        rows.append(_row(stage, ours, reference, quick=quick))
    return rows


def _row(
    stage: str, ours: Callable[[], Parsed], reference: Callable[[], Parsed], *, quick: bool
) -> dict[str, Any]:
    rounds, n = (4, 40) if quick else (10, 200)
    own: list[float] = []
    ref: list[float] = []
    with watched() as load:
        for _ in range(rounds):
            ref += _time(reference, n)
            own += _time(ours, n)
    own.sort()
    found: dict[str, Any] = row(
        stage,
        gate=GATE,
        goal=GOAL,
        ratio=min(ref) / own[0],
        load=load,
        n=n,
        rounds=rounds,
        min_ms=round(own[0], 4),
        median_ms=round(own[len(own) // 2], 4),
        p99_ms=round(own[int(len(own) * 0.99)], 4),
        cpu_ms=round(own[0], 4),
        ref="oru.parse",
        ref_ms=round(min(ref), 4),
    )
    return found


if __name__ == "__main__":
    for one in run(quick=True):
        print(one)
