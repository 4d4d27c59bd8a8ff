"""Placed pages to PDF bytes: content streams composed here, behind a head made by reportlab.

reportlab writes what never changes (header, faces, catalog) once for each set of fonts; the pages
of a report, its information and the cross-reference table are added here. Same pages, same bytes:
no clock, no random identifier.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple, TypeAlias

from reportlab.pdfbase import pdfdoc

from formats.pdf._fonts import Cut
from formats.pdf._model import HEIGHT, WIDTH, Fill, Page, Run, Style

TITLE = "Compte rendu de biologie médicale"
_PDF_VERSION = (1, 5)
_ENTRY = b"%010d 00000 n \n"
_SPECIAL = re.compile(rb"[()\\]").search
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
    if _SPECIAL(content):
        for sign, escape in _ESCAPES:
            content = content.replace(sign, escape)
    return content


@lru_cache(maxsize=1024)
def _box(fill: Fill) -> tuple[bytes, float, bytes]:
    """What a rectangle's operator needs: before its y, its y from the top of the line, after."""
    x, y, width, height, _ = fill
    return b"%s " % _number(x), y + height, b" %s %s re" % (_number(width), _number(height))


@lru_cache(maxsize=1024)
def _font(cut: Cut, style: Style) -> bytes:
    return b"/%s %.4g Tf %s" % (cut.resource.encode(), style.size, style.ink.encode())


def _number(value: float) -> bytes:
    """A coordinate to a hundredth of a point, in as few characters as possible."""
    return b"%g" % round(value, 2)


@lru_cache(maxsize=256)
def _down(height: float) -> bytes:
    return b"0 %s Td" % _number(-height)


@lru_cache(maxsize=8192)
def _around(x: float, y: float) -> tuple[bytes, bytes]:
    """What goes before and after the codes of a run: from the top left of its line, and back.

    Columns and tabular digits make the same places come back on every sheet.
    """
    there = b"%s %s Td(" % (_number(x), _number(-y))
    return there, b")Tj %s %s Td" % (_number(-x), _number(y))


def _chosen(style: Style) -> bytes:
    style.written = _font(style.face.main, style)
    return style.written


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
        height = 0.0
        bottom = -1.0
        for top, line in page:
            # From line to line by the height of the last one; afresh where that is not enough.
            at_bottom = top == bottom
            parts.append(_down(height) if at_bottom else b"1 0 0 1 0 %.2f Tm" % (HEIGHT - top))
            height = line.height
            bottom = top + height
            for run in line.runs:
                style = run.style
                if style is not current:
                    current = style
                    self.styles.add(style)
                    parts.append(style.written or _chosen(style))
                parts.append(run.written or self._written(run))
        parts.append(b"ET")
        return zlib.compress(b"\n".join(parts), 1)

    def _fills(self, page: Page) -> list[bytes]:
        parts: list[bytes] = []
        last: Fill | None = None
        before, down, after = b"", 0.0, b""
        for top, line in page:
            for fill in line.fills:
                if fill is not last:  # most are the hairline above a row
                    if last is None or fill.ink != last.ink:
                        parts.append(b"%s%s" % (b"f " if last else b"", fill.ink.encode()))
                    before, down, after = _box(fill)
                    last = fill
                parts.append(b"%s%.2f%s" % (before, HEIGHT - top - down, after))
        return [*parts, b"f"] if parts else parts

    def _written(self, run: Run) -> bytes:
        main = run.style.face.main
        before, after = _around(run.x, run.y)
        # The codes of ASCII are its own in every everyday cut.
        spans = (
            [(main, run.text.encode("ascii"))]
            if run.text.isascii()
            else run.style.face.spans(run.text)
        )
        if len(spans) == 1 and spans[0][0] is main:
            run.written = before + _escaped(spans[0][1]) + after
            return run.written
        # Other cuts: not kept, because the cuts have to be counted on each sheet.
        self.cuts.update(cut for cut, _ in spans)
        parts = [before[:-1]]  # the strings follow each after its font
        parts += [b"%s(%s)Tj" % (_font(cut, run.style), _escaped(codes)) for cut, codes in spans]
        return b" ".join([*parts, _font(main, run.style), after[len(b")Tj ") :]])

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
    static = _static(tuple(pen.used()))
    info = _information(laboratory, created)
    # The objects that differ: information, page tree, then each page and its content.
    first = static.objects + 3
    kids = b" ".join(b"%d 0 R" % (first + 2 * k) for k in range(len(streams)))
    objects = [info, b"<< /Type /Pages /Count %d /Kids [%s] >>" % (len(streams), kids)]
    for number, stream in enumerate(streams, start=1):
        content = first + 2 * number - 1
        objects += [_PAGE % (static.objects + 2, static.resources, content), _stream(stream)]
    return _file(static, objects, hashlib.sha256(b"".join([info, *streams])).hexdigest()[:32])


class _Static(NamedTuple):
    """The head of a file: what is the same in every document with the same fonts.

    Attributes:
        content: header and objects. table: their lines of the cross-reference table.
        objects: how many. resources, catalog: numbers of these two.
    """

    content: bytes
    table: bytes
    objects: int
    resources: int
    catalog: int


@lru_cache(maxsize=64)
def _static(cuts: tuple[Cut, ...]) -> _Static:
    """Let reportlab write a document without pages, and keep what comes before its information."""
    pdf = pdfdoc.PDFDocument(
        dummyoutline=1, compression=0, invariant=1, pdfVersion=_PDF_VERSION, lang="fr-FR"
    )
    for cut in cuts:
        for name, content, named in _font_objects(cut):
            pdf.Reference(_Frozen(content, *named), name)
    entries = b" ".join(b"/%s %%d 0 R" % cut.resource.encode() for cut in cuts)
    resources = _Frozen(b"<< /Font << %s >> >>" % entries, *(cut.resource for cut in cuts))
    pdf.Reference(resources, "resources")
    pdf.Reference(pdf.Outlines, "outlines")
    # reportlab numbers objects as they are met: catalog, information, page tree.
    pdf.Reference(pdf.Catalog, "catalog")
    pdf.Reference(pdf.info, "information")
    pdf.Reference(pdf.Pages, "pages")
    whole: bytes = pdf.format()
    numbers = {name: pair[0] for name, pair in pdf.idToObjectNumberAndVersion.items()}
    objects = numbers["information"] - 1
    offsets = sorted((numbers[name], at) for name, at in pdf.idToOffset.items())[:objects]
    return _Static(
        content=whole[: pdf.idToOffset["information"]],
        table=b"".join(_ENTRY % at for _, at in offsets),
        objects=objects,
        resources=numbers["resources"],
        catalog=numbers["catalog"],
    )


def _file(static: _Static, objects: Sequence[bytes], identifier: str) -> bytes:
    """The static head, the other ``objects``, their table and the trailer (ISO 32000-1, 7.5)."""
    parts = [static.content]
    at = len(static.content)
    table = [static.table]
    for number, content in enumerate(objects, start=static.objects + 1):
        whole = b"%d 0 obj\n%s\nendobj\n" % (number, content)
        table.append(_ENTRY % at)
        parts.append(whole)
        at += len(whole)
    size = static.objects + len(objects) + 1
    trailer = b"<< /Size %d /Root %d 0 R /Info %d 0 R /ID [<%b> <%b>] >>" % (
        size,
        static.catalog,
        static.objects + 1,
        *(identifier.encode(),) * 2,
    )
    parts.append(b"xref\n0 %d\n0000000000 65535 f \n%s" % (size, b"".join(table)))
    parts.append(b"trailer\n%s\nstartxref\n%d\n%%%%EOF\n" % (trailer, at))
    return b"".join(parts)


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
