"""The report and its parts: what every format reads into and every rendition is made from.

Texts are as the laboratory wrote them, decoded and unescaped once; nothing is computed, rounded or
translated here. Multi-line texts use "\\n". Everything is frozen; a change is a new object.
"""

from __future__ import annotations

import re
from dataclasses import FrozenInstanceError, dataclass
from decimal import Decimal, InvalidOperation
from enum import Enum
from typing import Any, NoReturn, TypeAlias, TypeVar, dataclass_transform

from dlx.moment import Moment

_T = TypeVar("_T")


@dataclass_transform(kw_only_default=True, frozen_default=True)
def _sealed(cls: type[_T]) -> type[_T]:
    """Make a frozen, keyword-only dataclass that is built in a third of the time.

    A frozen dataclass stores each field through ``object.__setattr__``, the greatest single cost of
    reading a report. Here fields are stored plainly; then the object is closed: its class becomes
    a subclass that differs only in refusing every change with FrozenInstanceError.
    """

    def refuse(self: object, name: str, value: object = None) -> NoReturn:
        raise FrozenInstanceError(f"cannot change field {name!r}")

    def build(closed: type[_T], **fields: Any) -> _T:
        return opened(**fields)  # for dataclasses.replace, which calls the class of the object

    def close(self: _T) -> None:
        self.__class__ = closed

    setattr(cls, "__post_init__", close)  # noqa: B010 - called by the constructor, once all is stored
    opened = dataclass(slots=True, kw_only=True, unsafe_hash=True)(cls)
    names = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__slots__": ()}
    own = {"__new__": build, "__init__": object.__init__, "__setattr__": refuse}
    closed = type(cls.__name__, (opened,), {**names, **own, "__delattr__": refuse})
    return opened


class ReportStatus(Enum):
    """What the laboratory says of the whole version (HL7 table 0123, HPRIM Santé 9.26)."""

    PARTIAL = "partial"
    FINAL = "final"
    CORRECTED = "corrected"
    CANCELLED = "cancelled"


class ResultStatus(Enum):
    """Status of one result; the values are HL7 table 0085 (OBX-11)."""

    FINAL = "F"
    CORRECTED = "C"
    PRELIMINARY = "P"
    PENDING = "I"
    UNVERIFIED = "R"
    PARTIAL = "S"
    DELETED = "D"
    UNOBTAINABLE = "X"
    UNCHANGED = "U"
    WRONG = "W"
    NOT_ASKED = "N"
    ORDER_ONLY = "O"
    UNSTATED = ""

    # Identity is enough, and Enum's own hash is a Python call at each look-up in a table.
    __hash__ = object.__hash__


@_sealed
class Code:
    """One coded term. ``system`` is the table as sent: ``LN`` LOINC, ``L`` local, or ""."""

    code: str = ""
    text: str = ""
    system: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identifier:
    """A number and who gave it: ``type`` as in HL7 table 0203 (PI, INS, RPPS, FINEG…), or ""."""

    value: str
    type: str = ""
    authority: str = ""
    oid: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """A professional or an establishment named in a report, before any profile is known.

    Attributes:
        identifiers: every number given, in order; types RPPS, ADELI, FINESS where known, else "".
        family, given, title: as written; an establishment has its name in ``organisation``.
        role: ``prescriber``, ``copy``, ``addressee``, ``establishment``, ``treating``… or "".
    """

    identifiers: tuple[Identifier, ...] = ()
    family: str = ""
    given: str = ""
    title: str = ""
    organisation: str = ""
    role: str = ""

    @property
    def name(self) -> str:
        """How a person would be addressed: « Dr LEFEVRE-TEST Anne », or the organisation."""
        own = " ".join(part for part in (self.title, self.family, self.given) if part)
        return own or self.organisation


Prescriber: TypeAlias = Person


@_sealed
class Patient:
    """Identity as the laboratory holds it.

    Attributes:
        identifiers: every identifier; the INS has type ``INS`` and its OID.
        birth_name, used_name: family names; given_names: all, separated by blanks as sent.
        first_given: first birth given name when it is stated apart.
        birth_date: may be of reduced precision; None when missing or unreal.
        birth_date_text: what was written, when it is not a date.
        sex: ``M``, ``F``, ``U``… as sent; "" when not stated.
        reliability: ``VALI``, ``PROV``… (PID-32), or "".
    """

    identifiers: tuple[Identifier, ...] = ()
    birth_name: str = ""
    used_name: str = ""
    given_names: str = ""
    first_given: str = ""
    title: str = ""
    birth_date: Moment | None = None
    birth_date_text: str = ""
    sex: str = ""
    address: tuple[str, ...] = ()
    postal_code: str = ""
    city: str = ""
    birth_place: str = ""
    phones: tuple[str, ...] = ()
    nir: str = ""
    nir_key: str = ""
    reliability: str = ""
    died: Moment | None = None

    @property
    def family(self) -> str:
        """The name to print first: used name, else birth name."""
        return self.used_name or self.birth_name

    def identifier(self, kind: str) -> str:
        """Return the first identifier of type ``kind`` (``PI``, ``INS``…), or ""."""
        return next((i.value for i in self.identifiers if i.type == kind), "")


@_sealed
class Quantity:
    """A measured value, exactly as written (HL7 NM and SN).

    Attributes:
        number: ``5.80`` stays ``5.80``; ``1 000`` stays ``1 000``.
        comparator: "", ``<``, ``>``, ``<=``, ``>=``, ``<>``.
        separator, second: for ratios and ranges: ``1``, ``:``, ``128``.
    """

    number: str
    comparator: str = ""
    separator: str = ""
    second: str = ""

    @property
    def text(self) -> str:
        """As it would be printed: ``< 0.60``, ``1:128``."""
        head = f"{self.comparator} " if self.comparator else ""
        return f"{head}{self.number}{self.separator}{self.second}"

    @property
    def decimal(self) -> Decimal | None:
        """The number, or None for ratios and for what is not one; never used for printing."""
        if self.separator:
            return None
        try:
            return Decimal(re.sub(r"[\s\u00a0\u202f]", "", self.number).replace(",", "."))
        except InvalidOperation:
            return None


@_sealed
class Text:
    """A textual value; ``lines`` are kept apart by "\\n". ``formatted``: came as FT."""

    text: str
    formatted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Coded:
    """A coded value with its alternate coding, if any."""

    code: Code
    alternate: Code | None = None

    @property
    def text(self) -> str:
        """What to print."""
        other = (self.alternate.text or self.alternate.code) if self.alternate else ""
        return self.code.text or other or self.code.code


@dataclass(frozen=True, slots=True, kw_only=True)
class DateValue:
    """A date or a time as a result; ``kind`` is ``DT``, ``TM`` or ``TS``, ``text`` as sent."""

    text: str
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """A document carried with the report, byte for byte.

    Attributes:
        media_type: ``application/pdf``, ``image/tiff``, ``text/xml``…; "" when not told.
        content: the bytes; empty when ``reference`` names a file that is not in the message.
        title: what the laboratory calls it.
        reference: file name or address of a document that is pointed to, or "".
    """

    media_type: str = ""
    content: bytes = b""
    title: str = ""
    reference: str = ""


Value: TypeAlias = Quantity | Text | Coded | DateValue | Attachment


@_sealed
class Comment:
    """A remark; ``source`` is ``L`` laboratory, ``P`` requester… as sent, ``kind`` NTE-4."""

    text: str
    source: str = ""
    kind: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Second:
    """The same result in a second unit, as the laboratory converted it."""

    value: Quantity
    unit: str = ""
    reference: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Previous:
    """An earlier result of the same test."""

    value: str
    unit: str = ""
    moment: Moment | None = None


@_sealed
class Observation:
    """One line of a report.

    Attributes:
        codes: what was measured: every coding in the order given (local, LOINC…).
        label: the clear text printed for the line.
        values: no value, one, or several (repetitions); see ``Value``.
        value_type: the type as sent (NM, SN, ST, TX, FT, CE, CWE, DT, TM, TS, ED, RP; HPRIM N, A,
            C; "" when absent): kept so that a writer of the same family repeats it.
        unit: as printed; ``unit_code`` when it came coded.
        reference: the reference interval as sent: ``3.60-5.20``, ``<5``; see ``bounds``.
        flags: as sent (HL7 table 0078): L, H, LL, HH, A, N, S, R, I…
        status: of this result.
        sub_id: groups lines (germ 1, germ 2).
        is_title: a heading, not a result.
    """

    codes: tuple[Code, ...] = ()
    label: str = ""
    values: tuple[Value, ...] = ()
    value_type: str = ""
    unit: str = ""
    unit_code: Code | None = None
    reference: str = ""
    flags: tuple[str, ...] = ()
    status: ResultStatus = ResultStatus.UNSTATED
    sub_id: str = ""
    method: str = ""
    moment: Moment | None = None
    validated_by: tuple[Person, ...] = ()
    comments: tuple[Comment, ...] = ()
    second: Second | None = None
    previous: tuple[Previous, ...] = ()
    is_title: bool = False

    @property
    def abnormal(self) -> bool:
        """True when a flag says anything but normal (sensitive is normal for an antibiotic)."""
        return any(flag not in ("", "N", "S", "MS", "VS", "null", "Null") for flag in self.flags)

    @property
    def critical(self) -> bool:
        """True beyond a panic limit (LL, HH, AA)."""
        return any(flag in ("LL", "HH", "AA") for flag in self.flags)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parent:
    """Which result of which battery this one continues (OBR-26, OBR-29): germ and antibiogram."""

    code: Code | None = None
    sub_id: str = ""
    text: str = ""
    number: str = ""


@_sealed
class Battery:
    """One examination or panel asked for (one OBR), with its results in order."""

    code: Code
    alternates: tuple[Code, ...] = ()
    number: str = ""
    placer_number: str = ""
    section: str = ""
    status: str = ""
    specimen: str = ""
    collected: Moment | None = None
    received: Moment | None = None
    resulted: Moment | None = None
    comments: tuple[Comment, ...] = ()
    observations: tuple[Observation, ...] = ()
    parent: Parent | None = None
    validated_by: tuple[Person, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Extra:
    """A part that the model has no word for, kept verbatim: a Z segment, an unknown record.

    Attributes:
        place: where it stood, for example ``after OBX 3``.
        kind: segment name.
        text: the decoded text, separators and escapes untouched.
    """

    place: str
    kind: str
    text: str


@_sealed
class Report:
    """One validated version of one report.

    Attributes:
        number: the laboratory's number of the request; with ``issuer`` the key of the report.
        issuer: who gave the number (facility code or name as sent), or "".
        status: of this version.
        version: 1, 2… given by the ledger; 0 until then.
        replaces: version this one corrects; 0 when none was sent before.
        test: the sender marked it as test or debugging: never for a real recipient.
        text: the printable report when the source carries one (HPRIM Médecin), else "".
        message_id: the sender's own id of the message (MSH-10, H 7.3), or "".
        incomplete: the file ended too early or lacks an end mark: must not leave as final.
    """

    number: str
    issuer: str = ""
    status: ReportStatus = ReportStatus.FINAL
    version: int = 0
    replaces: int = 0
    patient: Patient
    laboratory: Person = Person()
    prescriber: Person | None = None
    copies: tuple[Person, ...] = ()
    treating: Person | None = None
    addressee: Person | None = None
    establishment: Person | None = None
    visit: str = ""
    ward: str = ""
    collected: Moment | None = None
    received: Moment | None = None
    issued: Moment | None = None
    validated_by: tuple[Person, ...] = ()
    urgent: bool = False
    test: bool = False
    incomplete: bool = False
    text: str = ""
    batteries: tuple[Battery, ...] = ()
    comments: tuple[Comment, ...] = ()
    patient_comments: tuple[Comment, ...] = ()
    attachments: tuple[Attachment, ...] = ()
    extras: tuple[Extra, ...] = ()
    message_id: str = ""
    source_format: str = ""

    def observations(self) -> tuple[Observation, ...]:
        """Every line of every battery, in order."""
        return tuple(o for battery in self.batteries for o in battery.observations)


_BOUND = r"[+-]?\d[\d \u00a0\u202f]*(?:[.,]\d+)?"
_INTERVAL = re.compile(rf"\s*({_BOUND})\s*(?:-|–|à|to)\s*({_BOUND})\s*")
_LOW_ONLY = re.compile(rf"\s*({_BOUND})\s*-\s*")
_HIGH_ONLY = re.compile(rf"\s*-\s*({_BOUND})\s*")


def bounds(reference: str) -> tuple[str, str] | None:
    """Split an interval into (low, high), each possibly "".

    Understands ``3.60-5.20``, ``3.60 - 5.20``, ``3.60-`` and ``-5.20`` (HPRIM Santé 10.8). None for
    anything else (``<5``, text): such a reference is printed as it is, never reinterpreted.
    """
    if found := _INTERVAL.fullmatch(reference):
        return found[1].strip(), found[2].strip()
    if found := _LOW_ONLY.fullmatch(reference):
        return found[1].strip(), ""
    if found := _HIGH_ONLY.fullmatch(reference):
        return "", found[1].strip()
    return None


def interval(low: str, high: str) -> str:
    """The inverse of ``bounds``: ``3.60-5.20``, ``3.60-``, ``-5.20`` or ""."""
    return f"{low}-{high}" if low or high else ""
