"""Layout data: runs of text and filled boxes on lines, lines on pages; and how text is wrapped.

Nothing here knows PDF. Lengths are points; x from the left edge of the sheet, y downwards from the
top of the line. A ``Line`` is the unit of pagination: it is never cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from formats.pdf._fonts import Face

WIDTH, HEIGHT = 595.28, 841.89
"""A4 (ISO 216) in points."""
LEFT, RIGHT = 42.0, 553.0
TOP, BOTTOM = 34.0, 36.0
"""Margins of the sheet: first and last x, and what stays white above and below."""

BLACK = "0 g 0 G"
GREY = "0.38 g 0.38 G"
BLUE = "0.09 0.25 0.42 rg 0.09 0.25 0.42 RG"
RED = "0.70 0.08 0.08 rg 0.70 0.08 0.08 RG"
RULE = "0.72 g"
HAIR = "0.88 g"
BAND = "0.925 0.94 0.96 rg"
ALARM = "0.99 0.93 0.90 rg"


class Run(NamedTuple):
    """One text in one face; ``y`` is its baseline; ``limit`` the width that it may take."""

    x: float
    y: float
    face: Face
    size: float
    text: str
    ink: str
    limit: float


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


def gap(height: float, *, keep: bool = False) -> Line:
    """An empty line."""
    return Line(height, keep=keep)


def wrapped(text: str, face: Face, size: float, width: float) -> list[str]:
    """Cut ``text`` at its line ends, then at blanks, then inside words, to fit ``width``."""
    if "\n" not in text and face.width(text, size) <= width:
        return [text]
    lines: list[str] = []
    for paragraph in text.split("\n"):
        lines += _wrapped_paragraph(paragraph, face, size, width)
    return lines


def _wrapped_paragraph(text: str, face: Face, size: float, width: float) -> list[str]:
    lines: list[str] = []
    current = ""
    for word in text.split(" "):
        longer = f"{current} {word}" if current else word
        if face.width(longer, size) <= width:
            current = longer
            continue
        if current:
            lines.append(current)
        *full, current = _pieces(word, face, size, width)
        lines += full
    return [*lines, current]


def _pieces(word: str, face: Face, size: float, width: float) -> list[str]:
    """Cut one word where it no longer fits; at least one character a piece."""
    pieces: list[str] = []
    start, used = 0, 0.0
    for index, char in enumerate(word):
        advance = face.width(char, size)
        if used + advance > width and index > start:
            end = _after_sign(word, start, index)
            pieces.append(word[start:end])
            start, used = end, face.width(word[end:index], size)
        used += advance
    return [*pieces, word[start:]]


def _after_sign(word: str, start: int, end: int) -> int:
    """The best place to cut ``word[start:end]``: after its last hyphen or slash, else its end."""
    best = max(word.rfind("-", start, end), word.rfind("/", start, end)) + 1
    return best if best > start + 1 else end
