"""One OBX of HPRIM Santé as an observation (version 2.4, section 10)."""

from __future__ import annotations

import base64
import binascii
import re

from dlx.errors import ParseError
from dlx.report import (
    Attachment,
    Code,
    Coded,
    Comment,
    DateValue,
    Observation,
    Person,
    Quantity,
    ResultStatus,
    Text,
    Value,
)
from formats.hprim_sante.people import doctor, moment
from formats.hprim_sante.reading import Segment
from formats.hprim_sante.syntax import Syntax, part

_NUMBER = re.compile(r"[+-]?(?:\d+(?:[.,]\d*)?|\.\d+)", re.ASCII)
_COMPARED = re.compile(r"(<=|>=|<|>)\s*([+-]?\d[\d ]*(?:[.,]\d+)?)", re.ASCII)
_EMPTY = ("",) * 17
_STATUS = {
    "": ResultStatus.FINAL,  # 10.12: empty means F
    "F": ResultStatus.FINAL,
    "C": ResultStatus.CORRECTED,
    "R": ResultStatus.UNVERIFIED,  # not technically validated
    "P": ResultStatus.PRELIMINARY,  # not biologically validated
    "I": ResultStatus.PENDING,  # not done yet
    "D": ResultStatus.DELETED,  # withdrawn
    "X": ResultStatus.UNOBTAINABLE,  # will never be done
    "U": ResultStatus.UNCHANGED,  # confirmed
}
_MEDIA = {
    "PDF": "application/pdf",
    "TIF": "image/tiff",
    "TIFF": "image/tiff",
    "JPG": "image/jpeg",
    "JPEG": "image/jpeg",
    "PNG": "image/png",
}


def observation(segment: Segment, syntax: Syntax, comments: tuple[Comment, ...]) -> Observation:
    """Read one OBX. Raises ParseError HS-E09 when a base64 document is damaged."""
    # Padded once, so that field k of the norm is always fields[k - 1]: this is the hot path.
    fields = segment.fields if len(segment.fields) > 16 else [*segment.fields, *_EMPTY]
    test = syntax.components(fields[3])
    kind = syntax.plain(fields[2])
    label = part(test, 2) or part(test, 5)
    values = _values(segment, kind, label, syntax)
    title = kind == "TX" and values == (Text(text="."),)
    unit = syntax.components(fields[6])
    status = fields[11].strip()
    return Observation(
        codes=_codes(test),
        label=label,
        values=() if title else values,
        value_type=kind,
        unit=part(unit, 2) or part(unit, 1),
        unit_code=_unit_code(unit),
        reference=_reference(fields[7], syntax),
        flags=tuple([syntax.plain(flag) for flag in syntax.repeats(fields[8]) if flag]),
        # An unknown word never makes a result look validated.
        status=_STATUS.get(status, ResultStatus.UNVERIFIED),
        sub_id=fields[4].strip() or _group(fields[15], syntax),
        moment=moment(fields[14]) if fields[14] else None,
        validated_by=_validators(fields[16], syntax),
        comments=comments,
        is_title=title,
    )


def _codes(test: list[str]) -> tuple[Code, ...]:
    if len(test) == 3:
        return (Code(code=test[0], text=test[1], system=test[2]),)
    codes = (
        Code(code=part(test, 1), text=part(test, 2), system=part(test, 3)),
        Code(code=part(test, 4), text=part(test, 5), system=part(test, 6)),
    )
    return tuple(code for code in codes if code.code or code.text)


def _unit_code(unit: list[str]) -> Code | None:
    """The unit as a code when it came as code~label."""
    if not part(unit, 2):
        return None
    return Code(code=part(unit, 1), text=part(unit, 2), system=part(unit, 3))


def _reference(field: str, syntax: Syntax) -> str:
    return " ; ".join([syntax.plain(one) for one in syntax.repeats(field)])


def _group(field: str, syntax: Syntax) -> str:
    """10.16.6: the key that ties antibiotics to their germ."""
    return part(syntax.components(field), 6) if field else ""


def _validators(field: str, syntax: Syntax) -> tuple[Person, ...]:
    if not field:
        return ()
    found = [doctor(one, syntax, "validator") for one in syntax.repeats(field)]
    return tuple(person for person in found if person is not None)


def _values(segment: Segment, kind: str, label: str, syntax: Syntax) -> tuple[Value, ...]:
    field = part(segment.fields, 6)
    if kind == "NM" and _NUMBER.fullmatch(field):  # nearly always
        return (Quantity(number=field),)
    repetitions = syntax.repeats(field)
    match kind:
        case "TX":  # the repeater is a line break
            text = "\n".join(syntax.plain_line(line) for line in repetitions)
            return (Text(text=text),) if text else ()
        case "PDF" | "TIF":
            return tuple(_document(one, kind, label, segment.line) for one in repetitions)
        case "FIC":
            return tuple(_file(syntax.components(one), label) for one in repetitions)
        case "CE" | "CK":
            return tuple(_coded(syntax.components(one)) for one in repetitions if one)
        case "DT" | "TM" | "TS":
            plain = (syntax.plain(one) for one in repetitions)
            return tuple(DateValue(text=text, kind=kind) for text in plain if text)
        case _:
            values = (
                _simple(" ".join(syntax.components(one)).strip(), kind) for one in repetitions
            )
            return tuple(value for value in values if value is not None)


def _simple(text: str, kind: str) -> Value | None:
    if not text:
        return None
    if kind == "NM" and _NUMBER.fullmatch(text):
        return Quantity(number=text)
    if found := _COMPARED.fullmatch(text):
        return Quantity(number=found[2], comparator=found[1])
    return Text(text=text)


def _coded(parts: list[str]) -> Coded:
    first = Code(code=part(parts, 1), text=part(parts, 2), system=part(parts, 3))
    second = Code(code=part(parts, 4), text=part(parts, 5), system=part(parts, 6))
    return Coded(code=first, alternate=second if second.code or second.text else None)


def _document(text: str, kind: str, title: str, line: int) -> Attachment:
    """PDF or TIF in base64; blanks that a carrier added are no part of it."""
    try:
        content = base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ParseError(
            "HS-E09", "document joint illisible (base64)", line=line, column=6
        ) from error
    return Attachment(media_type=_MEDIA[kind], content=content, title=title)


def _file(parts: list[str], title: str) -> Attachment:
    """FIC: application~file name~type; the file itself travels beside the message."""
    reference = part(parts, 2) or part(parts, 1)
    suffix = (part(parts, 3) or reference.rpartition(".")[2]).upper()
    return Attachment(media_type=_MEDIA.get(suffix, ""), title=title, reference=reference)
