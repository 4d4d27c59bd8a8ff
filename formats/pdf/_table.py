"""The table's columns, and its parts that come back on every sheet, each made once.

Labels, units, references and headings are the laboratory's vocabulary, and plain numbers name
nobody: they are kept. Nothing else about a patient is.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from dlx.moment import Moment
from dlx.report import Observation, ResultStatus
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
    Line,
    Run,
    Style,
    bound,
    gap,
    run_in,
    stacked,
    style,
    wrapped,
)
from formats.pdf._text import Scribe
from formats.pdf._words import SIGNS, SUSCEPTIBILITY

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


NUMBER = re.compile(r"(?:[<>]=? )?[0-9.,]{1,6}").fullmatch
"""A number that fits its column."""
STRIKING = (ResultStatus.CORRECTED, ResultStatus.WRONG, ResultStatus.DELETED)
"""States that a reader of an earlier sheet must not miss."""
PLAIN = (ResultStatus.FINAL, ResultStatus.UNSTATED)
"""States of which nothing is said."""


class Styles(NamedTuple):
    """The styles of the table."""

    text: Style
    bold: Style
    small: Style
    warning: Style
    note: Style


@lru_cache(maxsize=1)
def styles() -> Styles:
    """The styles of the table."""
    return Styles(
        style("regular", SIZE),
        style("bold", SIZE),
        style("regular", SMALL, GREY),
        style("bold", SMALL),
        style("regular", NOTE),
    )


class Terms(NamedTuple):
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
def second_terms(unit: str, reference: str) -> tuple[tuple[Cell, ...], tuple[Run, ...] | None]:
    """Unit and reference of a second value: cells, and runs when each has one line."""
    small, exact = styles().small, Scribe().exact
    cells = tuple(
        Cell(column, small, wrapped(exact(text), small, column.width))
        for column, text in ((UNIT, unit), (REFERENCE, reference))
    )
    if any(len(cell.lines) > 1 for cell in cells):
        return cells, None
    runs = [run_in(cell.column, small, cell.lines[0], SMALL_PITCH) for cell in cells]
    return cells, tuple(run for run in runs if run.text)


@lru_cache(maxsize=4096)
def french_date(digits: str) -> str:
    """The French form of a moment's digits."""
    return Moment(digits).french_date


# Numbers come back on every sheet and name nobody; longer values may be words about a patient.
@lru_cache(maxsize=8192)
def number_run(style: Style, value: str, pitch: float) -> Run:
    """A number in its column, on a line of ``pitch`` points."""
    return run_in(VALUE, style, value, pitch)


def value_run(style: Style, value: str, pitch: float, column: Column = VALUE) -> Run | None:
    """``value`` in its column, or None when it does not fit there."""
    if NUMBER(value):
        return number_run(style, value, pitch)
    if "\n" in value or style.width(value) > column.width:
        return None
    return run_in(column, style, value, pitch)


class Mark(NamedTuple):
    """What the flags of a result do to its row.

    Attributes:
        sign: triangles, a star, the letter of the antibiogram, or "".
        flag: the flag that decided. style: of the value.
    """

    sign: str
    flag: str
    style: Style


@lru_cache(maxsize=1024)
def mark(flags: tuple[str, ...]) -> Mark:
    """What ``flags`` (HL7 table 0078) do to a row."""
    bold = Observation(flags=flags).abnormal
    flag = next((flag for flag in flags if flag not in ("", "N", "null", "Null")), "")
    sign = (SUSCEPTIBILITY.get(flag) or SIGNS.get(flag) or "*") if flag else ""
    return Mark(sign, flag, styles().bold if bold else styles().text)


# Labels, units and references are the laboratory's vocabulary, not a patient's: they are kept.
@lru_cache(maxsize=4096)
def terms(label: str, unit: str, reference: str) -> Terms:
    """The parts of a row that do not depend on the patient. Raises RenderError as ``Scribe``."""
    text, scribe = styles().text, Scribe()
    texts = (scribe.remark(label), scribe.exact(unit), scribe.exact(reference))
    cells = tuple(
        Cell(column, text, wrapped(words, text, column.width))
        for column, words in zip((LABEL, UNIT, REFERENCE), texts, strict=True)
    )
    unknown = frozenset(scribe.unknown)
    if any(len(cell.lines) > 1 for cell in cells):
        return Terms((), (), cells, unknown)
    runs = [run_in(cell.column, text, cell.lines[0], PITCH) for cell in cells]
    return Terms((runs[0],), tuple(run for run in runs[1:] if run.text), cells, unknown)


@lru_cache(maxsize=1024)
def heading(title: str, more: str = "") -> tuple[Line, ...]:
    """A battery's name as kept lines."""
    bold = style("bold", 9.2, BLUE)
    return tuple(bound(stacked([Cell(FULL, bold, wrapped(title + more, bold, FULL.width))], 13)))


@lru_cache(maxsize=256)
def chapter(title: str) -> tuple[Line, ...]:
    """A chapter's name in a band, as kept lines."""
    bold = style("bold", 9.6, BLUE)
    width = RIGHT - LEFT - 16
    fills = (Fill(LEFT, 0, RIGHT - LEFT, 16.5, BAND), Fill(LEFT, 0, 3, 16.5, BLUE))
    texts = wrapped(title, bold, width)
    runs = [Run(LEFT + 9, 11.7, bold, text, width) for text in texts]
    return (gap(6, keep=True), *(Line(16.5, (run,), fills, True) for run in runs))


@lru_cache(maxsize=256)
def small_print(text: str) -> tuple[Line, ...]:
    """Specimen, times or notes of a battery, as kept lines."""
    small = styles().small
    return tuple(bound(stacked([Cell(FULL, small, wrapped(text, small, FULL.width))], SMALL_PITCH)))


@lru_cache(maxsize=1)
def column_heads() -> Line:
    """The heads of the columns, as a kept line."""
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
