"""Batteries and their results as lines of a table: chapters, headings, rows, remarks below."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import zip_longest
from typing import NamedTuple

from dlx.report import Attachment, Battery, Comment, Observation, Report, ResultStatus, Second
from formats.pdf._fonts import Face, faces, shown
from formats.pdf._model import (
    BAND,
    BLACK,
    BLUE,
    GREY,
    HAIR,
    LEFT,
    RIGHT,
    RULE,
    Fill,
    Flowing,
    Line,
    Run,
    gap,
    wrapped,
)
from formats.pdf._text import Scribe


class Column(NamedTuple):
    """Where a column of the table begins and how wide it is; ``right``: set against its end."""

    x: float
    width: float
    right: bool = False


LABEL = Column(LEFT, 172)
FLAG = Column(220, 16)
VALUE = Column(236, 50, right=True)
UNIT = Column(292, 46)
REFERENCE = Column(344, 82)
PREVIOUS = Column(434, RIGHT - 434)
WIDE = Column(FLAG.x, RIGHT - FLAG.x)
FULL = Column(LEFT, RIGHT - LEFT)
UNDER = Column(LEFT + 10, RIGHT - LEFT - 10)

HAIRLINE = (Fill(LEFT, 0, RIGHT - LEFT, 0.35, HAIR),)
SIZE, SMALL = 8.4, 7.2
PITCH, SMALL_PITCH = 11.8, 9.4
KEPT_LINES = 8
"""A row or remark of up to this many lines stays on one page; a longer one may be continued."""

# HL7 v2 table 0074, diagnostic service section; anything else is printed as sent.
SECTIONS = {
    "CH": "Biochimie",
    "CHEM": "Biochimie",
    "HM": "Hématologie",
    "COAG": "Hémostase",
    "MB": "Microbiologie",
    "IMM": "Immunologie",
    "SR": "Sérologie",
    "TX": "Toxicologie",
    "VR": "Virologie",
    "PAR": "Parasitologie",
    "MYC": "Mycologie",
    "MCB": "Mycobactériologie",
    "BLB": "Immuno-hématologie",
    "CTH": "Cytogénétique",
    "GE": "Génétique",
    "PAT": "Anatomie pathologique",
    "SP": "Anatomie pathologique",
    "CP": "Cytologie",
    "LAB": "Biologie",
}
# HL7 v2 table 0078. Triangles need no colour; two of them are a critical value.
SIGNS = {"H": "▲", "HH": "▲▲", "L": "▼", "LL": "▼▼", ">": "▲", "<": "▼", "A": "*", "AA": "**"}
SUSCEPTIBILITY = {"S": "S", "I": "I", "R": "R", "MS": "MS", "VS": "VS"}
STATES = {
    ResultStatus.CORRECTED: "résultat corrigé",
    ResultStatus.PRELIMINARY: "résultat provisoire",
    ResultStatus.PENDING: "en cours",
    ResultStatus.UNVERIFIED: "non validé",
    ResultStatus.PARTIAL: "résultat partiel",
    ResultStatus.DELETED: "résultat supprimé",
    ResultStatus.UNOBTAINABLE: "non réalisable",
    ResultStatus.WRONG: "résultat antérieur erroné",
    ResultStatus.NOT_ASKED: "non demandé",
    ResultStatus.ORDER_ONLY: "demandé, sans résultat",
}
# What stands in the place of a missing value.
_EMPTY = frozenset(
    {
        ResultStatus.PENDING,
        ResultStatus.UNOBTAINABLE,
        ResultStatus.DELETED,
        ResultStatus.NOT_ASKED,
        ResultStatus.ORDER_ONLY,
    }
)


class Cell(NamedTuple):
    """Text lines in a column, all in one face."""

    column: Column
    face: Face
    size: float
    lines: Sequence[str]
    ink: str = BLACK


def stacked(cells: Sequence[Cell], pitch: float, fills: tuple[Fill, ...] = ()) -> list[Line]:
    """One ``Line`` a line of text: the k-th lines of all cells stand side by side.

    ``fills`` go behind the first line.
    """
    if max([len(cell.lines) for cell in cells]) < 2:  # by far the most frequent row
        texts = [(cell, cell.lines[0]) for cell in cells if cell.lines]
        runs = tuple([_run(cell, text, pitch) for cell, text in texts if text])
        return [Line(pitch, runs, fills)] if texts else []
    rows = zip_longest(*([_run(cell, text, pitch) for text in cell.lines] for cell in cells))
    lines = [Line(pitch, tuple(run for run in row if run and run.text)) for row in rows]
    lines[0] = lines[0]._replace(fills=fills)
    return lines


def _run(cell: Cell, text: str, pitch: float) -> Run:
    column, face, size, _, ink = cell
    x = column.x + column.width - face.width(text, size) if column.right else column.x
    return Run(x, pitch - 2.9, face, size, text, ink, column.width)


def kept(lines: list[Line]) -> list[Line]:
    """Keep a short group on one page; of a longer one, the two first and the two last lines."""
    last = len(lines) - 1
    if last < 1:
        return lines
    if last < KEPT_LINES:
        return [*(line._replace(keep=True) for line in lines[:-1]), lines[-1]]
    return [line._replace(keep=k in (0, last - 1)) for k, line in enumerate(lines)]


# Labels, units and references are the laboratory's vocabulary, not a patient's: they are kept.
@lru_cache(maxsize=4096)
def _known_runs(label: str, unit: str, reference: str) -> tuple[Run, ...] | None:
    """The runs that a row has for every patient; None when one of the texts needs two lines."""
    regular, _, _ = faces()
    cells = []
    for column, text in ((LABEL, label), (UNIT, unit), (REFERENCE, reference)):
        lines = wrapped(text, regular, SIZE, column.width)
        if len(lines) > 1:
            return None
        if text or column is LABEL:
            cells.append(Cell(column, regular, SIZE, lines))
    return tuple(_run(cell, cell.lines[0], PITCH) for cell in cells)


@lru_cache(maxsize=1024)
def _heading(title: str, more: str = "") -> tuple[Line, ...]:
    """A battery's name as kept lines."""
    _, bold, _ = faces()
    cell = Cell(FULL, bold, 8.8, wrapped(title + more, bold, 8.8, FULL.width), BLUE)
    return tuple(line._replace(keep=True) for line in stacked([cell], 12.5))


@lru_cache(maxsize=1)
def _column_heads() -> Line:
    regular, _, _ = faces()
    heads = (
        (LABEL, "Analyse"),
        (VALUE, "Résultat"),
        (UNIT, "Unité"),
        (REFERENCE, "Valeurs de référence"),
        (PREVIOUS, "Antériorités"),
    )
    cells = [Cell(column, regular, 6.8, [text], GREY) for column, text in heads]
    rule = Fill(LEFT, 11.6, RIGHT - LEFT, 0.5, RULE)
    return stacked(cells, 11)[0]._replace(height=15, fills=(rule,), keep=True)


class Results:
    """Writes the batteries of one report."""

    def __init__(self, report: Report, scribe: Scribe) -> None:
        self.report = report
        self.scribe = scribe
        self.regular, self.bold, _ = faces()
        self.flags: set[str] = set()

    def lines(self) -> Iterator[Flowing]:
        """Yield every line of the table, with what to repeat above it on top of a new page."""
        head = _column_heads()
        section = None
        if self.report.batteries:
            yield head, ()
        for battery in self.report.batteries:
            if battery.section != section:
                section = battery.section
                if section:
                    name = SECTIONS.get(section, section)
                    yield from ((line, (head,)) for line in self._chapter(name))
            title = self._title(battery)
            running = (head, *_heading(title, " (suite)")[:2]) if title else (head,)
            yield from ((line, running) for line in self._battery(battery, title))

    def _chapter(self, name: str) -> list[Line]:
        text = self.scribe.remark(name)
        upper = text.upper()  # which may make a letter that no face has: « µ »
        text = upper if all(map(shown, upper)) else text
        titles = wrapped(text, self.bold, 9.4, RIGHT - LEFT - 16)
        lines = [gap(5, keep=True)]
        for title in titles:
            run = Run(LEFT + 8, 11.6, self.bold, 9.4, title, BLUE, RIGHT - LEFT - 16)
            band = Fill(LEFT, 0, RIGHT - LEFT, 16.5, BAND)
            bar = Fill(LEFT, 0, 3, 16.5, BLUE)
            lines.append(Line(16.5, (run,), (band, bar), keep=True))
        return lines

    def _title(self, battery: Battery) -> str:
        """Heading of a battery; "" when its only result says the same."""
        title = battery.code.text or battery.code.code
        only = [line.label for line in battery.observations] == [title]
        if only and not (battery.specimen or battery.comments or battery.parent):
            return ""
        parent = battery.parent
        whole = " — ".join(part for part in (title, parent.text if parent else "") if part)
        return self.scribe.remark(whole)

    def _battery(self, battery: Battery, title: str) -> Iterator[Line]:
        if title:
            yield gap(6, keep=True)
            yield from _heading(title)
        if circumstances := self._circumstances(battery):
            texts = wrapped(circumstances, self.regular, SMALL, FULL.width)
            cell = Cell(FULL, self.regular, SMALL, texts, GREY)
            yield from (line._replace(keep=True) for line in stacked([cell], SMALL_PITCH))
        yield from self._remarks(battery.comments, keep_last=bool(battery.observations))
        for observation in battery.observations:
            yield from self._observation(observation, battery)

    def _circumstances(self, battery: Battery) -> str:
        """Specimen, and the times that differ from the report's own."""
        parts = [self.scribe.remark(battery.specimen)] if battery.specimen else []
        if battery.collected and battery.collected != self.report.collected:
            parts.append(f"prélevé le {battery.collected.french}")
        if battery.received and battery.received != self.report.received:
            parts.append(f"reçu le {battery.received.french}")
        return " · ".join(parts)

    def _observation(self, line: Observation, battery: Battery) -> Iterator[Line]:
        if line.is_title:
            yield gap(3, keep=True)
            label = wrapped(self.scribe.remark(line.label), self.bold, SIZE, RIGHT - LEFT)
            cell = Cell(FULL, self.bold, SIZE, label)
            yield from (row._replace(keep=True) for row in stacked([cell], PITCH))
            if not line.values:
                yield from self._remarks(line.comments)
                return
        yield from kept(self._row(line) + self._below(line, battery))

    def _row(self, line: Observation) -> list[Line]:
        sign, face = self._sign(line), self.bold if line.abnormal else self.regular
        exact = self.scribe.exact
        label = "" if line.is_title else self.scribe.remark(line.label or _code(line))
        value, earlier = exact(_value_text(line)), self._previous(line)
        terms = (label, exact(line.unit), exact(line.reference))
        fits = "\n" not in value and face.width(value, SIZE) <= VALUE.width
        if fits and len(earlier) < 2 and (known := _known_runs(*terms)) is not None:
            return [self._short_row(known, sign, face, value, earlier)]
        cells = [Cell(LABEL, self.regular, SIZE, wrapped(label, self.regular, SIZE, LABEL.width))]
        if fits:
            cells += [Cell(FLAG, self.bold, SIZE, [sign]), Cell(VALUE, face, SIZE, [value])]
        cells += [
            Cell(column, self.regular, SIZE, wrapped(text, self.regular, SIZE, column.width))
            for column, text in zip((UNIT, REFERENCE), terms[1:], strict=True)
        ]
        cells.append(Cell(PREVIOUS, self.regular, SMALL, earlier, GREY))
        if fits:
            return stacked(cells, PITCH, HAIRLINE)
        return self._long_value(cells, value, sign, face, line)

    def _short_row(
        self, known: tuple[Run, ...], sign: str, face: Face, value: str, earlier: Sequence[str]
    ) -> Line:
        """A row of one line: what the laboratory always prints, and today's result."""
        runs = [known[0]]
        if sign:
            runs.append(_run(Cell(FLAG, self.bold, SIZE, (sign,)), sign, PITCH))
        if value:
            runs.append(_run(Cell(VALUE, face, SIZE, (value,)), value, PITCH))
        runs += known[1:]
        if earlier:
            cell = Cell(PREVIOUS, self.regular, SMALL, earlier, GREY)
            runs.append(_run(cell, earlier[0], PITCH))
        return Line(PITCH, tuple(runs), HAIRLINE)

    def _long_value(
        self, cells: list[Cell], value: str, sign: str, face: Face, line: Observation
    ) -> list[Line]:
        """A text: beside the label when the columns are free, else on lines of its own."""
        text = f"{sign} {value}" if sign else value
        if not (line.unit or line.reference or line.previous):
            cells.append(Cell(WIDE, face, SIZE, wrapped(text, face, SIZE, WIDE.width)))
            return stacked(cells, PITCH, HAIRLINE)
        own = Cell(UNDER, face, SIZE, wrapped(text, face, SIZE, UNDER.width))
        first = stacked(cells, PITCH, HAIRLINE)
        return first + stacked([own], PITCH, () if first else HAIRLINE)

    def _sign(self, line: Observation) -> str:
        """The sign of the flags: triangles, a star, or the letter of the antibiogram."""
        for flag in line.flags:
            if flag in ("", "N", "null", "Null"):
                continue
            self.flags.add(flag)
            if flag in SUSCEPTIBILITY:
                value = _value_text(line).strip()
                return "" if value == flag else SUSCEPTIBILITY[flag]
            return SIGNS.get(flag) or "*"
        return ""

    def _exact(self, text: str, column: Column, size: float) -> Sequence[str]:
        return wrapped(self.scribe.exact(text), self.regular, size, column.width)

    def _previous(self, line: Observation) -> Sequence[str]:
        if not line.previous:
            return ()
        texts = []
        for earlier in line.previous:
            unit = earlier.unit if earlier.unit != line.unit else ""
            date = earlier.moment.french_date if earlier.moment else ""
            texts.append("  ".join([part for part in (date, earlier.value, unit) if part]))
        return wrapped(self.scribe.exact("\n".join(texts)), self.regular, SMALL, PREVIOUS.width)

    def _below(self, line: Observation, battery: Battery) -> list[Line]:
        notes = self._notes(line, battery)
        second = self._second(line.second) if line.second else []
        if not notes:
            return second + self._remarks(line.comments)
        if second and self.regular.width(notes, SMALL) <= LABEL.width - 10:
            run = Run(UNDER.x, SMALL_PITCH - 2.9, self.regular, SMALL, notes, GREY, LABEL.width)
            second[0] = second[0]._replace(runs=(run, *second[0].runs))
        else:
            texts = wrapped(notes, self.regular, SMALL, UNDER.width)
            second += stacked([Cell(UNDER, self.regular, SMALL, texts, GREY)], SMALL_PITCH)
        return second + self._remarks(line.comments)

    def _notes(self, line: Observation, battery: Battery) -> str:
        """Method, state and a time of its own, as one text below the label."""
        notes = [self.scribe.remark(line.method)] if line.method else []
        state = STATES.get(line.status, "")
        if state and (line.values or line.status not in _EMPTY):
            notes.append(state)
        if line.moment and line.moment not in (self.report.collected, battery.collected):
            notes.append(f"le {line.moment.french}")
        return " · ".join(notes)

    def _second(self, second: Second) -> list[Line]:
        value = self.scribe.exact(second.value.text)
        small, regular = SMALL, self.regular
        cells = [
            Cell(UNIT, regular, small, self._exact(second.unit, UNIT, small), GREY),
            Cell(REFERENCE, regular, small, self._exact(second.reference, REFERENCE, small), GREY),
        ]
        if "\n" not in value and regular.width(value, small) <= VALUE.width:
            return stacked([Cell(VALUE, regular, small, [value], GREY), *cells], SMALL_PITCH)
        own = Cell(UNDER, regular, small, wrapped(value, regular, small, UNDER.width), GREY)
        return stacked([own], SMALL_PITCH) + stacked(cells, SMALL_PITCH)

    def _remarks(self, comments: Iterable[Comment], *, keep_last: bool = False) -> list[Line]:
        rows: list[Line] = []
        for comment in comments:
            text = self.scribe.remark(comment.text)
            texts = wrapped(text, self.regular, SMALL + 0.3, UNDER.width)
            rows += stacked([Cell(UNDER, self.regular, SMALL + 0.3, texts)], SMALL_PITCH + 0.4)
        if rows and keep_last:
            rows = kept(rows)
            rows[-1] = rows[-1]._replace(keep=True)
        return rows


def _code(line: Observation) -> str:
    return next((code.text or code.code for code in line.codes if code.text or code.code), "")


def _value_text(line: Observation) -> str:
    """The values as printed, one a line; the state when there is none."""
    texts = []
    for value in line.values:
        if isinstance(value, Attachment):
            texts.append(f"voir le document joint {value.title or value.reference}".rstrip())
        else:
            texts.append(value.text)
    if not line.values and line.status in _EMPTY:
        return STATES[line.status]
    return "\n".join(texts)
