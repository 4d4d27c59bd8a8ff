"""`pdf`: the printed sheet of a report, A4, fonts embedded, the same bytes for the same report.

Three steps, each a module: the report becomes lines (``_sheet``, ``_results``), lines become pages
(``_pages``), pages become PDF (``_document``, the only one that knows PDF and reportlab's
document). A line knows its height, so nothing is drawn to find out whether it fits.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from dlx.contracts import Format, Options
from dlx.delivery import Rendition
from dlx.report import Person, Report
from formats.pdf._document import document
from formats.pdf._model import BOTTOM, HEIGHT, TOP, Flowing, Line, Page
from formats.pdf._pages import paginated
from formats.pdf._results import Results
from formats.pdf._sheet import FOOT_HEIGHT, Sheet
from formats.pdf._text import Scribe

OPTIONS = {
    "laboratory.name": "",
    "laboratory.address": "",
    "accreditation": "",
}
_LEGENDS = (
    ({"H", "HH", "L", "LL", ">", "<"}, "▲ au-dessus, ▼ au-dessous des valeurs de référence"),
    ({"HH", "LL"}, "▲▲ ▼▼ valeur critique"),
    ({"A", "AA"}, "* résultat anormal"),
    ({"S", "I", "R"}, "S sensible, I sensible à forte posologie, R résistant"),
)


def render(report: Report, to: Person, options: Options) -> Rendition:
    """Return the printed sheet; the addressee is not printed, so one serves everybody.

    Raises:
        RenderError: PDF-E01, a value, a unit, a reference or an identity has a character that no
            embedded face can show.
    """
    pages, losses = composed(report, options)
    laboratory = options.get("laboratory.name", "") or report.laboratory.name or report.issuer
    created = report.issued.digits[:14] if report.issued else ""
    return Rendition(
        format="pdf",
        suffix=".pdf",
        media_type="application/pdf",
        content=document(pages, laboratory=laboratory, created=created),
        losses=losses,
    )


def composed(report: Report, options: Options) -> tuple[list[Page], tuple[str, ...]]:
    """Return the placed lines of every page, and the losses. Raises RenderError as ``render``."""
    scribe = Scribe()
    sheet = Sheet(report, options, scribe)
    bottom = HEIGHT - BOTTOM - FOOT_HEIGHT
    pages = paginated(_lines(report, sheet, scribe), TOP, bottom, sheet.running_head)
    for page, foot in zip(pages, sheet.foot(len(pages)), strict=True):
        page.append(foot)
    return pages, (*sheet.losses, *scribe.losses())


def _lines(report: Report, sheet: Sheet, scribe: Scribe) -> list[Flowing]:
    results = Results(report, scribe)
    table = results.lines()
    after = [*sheet.text(), *sheet.closing(_legend(results.flags))]
    return [*_alone(sheet.opening()), *table, *_alone(after)]


def _alone(lines: Iterable[Line]) -> Iterator[Flowing]:
    return ((line, ()) for line in lines)


def _legend(flags: set[str]) -> str:
    return " · ".join(text for signs, text in _LEGENDS if signs & flags)


def recognises(head: bytes) -> bool:
    """Return True for the first bytes of a PDF file."""
    return head.startswith(b"%PDF-")


FORMAT = Format(name="pdf", suffix=".pdf", recognises=recognises, render=render, options=OPTIONS)
