"""Results as OBX segments: the type of OBX-5 and its text."""

from __future__ import annotations

import base64
import re

from dlx.report import (
    Attachment,
    Code,
    Coded,
    DateValue,
    Observation,
    Quantity,
    ReportStatus,
    Text,
    Value,
)
from formats.hl7v2 import escaped
from formats.hl7v2_oru._parts import (
    DOCUMENT,
    code_field,
    components,
    segment,
    time_field,
)

_PLAIN_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)")  # what HL7 calls NM
_CODED_TYPES = ("CE", "CWE", "CNE")
_VALUE_TYPES = frozenset(("NM", "SN", "ED", "RP", "DT", "TM", "TS", "DTM", *_CODED_TYPES))
_DOCUMENT_STATUS = {
    ReportStatus.PARTIAL: "P",
    ReportStatus.FINAL: "F",
    ReportStatus.CORRECTED: "C",
    ReportStatus.CANCELLED: "X",
}


def result_line(
    rank: int, line: Observation, observer: str, status: ReportStatus, version: str
) -> str:
    """One line of a report as an OBX. ``observer``: its OBX-16, as an XCN."""
    kind = _type(line, version)
    fields = (
        "OBX",
        str(rank),
        escaped(kind),
        _what(line),
        escaped(line.sub_id),
        "~".join([_value(v, kind) for v in line.values]),
        code_field(line.unit_code) if line.unit_code else escaped(line.unit),
        escaped(line.reference),
        "~".join([escaped(flag) for flag in line.flags if flag]),
        "",
        "",
        line.status.value or _status(line, status),
        "",
        "",
        time_field(line.moment),
        "",
        observer,
        f"^{escaped(line.method)}" if line.method else "",
    )
    return "|".join(fields).rstrip("|")


def text_line(rank: int, text: str, status: ReportStatus) -> str:
    """The printable report as one FT, for a report that has no other content."""
    fields = {1: str(rank), 2: "FT", 3: code_field(DOCUMENT), 5: escaped(text)}
    return segment("OBX", {**fields, 11: _DOCUMENT_STATUS[status]})


def document_line(rank: int, attachment: Attachment, status: ReportStatus) -> str:
    """A document of the report as an OBX of type ED, or RP when it is only pointed to."""
    kind = "RP" if attachment.reference and not attachment.content else "ED"
    fields = {
        1: str(rank),
        2: kind,
        3: components(DOCUMENT.code, attachment.title or "Compte rendu", DOCUMENT.system),
        5: _document(attachment, kind, title=""),
        11: _DOCUMENT_STATUS[status],
    }
    return segment("OBX", fields)


def _what(line: Observation) -> str:
    """OBX-3: up to two codings; the printed label in CWE-9 when no coding says it."""
    codes = line.codes[:2] or (Code(text=line.label),)
    parts: list[str] = []
    said = ""
    for code in codes:
        parts += (code.code, code.text, code.system)
        said = said or code.text
    said = said or codes[0].code
    if line.label and line.label != said:
        parts = [*parts, *[""] * (8 - len(parts)), line.label]
    return components(*parts)


def _status(line: Observation, status: ReportStatus) -> str:
    """OBX-11 is required: a line without status has that of its report."""
    if line.is_title:
        return "O"
    if status is ReportStatus.CANCELLED:
        return "X"
    if status is ReportStatus.PARTIAL:
        return "P" if line.values else "I"
    return "F"


def _type(line: Observation, version: str) -> str:
    """OBX-2: as it was sent where it suits the values, else what they need."""
    if not line.values:
        return line.value_type
    needed = {_needed(value, line.value_type, version) for value in line.values}
    if len(line.values) == 1:
        return needed.pop()
    if len(needed) > 1:
        if needed == {"NM", "SN"}:
            return "SN"
        return "ST"
    kind = needed.pop()
    return "ST" if kind in ("TX", "FT") else kind  # repetitions of TX and FT are lines of one text


def _needed(value: Value, sent: str, version: str) -> str:
    match value:
        case Quantity(comparator="", separator="", second="", number=number):
            keep = sent in ("NM", "SN")
            return sent if keep else "NM" if _PLAIN_NUMBER.fullmatch(number) else "ST"
        case Quantity():
            return "SN"
        case Text(text=text, formatted=formatted):
            if formatted:
                return "FT"
            if sent in _VALUE_TYPES or sent in ("", "FT", "N", "A", "C"):
                return "TX" if "\n" in text else "ST"
            return sent
        case Coded():
            coded = sent if sent in _CODED_TYPES else "CE"
            return "CE" if version == "2.3.1" else coded
        case DateValue(kind=kind):
            return sent if kind == "TS" and sent == "DTM" else kind
    return "RP" if value.reference and not value.content else "ED"


def _value(value: Value, kind: str) -> str:
    match value:
        case Quantity() if kind == "SN":
            return components(value.comparator, value.number, value.separator, value.second)
        case Text(text=text) if kind == "TX":
            return "~".join(map(escaped, text.split("\n")))
        case Coded(code=code, alternate=alternate) if kind in _CODED_TYPES:
            return code_field(code, alternate) if alternate else code_field(code)
        case Attachment():
            return _document(value, kind, title=value.title)
        case _:
            return escaped(value.text)


def _document(attachment: Attachment, kind: str, *, title: str) -> str:
    main, _, sub = attachment.media_type.partition("/")
    if kind == "RP":
        return components(attachment.reference, title, main, sub)
    data = base64.b64encode(attachment.content).decode()
    return f"{components(title, main, sub, 'Base64')}^{data}"
