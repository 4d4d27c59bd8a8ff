"""The faces of the sheet: Bitstream Vera, cut once into one 8-bit font that every document shares.

Vera ships inside reportlab (free to embed). Every face has the same 256 codes: cp1252, the Latin
letters of Vera beyond it, and the signs that laboratories use. The fixed-pitch face for reports
that come as text is Vera with every advance made equal and every glyph centred in it.
"""

from __future__ import annotations

import codecs
import zlib
from functools import lru_cache
from itertools import groupby
from pathlib import Path

import reportlab
from reportlab.pdfbase.ttfonts import TTFontFile, makeToUnicodeCMap

from formats.pdf._drawn import GLYPHS

_UNDEFINED = "\ufffe"
_LOW_CODES = [code for code in range(1, 32) if code not in (9, 10, 13, 27)]
_LOW_SIGNS = "ĆćČčĎďĐđĞğİıŁłŞşΩπ√∞∂ˇ˘˙˚˛˝"
_HOLES = dict(zip((0x81, 0x8D, 0x8F, 0x90, 0x9D), "≤≥≠≈−", strict=True))


def _codes() -> str:
    codes = [_UNDEFINED] * 256
    for code in range(32, 256):
        if code != 127:
            codes[code] = _HOLES.get(code) or bytes([code]).decode("cp1252")
    for code, sign in zip(_LOW_CODES, _LOW_SIGNS, strict=True):
        codes[code] = sign
    return "".join(codes)


CODES = _codes()
"""The character of each of the 256 codes."""
_ENCODING = codecs.charmap_build(CODES)
_FOLDER = Path(reportlab.__file__).parent / "fonts"
PITCH = 0.82
"""Advance of the fixed-pitch face, in ems: the widest letters just touch their neighbours."""


def encoded(text: str) -> bytes:
    """Return the codes of ``text``. Raises UnicodeEncodeError for a character without one."""
    return codecs.charmap_encode(text, "strict", _ENCODING)[0]


DRAWN = {glyph.char: code for code, glyph in enumerate(GLYPHS, start=1)}
"""Code of each sign of the drawn face."""

DRAWN_WIDTHS = (0, *(glyph.advance for glyph in GLYPHS))


def shown(char: str) -> bool:
    """Return True when some face has ``char``."""
    return char in DRAWN or (char in CODES and char != _UNDEFINED)


def spans(text: str) -> list[tuple[bool, bytes]]:
    """Cut ``text`` where it changes between the drawn face (True) and the face asked for."""
    parts: list[tuple[bool, bytes]] = []
    for drawn, chars in groupby(text, DRAWN.__contains__):
        part = "".join(chars)
        codes = bytes([DRAWN[char] for char in part]) if drawn else encoded(part)
        parts.append((drawn, codes))
    return parts


class Face:
    """One embedded face.

    Attributes:
        name: PostScript name. resource: name in a content stream, ``F1``.
        widths: advance of each code in thousandths of an em.
        program: the TrueType file, deflated; ``program_size`` before deflating.
        to_unicode: the ToUnicode CMap (ISO 32000-1, 9.10.3), deflated.
    """

    def __init__(self, resource: str, file: str, name: str, *, fixed_pitch: bool = False) -> None:
        font = TTFontFile(str(_FOLDER / file))
        if fixed_pitch:
            _equalise(font)
        points = [0x20 if char == _UNDEFINED else ord(char) for char in CODES]
        unit = 1000 / font.unitsPerEm
        self.name = f"DLXAAA+{name}"
        self.resource = resource
        self.widths = tuple(
            round(font.hmetrics[font.charToGlyph.get(point, 0)][0] * unit) for point in points
        )
        self.ascent, self.descent = round(font.ascent), round(font.descent)
        self.cap_height, self.stem = round(font.capHeight), font.stemV
        self.box = tuple(round(edge) for edge in font.bbox)
        program: bytes = font.makeSubset(points)
        self.program_size = len(program)
        self.program = zlib.compress(program, 9)
        self.to_unicode = zlib.compress(makeToUnicodeCMap(self.name, points).encode("ascii"), 9)

    def width(self, text: str, size: float) -> float:
        """Return the width in points of ``text``, every character of which is shown."""
        try:
            codes: bytes = codecs.charmap_encode(text, "strict", _ENCODING)[0]
            total: int = sum(map(self.widths.__getitem__, codes))
            return total * size / 1000
        except UnicodeEncodeError:
            return sum(
                sum((DRAWN_WIDTHS if drawn else self.widths)[code] for code in codes)
                for drawn, codes in spans(text)
            ) * (size / 1000)


def _equalise(font: TTFontFile) -> None:
    """Give every glyph the same advance and centre it (its left bearing moves the outline)."""
    advance = round(PITCH * font.unitsPerEm)
    # A bearing is a signed 16-bit number that reportlab reads and writes as an unsigned one.
    font.hmetrics = [
        (advance, (int(bearing) + (advance - int(width)) // 2) & 0xFFFF)
        for width, bearing in font.hmetrics
    ]


@lru_cache(maxsize=1)
def faces() -> tuple[Face, Face, Face]:
    """Return the regular, bold and fixed-pitch faces, read once."""
    return (
        Face("F1", "Vera.ttf", "DLXSans"),
        Face("F2", "VeraBd.ttf", "DLXSans-Bold"),
        Face("F3", "Vera.ttf", "DLXSansMono", fixed_pitch=True),
    )
