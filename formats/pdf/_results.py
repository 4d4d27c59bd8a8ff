"""Batteries and their results as lines of a table: chapters, headings, rows, remarks below."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

from dlx.moment import Moment
from dlx.report import (
    Attachment,
    Battery,
    Comment,
    Observation,
    Report,
    ResultStatus,
    Second,
)
from formats.pdf._model import (
    BAND,
    BLUE,
    GREY,
    HAIR,
    LEFT,
    RIGHT,
    RULE,
    Cell,
    Column,
    Fill,
    Flowing,
    Line,
    Run,
    Style,
    bound,
    gap,
    kept,
    run_in,
    stacked,
    style,
    wrapped,
)
from formats.pdf._text import Scribe
from formats.pdf._words import EMPTY, SECTIONS, SIGNS, STATES, SUSCEPTIBILITY

LABEL = Column(LEFT, 176)
FLAG = Column(220, 22, right=True)
VALUE = Column(246, 46, right=True)
WORD = Column(220, 72, right=True)
"""A value in words, where there is no sign beside it."""
UNIT = Column(298, 50)
REFERENCE = Column(354, 82)
PREVIOUS = Column(442, RIGHT - 442)
WIDE = Column(FLAG.x + 8, RIGHT - FLAG.x - 8)
FULL = Column(LEFT, RIGHT - LEFT)
UNDER = Column(LEFT + 10, RIGHT - LEFT - 10)

HAIRLINE = (Fill(LEFT, 0, RIGHT - LEFT, 0.35, HAIR),)
SIZE, SMALL, NOTE = 8.8, 7.4, 7.8
PITCH, SMALL_PITCH, NOTE_PITCH = 12.2, 9.6, 10.2


_NUMBER = re.compile(r"(?:[<>]=? )?[0-9.,]{1,6}").fullmatch
"""A number that fits its column."""
_STRIKING = (ResultStatus.CORRECTED, ResultStatus.WRONG, ResultStatus.DELETED)
"""States that a reader of an earlier sheet must not miss."""
_PLAIN = (ResultStatus.FINAL, ResultStatus.UNSTATED)
"""States of which nothing is said."""


class _Styles(NamedTuple):
    """The styles of the table."""

    text: Style
    bold: Style
    small: Style
    warning: Style
    note: Style


@lru_cache(maxsize=1)
def _styles() -> _Styles:
    return _Styles(
        style("regular", SIZE),
        style("bold", SIZE),
        style("regular", SMALL, GREY),
        style("bold", SMALL),
        style("regular", NOTE),
    )


class _Terms(NamedTuple):
    """What a row says for every patient, ready to be placed.

    Attributes:
        label, others: the runs of a row of one line; no label when one of the texts needs more.
        cells: label, unit and reference for a row of several lines.
        unknown: characters that no face has.
    """

    label: tuple[Run, ...]
    others: tuple[Run, ...]
    cells: tuple[Cell, ...]
    unknown: frozenset[str]


@lru_cache(maxsize=1024)
def _second_terms(unit: str, reference: str) -> tuple[tuple[Cell, ...], tuple[Run, ...] | None]:
    """Unit and reference of a second value: cells, and runs when each has one line."""
    small, exact = _styles().small, Scribe().exact
    cells = tuple(
        Cell(column, small, wrapped(exact(text), small, column.width))
        for column, text in ((UNIT, unit), (REFERENCE, reference))
    )
    if any(len(cell.lines) > 1 for cell in cells):
        return cells, None
    runs = [run_in(cell.column, small, cell.lines[0], SMALL_PITCH) for cell in cells]
    return cells, tuple(run for run in runs if run.text)


@lru_cache(maxsize=4096)
def _french_date(digits: str) -> str:
    return Moment(digits).french_date


# Numbers come back on every sheet and name nobody; longer values may be words about a patient.
@lru_cache(maxsize=8192)
def _number_run(style: Style, value: str, pitch: float) -> Run:
    return run_in(VALUE, style, value, pitch)


def _value_run(style: Style, value: str, pitch: float, column: Column = VALUE) -> Run | None:
    """``value`` in its column, or None when it does not fit there."""
    if _NUMBER(value):
        return _number_run(style, value, pitch)
    if "\n" in value or style.width(value) > column.width:
        return None
    return run_in(column, style, value, pitch)


class _Mark(NamedTuple):
    """What the flags of a result do to its row.

    Attributes:
        sign: triangles, a star, the letter of the antibiogram, or "".
        flag: the flag that decided. style: of the value.
    """

    sign: str
    flag: str
    style: Style


@lru_cache(maxsize=1024)
def _mark(flags: tuple[str, ...]) -> _Mark:
    styles = _styles()
    abnormal = Observation(flags=flags).abnormal
    flag = next((flag for flag in flags if flag not in ("", "N", "null", "Null")), "")
    sign = (SUSCEPTIBILITY.get(flag) or SIGNS.get(flag) or "*") if flag else ""
    return _Mark(sign, flag, styles.bold if abnormal else styles.text)


# Labels, units and references are the laboratory's vocabulary, not a patient's: they are kept.
@lru_cache(maxsize=4096)
def _terms(label: str, unit: str, reference: str) -> _Terms:
    text, scribe = _styles().text, Scribe()
    texts = (scribe.remark(label), scribe.exact(unit), scribe.exact(reference))
    cells = tuple(
        Cell(column, text, wrapped(words, text, column.width))
        for column, words in zip((LABEL, UNIT, REFERENCE), texts, strict=True)
    )
    unknown = frozenset(scribe.unknown)
    if any(len(cell.lines) > 1 for cell in cells):
        return _Terms((), (), cells, unknown)
    runs = [run_in(cell.column, text, cell.lines[0], PITCH) for cell in cells]
    return _Terms((runs[0],), tuple(run for run in runs[1:] if run.text), cells, unknown)


@lru_cache(maxsize=1024)
def _heading(title: str, more: str = "") -> tuple[Line, ...]:
    """A battery's name as kept lines."""
    bold = style("bold", 9.2, BLUE)
    return tuple(bound(stacked([Cell(FULL, bold, wrapped(title + more, bold, FULL.width))], 13)))


@lru_cache(maxsize=256)
def _chapter(title: str) -> tuple[Line, ...]:
    """A chapter's name in a band, as kept lines."""
    bold = style("bold", 9.6, BLUE)
    width = RIGHT - LEFT - 16
    fills = (Fill(LEFT, 0, RIGHT - LEFT, 16.5, BAND), Fill(LEFT, 0, 3, 16.5, BLUE))
    texts = wrapped(title, bold, width)
    runs = [Run(LEFT + 9, 11.7, bold, text, width) for text in texts]
    return (gap(6, keep=True), *(Line(16.5, (run,), fills, True) for run in runs))


@lru_cache(maxsize=256)
def _small_print(text: str) -> tuple[Line, ...]:
    """Specimen, times or notes of a battery, as kept lines."""
    small = _styles().small
    return tuple(bound(stacked([Cell(FULL, small, wrapped(text, small, FULL.width))], SMALL_PITCH)))


@lru_cache(maxsize=1)
def _column_heads() -> Line:
    small = style("regular", 7, GREY)
    heads = (
        (LABEL, "Analyse"),
        (VALUE, "Résultat"),
        (UNIT, "Unité"),
        (REFERENCE, "Valeurs de référence"),
        (PREVIOUS, "Antériorités"),
    )
    rule = Fill(LEFT, 11.6, RIGHT - LEFT, 0.5, RULE)
    (line,) = stacked([Cell(column, small, [text]) for column, text in heads], 11)
    return Line(15, line.runs, (rule,), True)


class Results:
    """Writes the batteries of one report.

    Attributes:
        flags: those that were met, for the legend.
    """

    def __init__(self, report: Report, scribe: Scribe) -> None:
        self.report = report
        self.scribe = scribe
        self.styles = _styles()
        self.flags: set[str] = set()

    def lines(self) -> list[Flowing]:
        """Every line of the table, with what to repeat above it on top of a new page."""
        head = _column_heads()
        flowing: list[Flowing] = [(head, ())] if self.report.batteries else []
        section = None
        for battery in self.report.batteries:
            if battery.section != section:
                section = battery.section
                if section:
                    flowing += [(line, (head,)) for line in self._chapter(section)]
            title = self._title(battery)
            if title:
                flowing += [(line, (head,)) for line in (gap(6, keep=True), *_heading(title))]
            above = (head, *_heading(title, " (suite)")[:2]) if title else (head,)
            flowing += [(line, above) for line in self._battery(battery)]
        return flowing

    def _chapter(self, section: str) -> Sequence[Line]:
        name = self.scribe.remark(SECTIONS.get(section, section))
        return _chapter(self.scribe.remark(name.upper()))

    def _title(self, battery: Battery) -> str:
        """Heading of a battery; "" when its only result says the same."""
        title = battery.code.text or battery.code.code
        lines = battery.observations
        alone = len(lines) == 1 and lines[0].label == title
        if alone and not (battery.specimen or battery.comments or battery.parent):
            return ""
        parent = battery.parent
        whole = " — ".join(part for part in (title, parent.text if parent else "") if part)
        return self.scribe.remark(whole)

    def _battery(self, battery: Battery) -> list[Line]:
        lines: list[Line] = []
        if circumstances := self._circumstances(battery):
            lines += _small_print(circumstances)
        lines += self._remarks(battery.comments, keep_last=bool(battery.observations))
        for observation in battery.observations:
            lines += self._observation(observation, battery)
        return lines

    def _circumstances(self, battery: Battery) -> str:
        """Specimen, and the times that differ from the report's own."""
        parts = [self.scribe.remark(battery.specimen)] if battery.specimen else []
        if battery.collected and battery.collected != self.report.collected:
            parts.append(f"prélevé le {battery.collected.french}")
        if battery.received and battery.received != self.report.received:
            parts.append(f"reçu le {battery.received.french}")
        return " · ".join(parts)

    def _observation(self, line: Observation, battery: Battery) -> list[Line]:
        if not line.is_title:
            return kept(self._row(line, line.label or _code(line)) + self._below(line, battery))
        bold = self.styles.bold
        texts = wrapped(self.scribe.remark(line.label), bold, FULL.width)
        title = [gap(3, keep=True), *bound(stacked([Cell(FULL, bold, texts)], PITCH))]
        if not line.values:
            return title + self._remarks(line.comments)
        return title + kept(self._row(line, "") + self._below(line, battery))

    def _row(self, line: Observation, label: str) -> list[Line]:
        styles = self.styles
        sign, value_style = self._marked(line) if line.flags else ("", styles.text)
        value = _value_text(line)
        if _NUMBER(value):
            run: Run | None = _number_run(value_style, value, PITCH)
        else:
            value = self.scribe.exact(value)
            run = _value_run(value_style, value, PITCH, VALUE if sign else WORD)
        earlier = self._previous(line) if line.previous else ()
        terms = _terms(label, line.unit, line.reference)
        if terms.unknown:
            self.scribe.unknown |= terms.unknown
        if run and terms.label and len(earlier) < 2:
            runs = list(terms.label)
            if sign:
                runs.append(run_in(FLAG, styles.bold, sign, PITCH))
            if value:
                runs.append(run)
            runs += terms.others
            if earlier:
                runs.append(run_in(PREVIOUS, styles.small, earlier[0], PITCH))
            return [Line(PITCH, tuple(runs), HAIRLINE)]
        label_cell, *others = terms.cells
        cells = [label_cell]
        if run:
            column = VALUE if sign else WORD
            cells += [Cell(FLAG, styles.bold, [sign]), Cell(column, value_style, [value])]
        cells += [*others, Cell(PREVIOUS, styles.small, earlier)]
        if run:
            return stacked(cells, PITCH, HAIRLINE)
        return self._long_value(cells, f"{sign} {value}" if sign else value, value_style, line)

    def _long_value(
        self, cells: list[Cell], text: str, bold: Style, line: Observation
    ) -> list[Line]:
        """A text: beside the label when the columns are free, else on lines of its own."""
        if not (line.unit or line.reference or line.previous):
            cells.append(Cell(WIDE, bold, wrapped(text, bold, WIDE.width)))
            return stacked(cells, PITCH, HAIRLINE)
        own = Cell(UNDER, bold, wrapped(text, bold, UNDER.width))
        return stacked(cells, PITCH, HAIRLINE) + stacked([own], PITCH)

    def _marked(self, line: Observation) -> tuple[str, Style]:
        """Sign and style of the value; an antibiogram's letter is not said twice."""
        sign, flag, value_style = _mark(line.flags)
        if flag:
            self.flags.add(flag)
        if flag in SUSCEPTIBILITY and _value_text(line).strip() == flag:
            return "", value_style
        return sign, value_style

    def _previous(self, line: Observation) -> Sequence[str]:
        texts = []
        for earlier in line.previous:
            unit = earlier.unit if earlier.unit != line.unit else ""
            date = _french_date(earlier.moment.digits) if earlier.moment else ""
            texts.append("  ".join([part for part in (date, earlier.value, unit) if part]))
        text = texts[0] if len(texts) == 1 else "\n".join(texts)
        return wrapped(self.scribe.exact(text), self.styles.small, PREVIOUS.width)

    def _below(self, line: Observation, battery: Battery) -> list[Line]:
        second = self._second(line.second) if line.second else []
        small = self.styles.warning if line.status in _STRIKING else self.styles.small
        known = line.moment in (battery.collected, self.report.collected, None)
        plain = known and not line.method and line.status in _PLAIN
        if not plain and (notes := self._notes(line, battery)):
            if second and small.width(notes) <= LABEL.width - 10:
                run = Run(UNDER.x, SMALL_PITCH - 2.9, small, notes, LABEL.width)
                second[0] = second[0]._replace(runs=(run, *second[0].runs))
            else:
                texts = wrapped(notes, small, UNDER.width)
                second += stacked([Cell(UNDER, small, texts)], SMALL_PITCH)
        return second + self._remarks(line.comments) if line.comments else second

    def _notes(self, line: Observation, battery: Battery) -> str:
        """Method, state and a time of its own, as one text below the label."""
        notes = [self.scribe.remark(line.method)] if line.method else []
        state = STATES.get(line.status, "")
        if state and (line.values or line.status not in EMPTY):
            notes.append(state)
        if line.moment and line.moment not in (self.report.collected, battery.collected):
            notes.append(f"le {line.moment.french}")
        return " · ".join(notes)

    def _second(self, second: Second) -> list[Line]:
        value = self.scribe.exact(second.value.text)
        small = self.styles.small
        cells, runs = _second_terms(second.unit, second.reference)
        run = _value_run(small, value, SMALL_PITCH)
        if run and runs is not None:
            return [Line(SMALL_PITCH, (run, *runs) if value else runs)]
        if run:
            return stacked([Cell(VALUE, small, [value]), *cells], SMALL_PITCH)
        own = Cell(UNDER, small, wrapped(value, small, UNDER.width))
        return stacked([own], SMALL_PITCH) + stacked(cells, SMALL_PITCH)

    def _remarks(self, comments: Iterable[Comment], *, keep_last: bool = False) -> list[Line]:
        rows: list[Line] = []
        for comment in comments:
            note = self.styles.note
            texts = wrapped(self.scribe.remark(comment.text), note, UNDER.width)
            rows += stacked([Cell(UNDER, note, texts)], NOTE_PITCH)
        if rows and keep_last:
            rows = kept(rows)
            rows[-1:] = bound(rows[-1:])
        return rows


def _code(line: Observation) -> str:
    return next((code.text or code.code for code in line.codes if code.text or code.code), "")


def _value_text(line: Observation) -> str:
    """The values as printed, one a line; the state when there is none."""
    if len(line.values) == 1 and not isinstance(line.values[0], Attachment):
        return line.values[0].text
    texts = []
    for value in line.values:
        if isinstance(value, Attachment):
            texts.append(f"voir le document joint {value.title or value.reference}".rstrip())
        else:
            texts.append(value.text)
    if not line.values and line.status in EMPTY:
        return STATES[line.status]
    return "\n".join(texts)
