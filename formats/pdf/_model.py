"""Layout data: runs of text and filled boxes on lines, lines on pages; and how text is wrapped.

Nothing here knows PDF. Lengths are points; x from the left edge of the sheet, y downwards from the
top of the line. A ``Line`` is the unit of pagination: it is never cut.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple, TypeAlias

from formats.pdf._fonts import Face, faces

WIDTH, HEIGHT = 595.28, 841.89
"""A4 (ISO 216) in points."""
LEFT, RIGHT = 42.0, 553.0
TOP, BOTTOM = 34.0, 36.0
"""Margins of the sheet: first and last x, and what stays white above and below."""

BLACK = "0 g"
GREY = "0.36 g"
BLUE = "0.09 0.25 0.42 rg"
RED = "0.70 0.08 0.08 rg"
RULE = "0.72 g"
HAIR = "0.86 g"
BAND = "0.925 0.94 0.96 rg"
ALARM = "0.99 0.93 0.90 rg"


class Style:
    """Face, size and ink of a text; one object for each combination, see ``style``."""

    __slots__ = ("advance", "face", "ink", "scale", "size", "written")

    def __init__(self, face: Face, size: float, ink: str) -> None:
        self.face = face
        self.size = size
        self.ink = ink
        self.scale = size * 0.001
        self.advance = face.advance
        self.written = b""  # for _document, as in Run

    def width(self, text: str) -> float:
        """Width in points of ``text``, every character of which is shown."""
        return sum(map(self.advance, text)) * self.scale


@lru_cache(maxsize=1024)
def style(face: str, size: float, ink: str = BLACK) -> Style:
    """The style of ``face`` (``regular``, ``bold`` or ``fixed``)."""
    known = dict(zip(("regular", "bold", "fixed"), faces(), strict=True))
    return Style(known[face], size, ink)


class Run:
    """One text in one style; ``y`` is its baseline, ``limit`` the width that it may take.

    ``written`` is for ``_document``: what it made of the run, since many runs are shared by sheets.
    """

    __slots__ = ("limit", "style", "text", "written", "x", "y")

    def __init__(self, x: float, y: float, style: Style, text: str, limit: float) -> None:
        self.x = x
        self.y = y
        self.style = style
        self.text = text
        self.limit = limit
        self.written = b""

    def lower(self, distance: float) -> Run:
        """The same run further down."""
        return Run(self.x, self.y + distance, self.style, self.text, self.limit)


class Fill(NamedTuple):
    """A filled rectangle, also a rule."""

    x: float
    y: float
    width: float
    height: float
    ink: str


class Line(NamedTuple):
    """One line of the sheet.

    Attributes:
        height: how far the next line is.
        keep: True when no page may end after this line.
    """

    height: float
    runs: tuple[Run, ...] = ()
    fills: tuple[Fill, ...] = ()
    keep: bool = False


Flowing: TypeAlias = tuple[Line, Sequence[Line]]
"""A line, and the lines to repeat above it when it opens a page."""
Page: TypeAlias = list[tuple[float, Line]]
"""Lines with the distance of their tops from the top of the sheet."""


class Column(NamedTuple):
    """Where a column begins and how wide it is; ``right``: set against its end."""

    x: float
    width: float
    right: bool = False


class Cell(NamedTuple):
    """Text lines in a column, all in one style."""

    column: Column
    style: Style
    lines: Sequence[str]


def run_in(column: Column, style: Style, text: str, pitch: float) -> Run:
    """``text`` in ``column``, on a line of ``pitch`` points."""
    x, width, right = column
    return Run(x + width - style.width(text) if right else x, pitch - 2.9, style, text, width)


def stacked(cells: Sequence[Cell], pitch: float, fills: tuple[Fill, ...] = ()) -> list[Line]:
    """One ``Line`` a line of text: the k-th lines of all cells stand side by side.

    ``fills`` go behind the first line.
    """
    lines: list[Line] = []
    for k in range(max([len(cell.lines) for cell in cells])):
        texts = [(cell, cell.lines[k]) for cell in cells if k < len(cell.lines)]
        runs = [run_in(cell.column, cell.style, text, pitch) for cell, text in texts if text]
        lines.append(Line(pitch, tuple(runs), () if k else fills))
    return lines


def gap(height: float, *, keep: bool = False) -> Line:
    """An empty line."""
    return Line(height, (), (), keep)


def bound(lines: Iterable[Line]) -> list[Line]:
    """The lines, none of which a page may end with."""
    return [Line(height, runs, fills, True) for height, runs, fills, _ in lines]


KEPT_LINES = 8
"""A row or remark of up to this many lines stays on one page; a longer one may be continued."""


def kept(lines: list[Line]) -> list[Line]:
    """Keep a short group on one page; of a longer one, the two first and the two last lines."""
    last = len(lines) - 1
    if last < 1:
        return lines
    if last < KEPT_LINES:
        return [*bound(lines[:-1]), lines[-1]]
    ends = (0, last - 1)
    return [Line(ln.height, ln.runs, ln.fills, k in ends) for k, ln in enumerate(lines)]


def wrapped(text: str, style: Style, width: float) -> list[str]:
    """Cut ``text`` at its line ends, then at blanks, then inside words, to fit ``width``."""
    if "\n" not in text and style.width(text) <= width:
        return [text]
    lines: list[str] = []
    for paragraph in text.split("\n"):
        lines += _wrapped_paragraph(paragraph, style, width)
    return lines


def _wrapped_paragraph(text: str, style: Style, width: float) -> list[str]:
    if style.width(text) <= width:
        return [text]
    lines: list[str] = []
    blank = style.width(" ")
    words: list[str] = []
    used = 0.0
    for word in text.split(" "):
        own = style.width(word)
        if words and used + blank + own <= width:
            words.append(word)
            used += blank + own
            continue
        if words:
            lines.append(" ".join(words))
        *full, rest = [word] if own <= width else _pieces(word, style, width)
        lines += full
        words, used = [rest], style.width(rest)
    return [*lines, " ".join(words)]


def _pieces(word: str, style: Style, width: float) -> list[str]:
    """Cut one word where it no longer fits; at least one character a piece."""
    pieces: list[str] = []
    start, used = 0, 0.0
    for index, char in enumerate(word):
        advance = style.width(char)
        if used + advance > width and index > start:
            end = _after_sign(word, start, index)
            pieces.append(word[start:end])
            start, used = end, style.width(word[end:index])
        used += advance
    return [*pieces, word[start:]]


def _after_sign(word: str, start: int, end: int) -> int:
    """The best place to cut ``word[start:end]``: after its last hyphen or slash, else its end."""
    best = max(word.rfind("-", start, end), word.rfind("/", start, end)) + 1
    return best if best > start + 1 else end
