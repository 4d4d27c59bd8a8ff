"""The faces of the sheet: FiraGO and, for text in columns, Cascadia Mono (SIL OFL, embeddable).

The font files come with the package ``pymupdf-fonts``. PDF's simple fonts have 256 codes, so each
file is cut into several of them: the first holds what French laboratories print every day, the
others the rest of the file in the order of Unicode, and a document embeds those that it uses. A
cut is made once in the life of the process and its bytes are the same in every document.

Digits are the tabular ones, so that columns of numbers align.
"""

from __future__ import annotations

import codecs
import io
import struct
import zlib
from collections.abc import Callable, Iterable
from functools import cached_property, lru_cache
from importlib import import_module

from reportlab.pdfbase.ttfonts import TTFontFile, makeToUnicodeCMap

_UNDEFINED = "\ufffe"
_RARE = 64
"""Characters in a cut that is not the everyday one: a rare letter then costs a document 4 kB."""
# A code below 32 is safe in a PDF string, except tab and the line ends (ISO 32000-1, 7.3.4.2).
_LOW_CODES = [code for code in range(1, 32) if code not in (9, 10, 13)]
_LOW_SIGNS = "▲▼↑↓→≤≥≠≈−⁰⁴⁵⁶⁷⁸⁹⁻₂αβγδκλμΔΩ"
_USUAL = "".join(chr(c) for c in range(32, 127)) + "".join(
    bytes([c]).decode("cp1252") for c in range(128, 256) if c not in (0x81, 0x8D, 0x8F, 0x90, 0x9D)
)
# Latin, Greek, Cyrillic and Georgian with their marks; punctuation, indices, signs and arrows.
# Scripts that join their letters or run from right to left would come out wrong: not shown.
_RANGES = ((0x20, 0x52F), (0x10A0, 0x10FF), (0x1E00, 0x1FFF), (0x2010, 0x2027), (0x2030, 0x205E))
_SIGNS = ((0x2070, 0x2BFF), (0xFB00, 0xFB06))


def _printed(point: int) -> bool:
    if 0x7F <= point < 0xA0 or point == 0xAD:
        return False
    return any(first <= point <= last for first, last in (*_RANGES, *_SIGNS))


class Cut:
    """One embedded 8-bit font.

    Attributes:
        resource: its name in content streams, ``R0``. codes: the character of each code.
        name: PostScript name. widths: advance of each code in thousandths of an em.
        program: the TrueType file, deflated; ``program_size`` before deflating.
        to_unicode: the ToUnicode CMap (ISO 32000-1, 9.10.3), deflated.
    """

    def __init__(self, source: Source, number: int, codes: str) -> None:
        self.resource = f"{source.letter}{number}"
        self.source = source
        self.codes = codes
        tag = f"DLX{source.letter}{chr(65 + number // 26)}{chr(65 + number % 26)}"
        self.name = f"{tag}+{source.name}"
        self.encoding = codecs.charmap_build(codes)

    def encoded(self, text: str) -> bytes:
        """The codes of ``text``. Raises UnicodeEncodeError for a character without one."""
        return codecs.charmap_encode(text, "strict", self.encoding)[0]

    @property
    def widths(self) -> list[int]:
        """See the class; computed when the font is embedded."""
        return [self.source.advances.get(char, 0) for char in self.codes]

    @cached_property
    def _program(self) -> bytes:
        points = [0x20 if char == _UNDEFINED else ord(char) for char in self.codes]
        program: bytes = self.source.font.makeSubset(points)
        return program

    @cached_property
    def program(self) -> bytes:
        """See the class."""
        return zlib.compress(self._program, 9)

    @property
    def program_size(self) -> int:
        """See the class."""
        return len(self._program)

    @cached_property
    def to_unicode(self) -> bytes:
        """See the class."""
        points = [0x20 if char == _UNDEFINED else ord(char) for char in self.codes]
        return zlib.compress(makeToUnicodeCMap(self.name, points).encode("ascii"), 9)


class Source:
    """One font file.

    Attributes:
        letter: first letter of its resources. name: PostScript name. font: reportlab's reader.
        advances: width of each character that may be printed, in thousandths of an em.
        cut_of: the number of the cut that holds each of them.
    """

    def __init__(self, letter: str, module: str, *, pitch_of: Source | None = None) -> None:
        self.letter = letter
        self.font = TTFontFile(io.BytesIO(import_module(f"pymupdf_fonts.{module}").fontbuffer))
        self.name = self.font.name.decode() if isinstance(self.font.name, bytes) else self.font.name
        glyphs: dict[int, int] = self.font.charToGlyph
        _tabulate_digits(self.font)
        if pitch_of:
            _equalise(self.font, pitch_of.advances["0"])
        unit = 1000 / self.font.unitsPerEm
        self.advances: dict[str, int] = {
            chr(point): round(self.font.hmetrics[glyph][0] * unit)
            for point, glyph in glyphs.items()
            if _printed(point)
        }
        self.cut_of: dict[str, int] = {}
        self._codes = self._shares()

    def _shares(self) -> list[str]:
        """The characters of every cut, in the order of their codes."""
        usual = [_UNDEFINED] * 256
        for code, char in zip(_LOW_CODES, _LOW_SIGNS, strict=True):
            usual[code] = char
        for char in _USUAL:
            usual[char.encode("cp1252")[0]] = char
        shares = ["".join(c if c in self.advances else _UNDEFINED for c in usual)]
        rest = sorted(set(self.advances) - set(usual))
        room = range(32, 32 + _RARE)
        for start in range(0, len(rest), len(room)):
            codes = [_UNDEFINED] * 256
            for code, char in zip(room, rest[start : start + len(room)], strict=False):
                codes[code] = char
            shares.append("".join(codes))
        for number, share in enumerate(shares):
            self.cut_of |= {char: number for char in share if char != _UNDEFINED}
        return shares

    @cached_property
    def cuts(self) -> tuple[Cut, ...]:
        """Every cut; its bytes are made when it is first embedded."""
        return tuple(Cut(self, number, codes) for number, codes in enumerate(self._codes))

    def cut(self, char: str) -> Cut:
        """The cut that holds ``char``."""
        return self.cuts[self.cut_of[char]]


class Face:
    """What a text is set in: a font file, and another for the characters that it lacks.

    Attributes:
        main: the everyday cut. bold, fixed: True for the bold and for the fixed-pitch face.
    """

    def __init__(
        self, sources: Iterable[Source], *, bold: bool = False, fixed: bool = False
    ) -> None:
        self.sources = tuple(sources)
        self.bold = bold
        self.fixed = fixed
        self.main = self.sources[0].cuts[0]
        self.advances: dict[str, int] = {}
        for source in reversed(self.sources):
            self.advances |= source.advances
        self.advance: Callable[[str], int] = self.advances.__getitem__

    def shows(self, char: str) -> bool:
        """Return True when ``char`` can be printed in this face."""
        return char in self.advances

    def width(self, text: str, size: float) -> float:
        """Return the width in points of ``text``, every character of which is shown."""
        return sum(map(self.advance, text)) * size * 0.001

    def spans(self, text: str) -> list[tuple[Cut, bytes]]:
        """``text`` as codes of the cuts that hold its characters, in as few parts as possible."""
        try:
            return [(self.main, self.main.encoded(text))]
        except UnicodeEncodeError:
            return self._mixed(text)

    def _mixed(self, text: str) -> list[tuple[Cut, bytes]]:
        parts: list[tuple[Cut, bytes]] = []
        for char in text:
            cut = self._cut(char)
            code = cut.encoded(char)
            if parts and parts[-1][0] is cut:
                parts[-1] = (cut, parts[-1][1] + code)
            else:
                parts.append((cut, code))
        return parts

    def _cut(self, char: str) -> Cut:
        return next(source.cut(char) for source in self.sources if char in source.cut_of)


def _tabulate_digits(font: TTFontFile) -> None:
    """Let the digits be the font's tabular ones (``one.tf``), where it has them apart."""
    glyphs = _glyph_names(font.get_table("post"))
    words = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    for digit, word in enumerate(words):
        if glyph := glyphs.get(f"{word}.tf"):
            font.charToGlyph[ord("0") + digit] = glyph


def _glyph_names(post: bytes) -> dict[str, int]:
    """Glyph numbers by name (OpenType, table ``post`` version 2.0); the standard 258 left out."""
    if post[:4] != b"\0\2\0\0":
        return {}
    (count,) = struct.unpack_from(">H", post, 32)
    names: list[str] = []
    at = 34 + 2 * count
    while at < len(post):
        end = at + 1 + post[at]
        names.append(post[at + 1 : end].decode("latin-1"))
        at = end
    numbers = struct.unpack_from(f">{count}H", post, 34)
    return {names[n - 258]: glyph for glyph, n in enumerate(numbers) if n >= 258}


def _equalise(font: TTFontFile, advance: int) -> None:
    """Give every glyph the same advance and centre it (its left bearing moves the outline)."""
    width = round(advance * font.unitsPerEm / 1000)
    # A bearing is a signed 16-bit number that reportlab reads and writes as an unsigned one.
    font.hmetrics = [
        (width, (int(bearing) + (width - int(own)) // 2) & 0xFFFF) for own, bearing in font.hmetrics
    ]


@lru_cache(maxsize=1)
def faces() -> tuple[Face, Face, Face]:
    """Return the regular, bold and fixed-pitch faces, read once."""
    mono = Source("M", "CascadiaMono_Regular")
    regular = Source("R", "FiraGO_Regular")
    bold = Source("B", "FiraGO_Bold")
    fitted = Source("E", "FiraGO_Regular", pitch_of=mono)
    return (
        Face((regular, mono)),
        Face((bold, mono), bold=True),
        Face((mono, fitted), fixed=True),
    )


@lru_cache(maxsize=1)
def _everywhere() -> frozenset[str]:
    return frozenset.intersection(*(frozenset(face.advances) for face in faces()))


def shown(char: str) -> bool:
    """Return True when every face has ``char``."""
    return char in _everywhere()


def usual(text: str) -> bool:
    """Return True when ``text`` needs nothing but the everyday cuts."""
    try:
        faces()[0].main.encoded(text)
    except UnicodeEncodeError:
        return False
    return True
