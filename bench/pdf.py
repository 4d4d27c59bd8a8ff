"""Stage ``pdf.render`` against platypus: the same content through one plain-string Table."""

from __future__ import annotations

import io
import os
import platform
import re
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from itertools import islice
from pathlib import Path

from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import getSampleStyleSheet
from reportlab.platypus import Paragraph, SimpleDocTemplate, Spacer, Table, TableStyle

from dlx.report import Person, Report
from dlx.testing.reports import report_for
from formats.pdf import FORMAT

GATE, GOAL = 4.0, 10.0
_STYLES = getSampleStyleSheet()
_NOBODY = Person()


def _rendered(report: Report) -> bytes:
    assert FORMAT.render is not None
    return FORMAT.render(report, _NOBODY, FORMAT.options).content


def platypus(report: Report) -> bytes:
    """The reference: SimpleDocTemplate, paragraphs for the head, one Table of plain strings."""
    out = io.BytesIO()
    patient = report.patient
    story = [
        Paragraph(report.laboratory.name, _STYLES["Title"]),
        Paragraph(f"{patient.family} {patient.given_names}", _STYLES["Normal"]),
        Paragraph(f"Dossier {report.number}", _STYLES["Normal"]),
        Spacer(1, 12),
    ]
    rows, style = _table(report)
    story.append(Table(rows, style=TableStyle(style), repeatRows=1))
    SimpleDocTemplate(out, pagesize=A4, invariant=1).build(story)
    return out.getvalue()


def _table(report: Report) -> tuple[list[list[str]], list[tuple[object, ...]]]:
    rows = [["Analyse", "", "Résultat", "Unité", "Référence", "Antériorité"]]
    style: list[tuple[object, ...]] = [("FONTSIZE", (0, 0), (-1, -1), 8)]
    for battery in report.batteries:
        style.append(("FONTNAME", (0, len(rows)), (0, len(rows)), "Helvetica-Bold"))
        rows.append([battery.code.text, "", "", "", "", ""])
        for line in battery.observations:
            if line.abnormal:
                style.append(("FONTNAME", (2, len(rows)), (2, len(rows)), "Helvetica-Bold"))
            values = [v.text for v in line.values if not hasattr(v, "media_type")]
            earlier = [
                f"{p.moment.french_date if p.moment else ''} {p.value}" for p in line.previous
            ]
            flag = "".join(line.flags).replace("N", "")
            rows.append(
                [line.label, flag, " ".join(values), line.unit, line.reference, " ".join(earlier)]
            )
            if line.second:
                second = line.second
                rows.append(["", "", second.value.text, second.unit, second.reference, ""])
            rows += [[text, *[""] * 5] for c in line.comments for text in c.text.split("\n")]
    return rows, style


def extracted(content: bytes) -> str:
    """The text of a PDF by pdftotext, blanks removed."""
    with tempfile.NamedTemporaryFile(suffix=".pdf") as file:
        Path(file.name).write_bytes(content)
        done = subprocess.run(
            ["pdftotext", "-layout", file.name, "-"], capture_output=True, check=True
        )
    return re.sub(r"\s+", "", done.stdout.decode())


def missing(report: Report, text: str) -> list[str]:
    """Labels, values, units and references of ``report`` that ``text`` does not hold."""
    wanted: list[str] = []
    for line in report.observations():
        wanted += [line.label, line.unit, line.reference]
        wanted += [v.text for v in line.values if not hasattr(v, "media_type")]
    return [word for word in wanted if re.sub(r"\s+", "", word) not in text]


def _timed(work: Callable[[Report], bytes], report: Report) -> float:
    start = time.process_time()
    work(report)
    return (time.process_time() - start) * 1000


def run(quick: bool) -> list[dict[str, object]]:
    """Rows of performance.md §5. Raises AssertionError when an output lacks a value."""
    count, rounds = (100, 3) if quick else (500, 6)
    reports = [report_for(seed=seed) for seed in range(1, count + 1)]
    if shutil.which("pdftotext"):
        for report in islice(reports, 5):
            for work in (_rendered, platypus):
                lost = missing(report, extracted(work(report)))
                assert not lost, f"{work.__name__}: {len(lost)} texts missing"
    stage: list[list[float]] = [[] for _ in reports]
    reference: list[list[float]] = [[] for _ in reports]
    for _ in range(rounds):
        # Rounds are interleaved: both see the same machine.
        for times, work in ((reference, platypus), (stage, _rendered)):
            for k, report in enumerate(reports):
                times[k].append(_timed(work, report))
    best = statistics.fmean(map(min, stage))
    best_reference = statistics.fmean(map(min, reference))
    every = sorted(value for times in stage for value in times)
    ratio = best_reference / best
    return [
        {
            "stage": "pdf.render",
            "n": count,
            "rounds": rounds,
            "min_ms": round(every[0], 3),
            "median_ms": round(statistics.median(every), 3),
            "p99_ms": round(every[int(len(every) * 0.99)], 3),
            "cpu_ms": round(best, 3),
            "ref": "pdf.platypus",
            "ref_ms": round(best_reference, 3),
            "ratio": round(ratio, 2),
            "gate": GATE,
            "goal": GOAL,
            "pass": ratio >= GATE,
            "env": {
                "cores": os.cpu_count(),
                "python": platform.python_version(),
                "libs": {name: version(name) for name in ("reportlab", "rl_accel")},
            },
        }
    ]
