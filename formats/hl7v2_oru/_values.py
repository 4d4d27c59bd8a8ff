"""OBX-5 by its type (OBX-2): the values of a result, and the documents it may carry."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping

from dlx.errors import ParseError
from dlx.report import Attachment, Code, Coded, DateValue, Quantity, Text, Value
from formats.hl7v2 import NULL, Segment
from formats.hl7v2_oru._fields import Fields

_NUMBER = re.compile(
    r"(<=|>=|<>|<|>)?\s*([+-]?(?:\d[\d \u00a0\u202f]*(?:[.,]\d*)?|[.,]\d+)(?:[eE][+-]?\d+)?)"
)
_BLANKS = re.compile(r"\s+")
_ENCODINGS = ("", "a", "base64", "hex")


class Values:
    """Reads OBX-5. ``line`` is the 1-based number of the segment, for messages.

    An OBX is as ``_groups.Line`` holds it, with at least its 17 first fields.
    """

    def __init__(self, fields: Fields) -> None:
        self._fields = fields
        self._repetition = fields.separators.repetition

    def read(self, obx: Segment, line: int) -> tuple[Value, ...]:
        """The values of one OBX, none when OBX-5 is empty or HL7 null.

        Raises ParseError HL7-E08 when an embedded document cannot be decoded.
        """
        raw, kind = obx[5], obx[2]
        if kind == "NM" and raw.replace(".", "", 1).isdecimal():  # nearly always
            return (Quantity(number=raw),)
        if not raw or raw == NULL:
            return ()
        if kind in ("TX", "FT"):
            return (Text(text=self._fields.lines(raw), formatted=kind == "FT"),)
        if not kind:
            self._fields.odd("HL7-W14", "OBX-2 est vide : valeur lue comme du texte", line, 2)
        read = _READERS.get(kind, Values._text)
        if self._repetition not in raw:
            return (read(self, raw, line),)
        parts = raw.split(self._repetition)
        return tuple(read(self, part, line) for part in parts if part and part != NULL)

    def _number(self, raw: str, line: int) -> Value:
        text = self._fields.text(raw).strip()
        found = _NUMBER.fullmatch(text)
        if found is None:
            self._fields.odd("HL7-W11", "OBX-5 de type NM n'est pas un nombre", line, 5)
            return Text(text=text)
        return Quantity(number=found[2], comparator=found[1] or "")

    def _structured(self, raw: str, line: int) -> Value:
        c = raw.split(self._fields.separators.component)
        part = self._fields.part
        return Quantity(
            comparator=part(c, 1), number=part(c, 2), separator=part(c, 3), second=part(c, 4)
        )

    def _text(self, raw: str, line: int) -> Value:
        # Senders that forget to escape « ^ » and « & » in a text mean these characters.
        return Text(text=self._fields.text(raw))

    def _coded(self, raw: str, line: int) -> Value:
        c = raw.split(self._fields.separators.component)
        part = self._fields.part
        first = Code(code=part(c, 1), text=part(c, 2) or part(c, 9), system=part(c, 3))
        if len(c) < 4:
            return Coded(code=first)
        second = Code(code=part(c, 4), text=part(c, 5), system=part(c, 6))
        return Coded(code=first, alternate=second if second.code or second.text else None)

    def _date(self, raw: str, line: int) -> Value:
        return DateValue(text=self._fields.text(raw), kind="DT")

    def _time(self, raw: str, line: int) -> Value:
        return DateValue(text=self._fields.text(raw), kind="TM")

    def _stamp(self, raw: str, line: int) -> Value:
        return DateValue(text=self._fields.text(raw), kind="TS")

    def _document(self, raw: str, line: int) -> Value:
        """ED: ``source^type^subtype^encoding^data``."""
        c = raw.split(self._fields.separators.component)
        part = self._fields.part
        return Attachment(
            media_type=_media_type(part(c, 2), part(c, 3)),
            content=self._content(part(c, 4).strip().lower(), part(c, 5), line),
            title=part(c, 1),
        )

    def _pointer(self, raw: str, line: int) -> Value:
        """RP: ``pointer^application^type^subtype``."""
        c = raw.split(self._fields.separators.component)
        part = self._fields.part
        return Attachment(
            media_type=_media_type(part(c, 3), part(c, 4)),
            title=part(c, 2),
            reference=part(c, 1),
        )

    def _content(self, encoding: str, data: str, line: int) -> bytes:
        if not data:
            self._fields.odd("HL7-W12", "document joint vide", line, 5)
            return b""
        if encoding not in _ENCODINGS:
            raise ParseError("HL7-E08", "codage du document joint inconnu", line=line, column=5)
        try:
            if encoding == "base64":
                return self._base64(data, line)
            return bytes.fromhex(data) if encoding == "hex" else data.encode()
        except ValueError as error:  # binascii.Error is one
            message = f"document joint illisible : {encoding} invalide ou tronqué"
            raise ParseError("HL7-E08", message, line=line, column=5) from error

    def _base64(self, data: str, line: int) -> bytes:
        compact = _BLANKS.sub("", data)
        missing = -len(compact) % 4
        if missing == 3:
            raise binascii.Error("one character too many")
        if missing:
            self._fields.odd("HL7-W10", "base64 sans son remplissage final « = »", line, 5)
        return base64.b64decode(compact + "=" * missing, validate=True)


_READERS: Mapping[str, Callable[[Values, str, int], Value]] = {
    "NM": Values._number,
    "SN": Values._structured,
    "CE": Values._coded,
    "CWE": Values._coded,
    "CNE": Values._coded,
    "DT": Values._date,
    "TM": Values._time,
    "TS": Values._stamp,
    "DTM": Values._stamp,
    "ED": Values._document,
    "RP": Values._pointer,
}


def _media_type(kind: str, subtype: str) -> str:
    """Tables 0191 and 0291 as a MIME type: ``TEXT^XML`` is ``text/xml``, ``AP^PDF`` a PDF."""
    main, sub = kind.strip().lower(), subtype.strip().lower()
    main = {"ap": "application", "im": "image", "au": "audio", "ft": "text"}.get(main, main)
    return f"{main}/{sub}" if main and sub else main or sub
