"""Stage ``hl7.parse``: ORU bytes to the model against hl7apy ``parse_message`` (its tree only).

Every message is distinct. The two run in turn, round after round, in one process; the minimum of
process time is compared. Analyte codes, units and doctors recur, as in a laboratory's feed.
"""

from __future__ import annotations

import gc
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

from hl7apy.parser import parse_message

from bench._measure import row, watched
from dlx.report import Person, Report
from dlx.testing.reports import report_for
from formats.hl7v2_oru import parse, render

GATE, GOAL = 300, 600
ROUNDS = 6


def run(quick: bool) -> list[dict[str, Any]]:
    """The JSON row of the stage; raises AssertionError when what was read is not what was sent."""
    count = 52 if quick else 500
    reports = [report_for(seed=seed, results=35) for seed in range(count)]
    messages = [render(report, Person(), {}).content for report in reports]
    _check(reports, messages)
    texts = [message.decode() for message in messages]
    share = max(1, (12 if quick else 60) // ROUNDS)  # of the slow reference, per round
    own: list[list[float]] = []
    reference: list[float] = []
    with watched() as load, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for turn in range(ROUNDS):
            part = texts[turn * share : (turn + 1) * share]
            reference.append(statistics.fmean(_milliseconds(lambda one: parse_message(one), part)))
            own.append(_milliseconds(lambda one: parse(one, {}), messages))
    means = [statistics.fmean(times) for times in own]
    every = sorted(time for times in own for time in times)
    return [
        row(
            "hl7.parse",
            gate=GATE,
            goal=GOAL,
            ratio=min(reference) / min(means),
            load=load,
            n=count,
            rounds=ROUNDS,
            min_ms=round(every[0], 4),
            median_ms=round(statistics.median(every), 4),
            p99_ms=round(every[int(len(every) * 0.99)], 4),
            cpu_ms=round(min(means), 4),
            ref="hl7apy.parse_message",
            ref_ms=round(min(reference), 2),
        )
    ]


def _milliseconds(read: Callable[..., object], inputs: list[str] | list[bytes]) -> list[float]:
    """Process time of each call."""
    gc.collect()  # the cyclic trees of the reference must not be swept on our time
    times = []
    for one in inputs:
        start = time.process_time_ns()
        read(one)
        times.append((time.process_time_ns() - start) / 1e6)
    return times


def _check(reports: list[Report], messages: list[bytes]) -> None:
    """Every value, unit, interval and flag of every message is the one that was written."""
    assert len(set(messages)) == len(messages)
    for report, message in zip(reports, messages, strict=True):
        (read,) = parse(message, {}).reports
        assert (read.number, read.patient) == (report.number, report.patient)
        for back, line in zip(read.observations(), report.observations(), strict=True):
            assert (back.values, back.unit) == (line.values, line.unit)
            assert (back.reference, back.flags, back.comments) == (
                line.reference,
                line.flags,
                line.comments,
            )
