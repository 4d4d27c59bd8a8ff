"""Placed pages to PDF bytes: content streams composed here, in a reportlab document.

The document is made of reportlab's own objects (``reportlab.pdfbase.pdfdoc``), so that forms,
images and drawings of reportlab can join it. What never changes (faces) is encoded once and
copied. Same pages, same bytes: no clock, no random identifier.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Sequence
from functools import lru_cache

from reportlab.pdfbase import pdfdoc
from reportlab.pdfbase.ttfonts import makeToUnicodeCMap

from formats.pdf._drawn import GLYPHS, PEN
from formats.pdf._fonts import DRAWN_WIDTHS, Face, encoded, faces, spans
from formats.pdf._model import HEIGHT, WIDTH, Fill, Page, Run

TITLE = "Compte rendu de biologie médicale"
DRAWN = "F4"
_PDF_VERSION = (1, 5)
_ESCAPES = ((b"\\", b"\\\\"), (b"(", b"\\("), (b")", b"\\)"))


_PAGE = (
    b"<< /Type /Page /Parent %%d 0 R /MediaBox [0 0 %.2f %.2f] /Resources %%d 0 R"
    b" /Contents %%d 0 R >>"
) % (WIDTH, HEIGHT)


class _Frozen(pdfdoc.PDFObject):  # type: ignore[misc]
    """An object whose bytes are known; ``%d`` stand for the numbers of the objects ``named``."""

    def __init__(self, content: bytes, *named: str) -> None:
        self.content = content
        self.named = named

    def format(self, document: pdfdoc.PDFDocument) -> bytes:
        if not self.named:
            return self.content
        numbers = document.idToObjectNumberAndVersion
        return self.content % tuple(numbers[name][0] for name in self.named)


def _stream(deflated: bytes, more: bytes = b"") -> bytes:
    head = b"<< /Filter /FlateDecode /Length %d%s >>\nstream\n" % (len(deflated), more)
    return head + deflated + b"\nendstream"


@lru_cache(maxsize=8)
def _font_objects(face: Face) -> tuple[tuple[str, bytes, tuple[str, ...]], ...]:
    """The five objects of a simple TrueType font (ISO 32000-1, 9.6.3 and 9.8)."""
    own = [f"{face.resource}{part}" for part in ("file", "unicode", "widths", "descriptor", "")]
    name = face.name.encode()
    descriptor = (
        b"<< /Type /FontDescriptor /FontName /%s /Flags 4 /FontBBox [%s] /ItalicAngle 0"
        b" /Ascent %d /Descent %d /CapHeight %d /StemV %d /FontFile2 %%d 0 R >>"
    ) % (
        name,
        " ".join(map(str, face.box)).encode(),
        face.ascent,
        face.descent,
        face.cap_height,
        face.stem,
    )
    font = (
        b"<< /Type /Font /Subtype /TrueType /BaseFont /%s /FirstChar 0 /LastChar 255"
        b" /Widths %%d 0 R /FontDescriptor %%d 0 R /ToUnicode %%d 0 R >>"
    ) % name
    widths = " ".join(map(str, face.widths)).encode()
    return (
        (own[0], _stream(face.program, b" /Length1 %d" % face.program_size), ()),
        (own[1], _stream(face.to_unicode), ()),
        (own[2], b"[%s]" % widths, ()),
        (own[3], descriptor, (own[0],)),
        (own[4], font, (own[2], own[3], own[1])),
    )


@lru_cache(maxsize=256)
def _drawn_objects(codes: frozenset[int]) -> tuple[tuple[str, bytes, tuple[str, ...]], ...]:
    """The objects of the drawn face with the signs ``codes`` (ISO 32000-1, 9.6.5)."""
    procedures = []
    for code in sorted(codes):
        glyph = GLYPHS[code - 1]
        content = f"{glyph.advance} 0 -100 -260 {glyph.advance + 100} 800 d1 {PEN}{glyph.path}"
        stream = b"<< /Length %d >>\nstream\n%s\nendstream" % (len(content), content.encode())
        procedures.append((f"{DRAWN}g{code}", stream, ()))
    points = [0x20, *(ord(glyph.char) for glyph in GLYPHS)]
    unicode = zlib.compress(makeToUnicodeCMap("DLXSigns", points).encode("ascii"), 9)
    font = (
        b"<< /Type /Font /Subtype /Type3 /Name /%s /FontBBox [-100 -260 1000 800]"
        b" /FontMatrix [0.001 0 0 0.001 0 0] /Resources << >> /FirstChar 0 /LastChar %d"
        b" /Widths [%s] /Encoding << /Type /Encoding /Differences [%s] >>"
        b" /ToUnicode %%d 0 R /CharProcs << %s >> >>"
    ) % (
        DRAWN.encode(),
        len(GLYPHS),
        " ".join(map(str, DRAWN_WIDTHS)).encode(),
        b" ".join(b"%d /g%d" % (code, code) for code in sorted(codes)),
        b" ".join(b"/g%d %%d 0 R" % code for code in sorted(codes)),
    )
    owned = tuple(name for name, _, _ in procedures)
    return (
        *procedures,
        (f"{DRAWN}unicode", _stream(unicode), ()),
        (DRAWN, font, (f"{DRAWN}unicode", *owned)),
    )


def _escaped(content: bytes) -> bytes:
    if b"(" in content or b")" in content or b"\\" in content:
        for sign, escape in _ESCAPES:
            content = content.replace(sign, escape)
    return content


@lru_cache(maxsize=8192)
def _number(value: float) -> bytes:
    """A coordinate; the same ones come back on every sheet."""
    return b"%.2f" % value


class _Pen:
    """Writes content streams, repeating neither font nor ink that are already set."""

    def __init__(self) -> None:
        self.used: set[Face] = set()
        self.drawn: set[int] = set()
        self.begin()

    def begin(self) -> None:
        """Start the stream of the next page."""
        self.parts: list[bytes] = []
        self.font: tuple[Face, float] | None = None
        self.ink = ""

    def set_ink(self, ink: str) -> None:
        if ink != self.ink:
            self.ink = ink
            self.parts.append(ink.encode())

    def fill(self, top: float, fill: Fill) -> None:
        self.set_ink(fill.ink)
        x, y, width, height, _ = fill
        box = (_number(x), _number(HEIGHT - top - y - height), _number(width), _number(height))
        self.parts.append(b"%s %s %s %s re f" % box)

    def show(self, top: float, run: Run) -> None:
        x, y, face, size, text, ink, _ = run
        if ink != self.ink:
            self.set_ink(ink)
        if (face, size) != self.font:
            self.font = (face, size)
            self.used.add(face)
            self.parts.append(b"/%s %.4g Tf" % (face.resource.encode(), size))
        place = (_number(x), _number(HEIGHT - top - y))
        try:
            codes = _escaped(encoded(text))
        except UnicodeEncodeError:
            self.parts.append(b"1 0 0 1 %s %s Tm" % place)
            self._show_spans(run)
        else:
            self.parts.append(b"1 0 0 1 %s %s Tm (%s) Tj" % (*place, codes))

    def _show_spans(self, run: Run) -> None:
        for drawn, codes in spans(run.text):
            resource = DRAWN if drawn else run.face.resource
            if drawn:
                self.drawn.update(codes)
            text = _escaped(codes)
            self.parts.append(b"/%s %.4g Tf (%s) Tj" % (resource.encode(), run.size, text))
        self.font = None


def _content(page: Page, pen: _Pen) -> bytes:
    pen.begin()
    for top, line in page:
        for fill in line.fills:
            pen.fill(top, fill)
    pen.parts.append(b"BT")
    for top, line in page:
        for run in line.runs:
            pen.show(top, run)
    pen.parts.append(b"ET")
    return zlib.compress(b"\n".join(pen.parts), 1)


def document(pages: Sequence[Page], *, laboratory: str, created: str = "") -> bytes:
    """Return the PDF of ``pages``.

    Args:
        pages: placed lines, see ``_model.Page``.
        laboratory: author in the document information; never a patient.
        created: a PDF date without its ``D:``, or "".
    """
    pen = _Pen()
    streams = [_content(page, pen) for page in pages]
    pdf = pdfdoc.PDFDocument(
        dummyoutline=1, compression=0, invariant=1, pdfVersion=_PDF_VERSION, lang="fr-FR"
    )
    _add_fonts(pdf, pen)
    pdf.Reference(pdf.Pages, "pages")
    for number, stream in enumerate(streams, start=1):
        pdf.Reference(_Frozen(_stream(stream)), f"content{number}")
        pdf.addPage(_Frozen(_PAGE, "pages", "resources", f"content{number}"))
        pdf.updateSignature(hashlib.sha256(stream).digest())
    pdf.info = _Frozen(_information(laboratory, created))
    content: bytes = pdf.format()
    return content


def _add_fonts(pdf: pdfdoc.PDFDocument, pen: _Pen) -> None:
    """Add the faces that were used, and the resource dictionary that every page shares."""
    used = [face for face in faces() if face in pen.used]
    families = [_font_objects(face) for face in used]
    if pen.drawn:
        families.append(_drawn_objects(frozenset(pen.drawn)))
    for objects in families:
        for name, content, named in objects:
            pdf.Reference(_Frozen(content, *named), name)
    names = [objects[-1][0] for objects in families]
    entries = b" ".join(b"/%s %%d 0 R" % name.encode() for name in names)
    pdf.Reference(_Frozen(b"<< /Font << %s >> >>" % entries, *names), "resources")


def _information(laboratory: str, created: str) -> bytes:
    entries = {"Title": TITLE, "Author": laboratory, "Producer": "DLX", "Creator": "DLX"}
    if created:
        entries["CreationDate"] = f"D:{created}"
    # UTF-16 in hexadecimal: any character, nothing to escape (ISO 32000-1, 7.9.2.2).
    return b"<< %s >>" % b" ".join(
        b"/%s <FEFF%s>" % (name.encode(), text.encode("utf-16-be").hex().upper().encode())
        for name, text in entries.items()
        if text
    )
