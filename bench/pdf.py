"""Stage ``pdf.render`` against platypus: the same content as a Table of strings, of Paragraphs."""

from __future__ import annotations

import io
import re
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import getSampleStyleSheet
from reportlab.platypus import Paragraph, SimpleDocTemplate, Spacer, Table, TableStyle

from bench._measure import environment, row, watched
from dlx.report import Person, Report
from dlx.testing.reports import report_for
from formats.pdf import FORMAT

# performance.md §1: against a plain-string Table, and against a Paragraph per cell.
GATES = {"pdf.platypus": (4.0, 10.0), "pdf.platypus.paragraphs": (10.0, 25.0)}
MAX_BYTES = 60_000
_STYLES = getSampleStyleSheet()
_NOBODY = Person()


def _rendered(report: Report) -> bytes:
    assert FORMAT.render is not None
    return FORMAT.render(report, _NOBODY, FORMAT.options).content


def platypus(report: Report, *, paragraphs: bool = False) -> bytes:
    """The reference: SimpleDocTemplate, paragraphs for the head, one Table."""
    out = io.BytesIO()
    patient = report.patient
    story = [
        Paragraph(report.laboratory.name, _STYLES["Title"]),
        Paragraph(f"{patient.family} {patient.given_names}", _STYLES["Normal"]),
        Paragraph(f"Dossier {report.number}", _STYLES["Normal"]),
        Spacer(1, 12),
    ]
    rows, style = _table(report)
    if paragraphs:
        normal = _STYLES["Normal"]
        rows = [[Paragraph(escape(cell), normal) for cell in cells] for cells in rows]
    story.append(Table(rows, style=TableStyle(style), repeatRows=1))
    SimpleDocTemplate(out, pagesize=A4, invariant=1).build(story)
    return out.getvalue()


def _table(report: Report) -> tuple[list[list[Any]], list[tuple[object, ...]]]:
    rows: list[list[Any]] = [["Analyse", "", "Résultat", "Unité", "Référence", "Antériorité"]]
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


def _with_paragraphs(report: Report) -> bytes:
    return platypus(report, paragraphs=True)


def _check(reports: list[Report], works: list[Callable[[Report], bytes]]) -> int:
    """Raise RuntimeError unless every text can be read back; return the largest of our files."""
    if shutil.which("pdftotext") is None:
        raise RuntimeError("pdftotext (poppler-utils) is needed: no figure without its check")
    for report in reports:
        for work in works:
            if lost := missing(report, extracted(work(report))):
                raise RuntimeError(f"{work.__name__}: {len(lost)} texts are missing")
    largest = max(len(_rendered(report)) for report in reports)
    if largest > MAX_BYTES:
        raise RuntimeError(f"{largest} bytes, {MAX_BYTES} at most")
    return largest


def _timed(work: Callable[[Report], bytes], report: Report) -> float:
    start = time.process_time()
    work(report)
    return (time.process_time() - start) * 1000


def _row(
    name: str, reference: Callable[[Report], bytes], reports: list[Report], rounds: int
) -> dict[str, Any]:
    """Rounds are interleaved, so both see the same machine; a busy one is tried three times."""
    for _ in range(3):
        stage: list[list[float]] = [[] for _ in reports]
        other: list[list[float]] = [[] for _ in reports]
        with watched() as load:
            for _ in range(rounds):
                for times, work in ((other, reference), (stage, _rendered)):
                    for k, report in enumerate(reports):
                        times[k].append(_timed(work, report))
        if load.quiet:
            break
    every = sorted(value for times in stage for value in times)
    best, best_reference = (statistics.fmean(map(min, times)) for times in (stage, other))
    gate, goal = GATES[name]
    result: dict[str, Any] = row(
        "pdf.render",
        gate=gate,
        goal=goal,
        ratio=best_reference / best,
        load=load,
        n=len(reports),
        rounds=rounds,
        min_ms=round(every[0], 3),
        median_ms=round(statistics.median(every), 3),
        p99_ms=round(every[int(len(every) * 0.99)], 3),
        cpu_ms=round(best, 3),
        ref=name,
        ref_ms=round(best_reference, 3),
    )
    return result


def run(quick: bool) -> list[dict[str, Any]]:
    """Rows of performance.md §5. Raises RuntimeError when an output lacks a text or is too big."""
    count, rounds = (120, 6) if quick else (500, 6)
    reports = [report_for(seed=seed) for seed in range(1, count + 1)]
    largest = _check(reports[:5], [_rendered, platypus, _with_paragraphs])
    rows = [
        _row("pdf.platypus", platypus, reports, rounds),
        _row("pdf.platypus.paragraphs", _with_paragraphs, reports[: count // 2], 3),
    ]
    counts = {"fsync": 0, "largest_bytes": largest}
    return [{**one, "counts": counts, "env": environment()} for one in rows]
