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
from typing import TypeAlias

from reportlab.pdfbase import pdfdoc

from formats.pdf._fonts import Cut
from formats.pdf._model import HEIGHT, WIDTH, Fill, Page, Run, Style

TITLE = "Compte rendu de biologie médicale"
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


_Object: TypeAlias = tuple[str, bytes, tuple[str, ...]]
"""Name, bytes and the names that its ``%d`` stand for."""


@lru_cache(maxsize=64)
def _font_objects(cut: Cut) -> tuple[_Object, ...]:
    """The four objects of a simple TrueType font (ISO 32000-1, 9.6.3 and 9.8)."""
    file, unicode, descriptor = (f"{cut.resource}{part}" for part in ("file", "uni", "desc"))
    name, font = cut.name.encode(), cut.source.font
    about = (
        b"<< /Type /FontDescriptor /FontName /%s /Flags 4 /FontBBox [%s] /ItalicAngle 0"
        b" /Ascent %d /Descent %d /CapHeight %d /StemV %d /FontFile2 %%d 0 R >>"
    ) % (
        name,
        " ".join(str(round(edge)) for edge in font.bbox).encode(),
        *map(round, (font.ascent, font.descent, font.capHeight, font.stemV)),
    )
    whole = (
        b"<< /Type /Font /Subtype /TrueType /BaseFont /%s /FirstChar 0 /LastChar 255"
        b" /Widths [%s] /FontDescriptor %%d 0 R /ToUnicode %%d 0 R >>"
    ) % (name, " ".join(map(str, cut.widths)).encode())
    return (
        (file, _stream(cut.program, b" /Length1 %d" % cut.program_size), ()),
        (unicode, _stream(cut.to_unicode), ()),
        (descriptor, about, (file,)),
        (cut.resource, whole, (descriptor, unicode)),
    )


def _escaped(content: bytes) -> bytes:
    if b"(" in content or b")" in content or b"\\" in content:
        for sign, escape in _ESCAPES:
            content = content.replace(sign, escape)
    return content


@lru_cache(maxsize=1024)
def _box(fill: Fill) -> tuple[bytes, float, bytes]:
    """What a rectangle's operator needs: before its y, its y from the top of the line, after."""
    x, y, width, height, _ = fill
    return b"%.2f " % x, y + height, b" %.2f %.2f re" % (width, height)


@lru_cache(maxsize=1024)
def _font(cut: Cut, style: Style) -> bytes:
    return b"/%s %.4g Tf %s" % (cut.resource.encode(), style.size, style.ink.encode())


class _Pen:
    """Writes content streams and remembers the fonts that they need.

    A run is written relative to the top left of its line and moves back there, so the same bytes
    serve wherever the line stands.
    """

    def __init__(self) -> None:
        self.styles: set[Style] = set()
        self.cuts: set[Cut] = set()

    def content(self, page: Page) -> bytes:
        """The content stream of ``page``, deflated."""
        parts = [*self._fills(page), b"BT"]
        current: Style | None = None
        for top, line in page:
            if not line.runs:
                continue
            parts.append(b"1 0 0 1 0 %.2f Tm" % (HEIGHT - top))
            for run in line.runs:
                if run.style is not current:
                    current = run.style
                    self.styles.add(current)
                    parts.append(_font(current.face.main, current))
                parts.append(run.written or self._written(run))
        parts.append(b"ET")
        return zlib.compress(b"\n".join(parts), 1)

    def _fills(self, page: Page) -> list[bytes]:
        parts: list[bytes] = []
        ink = ""
        for top, line in page:
            for fill in line.fills:
                if fill.ink != ink:
                    parts.append(b"f %s" % fill.ink.encode() if ink else fill.ink.encode())
                    ink = fill.ink
                before, down, after = _box(fill)
                parts.append(b"%s%.2f%s" % (before, HEIGHT - top - down, after))
        return [*parts, b"f"] if parts else parts

    def _written(self, run: Run) -> bytes:
        style = run.style
        place, back = b"%.2f %.2f Td" % (run.x, -run.y), b"%.2f %.2f Td" % (-run.x, run.y)
        spans = style.face.spans(run.text)
        if len(spans) == 1 and spans[0][0] is style.face.main:
            run.written = b"%s(%s)Tj %s" % (place, _escaped(spans[0][1]), back)
            return run.written
        # Other cuts: not kept, because the cuts have to be counted on each sheet.
        self.cuts.update(cut for cut, _ in spans)
        shown = b" ".join(b"%s(%s)Tj" % (_font(cut, style), _escaped(c)) for cut, c in spans)
        return b"%s %s %s %s" % (place, shown, _font(style.face.main, style), back)

    def used(self) -> list[Cut]:
        """The cuts to embed, in the order of their names."""
        cuts = self.cuts | {style.face.main for style in self.styles}
        return sorted(cuts, key=lambda cut: cut.resource)


def document(pages: Sequence[Page], *, laboratory: str, created: str = "") -> bytes:
    """Return the PDF of ``pages``.

    Args:
        pages: placed lines, see ``_model.Page``.
        laboratory: author in the document information; never a patient.
        created: a PDF date without its ``D:``, or "".
    """
    pen = _Pen()
    streams = [pen.content(page) for page in pages]
    pdf = pdfdoc.PDFDocument(
        dummyoutline=1, compression=0, invariant=1, pdfVersion=_PDF_VERSION, lang="fr-FR"
    )
    _add_fonts(pdf, pen.used())
    pdf.Reference(pdf.Pages, "pages")
    for number, stream in enumerate(streams, start=1):
        pdf.Reference(_Frozen(_stream(stream)), f"content{number}")
        pdf.addPage(_Frozen(_PAGE, "pages", "resources", f"content{number}"))
        pdf.updateSignature(hashlib.sha256(stream).digest())
    pdf.info = _Frozen(_information(laboratory, created))
    content: bytes = pdf.format()
    return content


def _add_fonts(pdf: pdfdoc.PDFDocument, cuts: Sequence[Cut]) -> None:
    """Add the fonts that were used, and the resource dictionary that every page shares."""
    for cut in cuts:
        for name, content, named in _font_objects(cut):
            pdf.Reference(_Frozen(content, *named), name)
    names = [cut.resource for cut in cuts]
    entries = b" ".join(b"/%s %%d 0 R" % name.encode() for name in names)
    pdf.Reference(_Frozen(b"<< /Font << %s >> >>" % entries, *names), "resources")


@lru_cache(maxsize=64)
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
