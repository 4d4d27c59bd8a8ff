"""HL7 v2 on bytes: envelopes, separators, character sets, segments and escapes.

A small reader and writer of our own, because generic libraries drop segments and cost a hundred
times more (docs/formats/oru.md). It knows the syntax of HL7 v2 chapter 2 and no segment's meaning:

    file     = [FHS] {[BHS] message… [BTS]} [FTS], perhaps in MLLP frames, perhaps with a BOM
    message  = MSH segment, then segments, each ended by CR (LF and CRLF are read too)
    segment  = name|field|field…       field = repetition~repetition
    repetition = component^component   component = subcomponent&subcomponent

A segment is a plain list whose item *n* is the text of field *n*, still escaped (item 0 is the
name; MSH-1 is the separator itself), so that what is not understood is written back unchanged.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TypeAlias

from dlx.contracts import Diagnostic
from dlx.errors import ParseError
from formats.hl7v2._escapes import BREAKS, NULL, STANDARD, Separators, escaped, unescaped

__all__ = [
    "NULL",
    "STANDARD",
    "File",
    "Message",
    "Segment",
    "Separators",
    "escaped",
    "joined",
    "read_message",
    "repetitions",
    "split_file",
    "unescaped",
    "value",
]

Segment: TypeAlias = list[str]


_BOM = codecs.BOM_UTF8
_LINE = re.compile(rb"[^\r\n]*(?:\r\n|\r|\n|\Z)")
_FRAME_START = re.compile(rb"(\A|[\r\n])\x0b")
_FRAME_END = re.compile(rb"(\r\n|\r|\n)?\x1c(\r\n|\r|\n)?")
_INNER = frozenset((b"MSH", b"BTS", b"FTS", b"BHS"))
_NAME = re.compile(r"[A-Z][A-Z0-9]{2}")
_C1 = bytes(range(0x80, 0xA0))

# Table 0211 (character sets) and what French feeds write instead.
_CODECS = {
    "UNICODE UTF-8": "utf-8",
    "UTF-8": "utf-8",
    "UTF8": "utf-8",
    "UNICODE": "utf-8",
    "ASCII": "ascii",
    "": "ascii",
    **{f"8859/{n}": f"iso8859-{n}" for n in (*range(1, 10), 15)},
    "ISO-8859-1": "iso8859-1",
    "ISO-8859-15": "iso8859-15",
    "WINDOWS-1252": "cp1252",
}


@dataclass(slots=True, kw_only=True)
class Message:
    """One message, segment by segment.

    Attributes:
        segments: see the module; an empty line is ``[""]``.
        separators: of this message. codec: Python name of the character set it was decoded with.
        ends: the line end, or one for each segment where they differ.
        terminated: False when the last segment has no end: it may have been cut.
        diagnostics: what was odd in the syntax.
    """

    segments: list[Segment]
    separators: Separators = STANDARD
    codec: str = "utf-8"
    ends: str | tuple[str, ...] = "\r"
    terminated: bool = True
    diagnostics: list[Diagnostic] = field(default_factory=list)

    def encode(self) -> bytes:
        """Write the message; a message just read gives the same bytes again."""
        lines = [joined(segment, self.separators) for segment in self.segments]
        if isinstance(self.ends, str):
            text = self.ends.join(lines) + (self.ends if self.terminated else "")
        else:
            text = "".join(line + end for line, end in zip(lines, self.ends, strict=True))
        return text.encode(self.codec)


def joined(segment: Segment, separators: Separators) -> str:
    """One segment as text, without its end."""
    if segment[0] in _HEADERS and len(segment) > 1:
        return segment[0] + separators.field + separators.field.join(segment[2:])
    return separators.field.join(segment)


_HEADERS = frozenset(("MSH", "BHS", "FHS"))


def value(segment: Segment, number: int) -> str:
    """Field ``number``, still escaped; "" when the segment is shorter."""
    return segment[number] if number < len(segment) else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """The messages of one file, cut apart but not yet read.

    Attributes:
        messages: the bytes of each, from MSH on.
        batch: the file says itself that it holds several (FHS or BHS).
        diagnostics: wrong counts, missing trailers.
    """

    messages: tuple[bytes, ...]
    batch: bool = False
    diagnostics: tuple[Diagnostic, ...] = ()


def split_file(data: bytes) -> File:
    """Take off BOM, MLLP frames and batch envelope (HL7 v2.5.1, 2.10.3).

    Raises ParseError HL7-E01 when there is no MSH, or text before the first one.
    """
    body = data.removeprefix(_BOM)
    if b"\x0b" in body or b"\x1c" in body:
        body = _FRAME_START.sub(rb"\1", _FRAME_END.sub(rb"\r", body)).removeprefix(_BOM)
    body = body.lstrip(b"\r\n")
    if body.startswith(b"MSH") and not _holds_several(body):
        return File(messages=(body,))
    return _split_batch(body)


def _holds_several(body: bytes) -> bool:
    lines = body.replace(b"\n", b"\r").split(b"\r")
    return not _INNER.isdisjoint([line[:3] for line in lines[1:]])


def _split_batch(body: bytes) -> File:
    messages: list[list[bytes]] = []
    counts = _Counts()
    open_message = False
    for number, line in enumerate(_LINE.findall(body), start=1):
        name = line[:3]
        if name == b"MSH":
            messages.append([line])
            counts.message()
            open_message = True
        elif name in (b"FHS", b"BHS", b"BTS", b"FTS"):
            counts.envelope(name, line, number)
            open_message = False
        elif open_message:
            messages[-1].append(line)
        elif line.strip():
            raise ParseError("HL7-E01", "ce n'est pas un message HL7 v2 : MSH attendu", line=number)
    if not messages:
        raise ParseError("HL7-E01", "ce n'est pas un message HL7 v2 : aucun segment MSH")
    return File(
        messages=tuple(b"".join(lines) for lines in messages),
        batch=counts.seen,
        diagnostics=counts.diagnostics(),
    )


class _Counts:
    """What the envelope of a batch announces, against what is there."""

    def __init__(self) -> None:
        self.seen = False
        self._found: list[Diagnostic] = []
        self._open: list[bytes] = []
        self._messages = 0
        self._batches = 0

    def message(self) -> None:
        self._messages += 1

    def envelope(self, name: bytes, line: bytes, number: int) -> None:
        """Take note of one of FHS, BHS, BTS, FTS."""
        self.seen = True
        if name in (b"FHS", b"BHS"):
            self._open.append(name)
            self._batches += name == b"BHS"
            return
        opener = b"BHS" if name == b"BTS" else b"FHS"
        if opener in self._open:
            self._open.remove(opener)
        count = self._messages if name == b"BTS" else self._batches
        announced = re.match(rb"\d+", line[4:])
        if announced and int(announced[0][:9]) != count:
            word = "messages" if name == b"BTS" else "lots"
            text = f"{name.decode()}-1 annonce {int(announced[0][:9])} {word}, {count} présents"
            self._found.append(Diagnostic(code="HL7-W06", message=text, line=number))
        if name == b"BTS":
            self._messages = 0

    def diagnostics(self) -> tuple[Diagnostic, ...]:
        """Every oddity, also an envelope that never closes."""
        for name in self._open:
            text = f"{name.decode()} sans segment de fin : le lot est peut-être incomplet"
            self._found.append(Diagnostic(code="HL7-W07", message=text))
        return tuple(self._found)


def read_message(data: bytes, *, fallback: str = "cp1252") -> Message:
    """Read one message, as cut by ``split_file``.

    Args:
        data: from ``MSH`` to the last byte of the last segment.
        fallback: Python codec of the feed, used (with a diagnostic) where MSH-18 is empty or wrong.

    Raises:
        ParseError: HL7-E01 not a message, HL7-E02 separators, HL7-E03 characters, HL7-E04 a line
            that is not a segment, HL7-E05 MSH too short.
    """
    if not data.startswith(b"MSH") or len(data) < 8:
        raise ParseError("HL7-E01", "ce n'est pas un message HL7 v2 : MSH attendu", line=1)
    if b"\0" in data:
        raise ParseError("HL7-E03", "octets nuls : fichier binaire ou UTF-16", line=1)
    diagnostics: list[Diagnostic] = []
    header = data.split(b"\r", 1)[0].split(b"\n", 1)[0].split(data[3:4])
    declared = header[17].split(header[1][1:2] or b"~")[0] if len(header) > 17 else b""
    text, codec = _decoded(data, declared, fallback, diagnostics)
    separators = _separators(text, diagnostics)
    lines, ends, terminated = _lines(text, diagnostics)
    split = separators.field
    segments = [line.split(split) for line in lines]
    segments[0].insert(1, split)
    _check_names(segments)
    if len(segments[0]) <= 9:
        raise ParseError("HL7-E05", "segment MSH incomplet : MSH-9 absent", line=1, column=9)
    return Message(
        segments=segments,
        separators=separators,
        codec=codec,
        ends=ends,
        terminated=terminated,
        diagnostics=diagnostics,
    )


def _decoded(
    data: bytes, declared: bytes, fallback: str, diagnostics: list[Diagnostic]
) -> tuple[str, str]:
    """The whole message as text, with the codec that fits; each departure leaves a diagnostic."""
    name = declared.decode("ascii", "replace").strip().upper()
    codec = _CODECS.get(name, "")
    if data.isascii():
        return data.decode("ascii"), codec if codec not in ("", "ascii") else fallback
    if not codec:
        diagnostics.append(_charset("HL7-W02", "MSH-18 nomme un jeu de caractères inconnu"))
    utf8 = _fits(data, "utf-8")
    if codec == "utf-8" and utf8 is not None:
        return utf8, "utf-8"
    if utf8 is not None:  # accents written in Latin sets are never well-formed UTF-8
        where = "MSH-18 est vide" if codec == "ascii" else "MSH-18 dit autre chose"
        diagnostics.append(_charset("HL7-W03", f"{where} et les octets sont de l'UTF-8 : lu ainsi"))
        return utf8, "utf-8"
    if codec not in ("", "ascii", "utf-8"):
        own = _fits(data, codec)
        if own is not None and not _has_controls(data, codec):
            return own, codec
    text = _fits(data, fallback)
    if text is None:
        raise ParseError("HL7-E03", f"des octets ne sont ni du jeu déclaré ni du {fallback}")
    said = "MSH-18 est vide" if codec == "ascii" else "les octets démentent MSH-18"
    diagnostics.append(_charset("HL7-W01", f"{said} : lu en {fallback}, le jeu du flux"))
    return text, fallback


def _charset(code: str, message: str) -> Diagnostic:
    return Diagnostic(code=code, message=message, line=1, column=18)


def _fits(data: bytes, codec: str) -> str | None:
    try:
        return data.decode(codec)
    except (UnicodeDecodeError, LookupError):
        return None


def _has_controls(data: bytes, codec: str) -> bool:
    # 0x80-0x9F are controls in every ISO 8859 set: their presence means Windows-1252.
    return codec.startswith("iso8859") and len(data.translate(None, _C1)) != len(data)


def _separators(text: str, diagnostics: list[Diagnostic]) -> Separators:
    split = text[3]
    encoding = text[4 : text.find(split, 4)] if split in text[4:] else ""
    used = split + encoding
    odd = any(c.isalnum() or c in '\r\n\t "' for c in used)
    if odd or not 3 <= len(encoding) <= 5 or len(set(used)) != len(used):
        raise ParseError("HL7-E02", "séparateurs de MSH-1 et MSH-2 inutilisables", line=1, column=2)
    if len(encoding) == 3:
        note = "MSH-2 n'a que trois caractères"
        diagnostics.append(Diagnostic(code="HL7-W04", message=note, line=1, column=2))
        # « ^~& » is what remains of the usual four when a backslash was eaten on the way.
        escape, sub = ("", "&") if encoding[2] == "&" else (encoding[2], "")
        return Separators(split, encoding[0], encoding[1], escape, sub)
    if not used.isascii():
        note = "MSH-2 contient un séparateur hors ASCII"
        diagnostics.append(Diagnostic(code="HL7-W04", message=note, line=1, column=2))
    return Separators(split, *encoding)


def _lines(
    text: str, diagnostics: list[Diagnostic]
) -> tuple[list[str], str | tuple[str, ...], bool]:
    """Lines, their end (or ends), and whether the last one is ended."""
    end = "\r"
    if "\n" in text:
        pairs = text.count("\r\n")
        if "\r" not in text:
            end = "\n"
        elif pairs == text.count("\r") == text.count("\n"):
            end = "\r\n"
        else:
            note = "fins de segment mélangées (CR, LF, CRLF)"
            diagnostics.append(Diagnostic(code="HL7-W05", message=note))
            return _mixed_lines(text)
    lines = text.split(end)
    terminated = lines[-1] == ""
    if terminated:
        lines.pop()
    return lines, end, terminated


def _mixed_lines(text: str) -> tuple[list[str], tuple[str, ...], bool]:
    lines = BREAKS.split(text)
    ends = BREAKS.findall(text)
    terminated = lines[-1] == ""
    if terminated:
        lines.pop()
    else:
        ends.append("")
    return lines, tuple(ends), terminated


@lru_cache(maxsize=256)
def _is_name(name: str) -> bool:
    return _NAME.fullmatch(name) is not None


def _check_names(segments: Sequence[Segment]) -> None:
    others = {segment[0] for segment in segments[1:]}
    if "MSH" not in others and all(map(_is_name, others)):
        return
    for number, segment in enumerate(segments[1:], start=2):
        blank = len(segment) == 1 and not segment[0].strip()  # kept for the way back, not read
        if not blank and not _is_name(segment[0]):
            raise ParseError("HL7-E04", "ligne qui n'est pas un segment HL7", line=number)
        if segment[0] == "MSH":
            raise ParseError("HL7-E04", "second MSH dans un message", line=number)


def repetitions(text: str, separators: Separators) -> Iterator[list[str]]:
    """Every repetition of a field that says something, as its components, still escaped."""
    for repetition in text.split(separators.repetition):
        if repetition and repetition != NULL:
            yield repetition.split(separators.component)
