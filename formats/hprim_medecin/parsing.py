"""From the dossiers of an HPRIM Médecin file to reports: what each line means."""

from __future__ import annotations

import re
from functools import lru_cache

from dlx.contracts import Options, Parsed, RefusedPart
from dlx.errors import ParseError
from dlx.moment import Moment
from dlx.report import (
    Battery,
    Code,
    Coded,
    Comment,
    Extra,
    Identifier,
    Observation,
    Patient,
    Person,
    Quantity,
    Report,
    ReportStatus,
    ResultStatus,
    Second,
    Text,
    Value,
    interval,
)
from formats.hprim_medecin.header import Header
from formats.hprim_medecin.reading import Dossier, Record, Res, Tex, read

_NUMBER = re.compile(
    r"(<=|>=|<|>|≤|≥)?[ \u00a0]*([+-]?\d(?:[\d \u00a0]*\d)?(?:[.,]\d+)?)", re.ASCII
)
_BOUND = re.compile(r"[+-]?\d[\d \u00a0]*(?:[.,]\d+)?", re.ASCII)
_COMPARATORS = {"≤": "<=", "≥": ">="}
_STATUS = {
    "F": ResultStatus.FINAL,
    "C": ResultStatus.CORRECTED,
    "R": ResultStatus.UNVERIFIED,
    "": ResultStatus.UNSTATED,
}


def parse(data: bytes, options: Options) -> Parsed:
    """Read a file into one report per dossier; ``options`` may say ``strict: yes``.

    A dossier without record number (HM-E06) is refused alone when others can be read: the number
    is the key under which versions replace each other, so none is made up.

    Raises ParseError with the codes of ``reading.read``, or HM-E06.
    """
    file = read(data, strict=options.get("strict", "no") == "yes")
    reports: list[Report] = []
    refused: list[RefusedPart] = []
    last = len(file.dossiers) - 1
    for index, dossier in enumerate(file.dossiers):
        # Each FIN closes its own dossier; only the last one is in doubt when FINFICHIER is missing.
        whole = dossier.end and (file.complete or index < last)
        trailer = file.trailer if index == last else ()
        try:
            reports.append(_report(dossier, whole=whole, trailer=trailer))
        except ParseError as error:
            refused.append(RefusedPart(position=index + 1, error=error))
    if not reports:
        raise refused[0].error
    return Parsed(
        reports=tuple(reports),
        diagnostics=file.diagnostics,
        refused=tuple(refused),
    )


def _report(dossier: Dossier, *, whole: bool, trailer: tuple[str, ...]) -> Report:
    header = dossier.header
    if not header.record_number:
        raise ParseError("HM-E06", "numéro de dossier absent (ligne 9 de l'en-tête)", line=9)
    extras = [Extra(place="en-tête", kind="ligne", text=text) for text in dossier.dropped]
    if header.first_line_rest:
        extras.append(Extra(place="en-tête, ligne 1", kind="ligne", text=header.first_line_rest))
    battery = _battery(dossier, extras)
    extras += [Extra(place="après FINFICHIER", kind="ligne", text=text) for text in trailer]
    issuer = header.sender_code or header.sender_name
    return Report(
        number=header.record_number,
        issuer=issuer,
        status=_report_status(dossier.lab or ()),
        patient=_patient(header, issuer),
        laboratory=_person(header.sender_code, header.sender_name, "laboratory"),
        prescriber=_correspondent(header, "prescriber"),
        addressee=_correspondent(header, "addressee"),
        issued=_moment(header.record_date),
        incomplete=not whole,
        text="\n".join(dossier.text),
        batteries=(battery,) if battery else (),
        extras=tuple(extras),
        source_format="hprim",
    )


def _report_status(records: tuple[Record, ...]) -> ReportStatus:
    """Of the worst line: an unknown status is never promoted to final (HM-W38)."""
    statuses = {record.status for record in records if isinstance(record, Res)}
    if statuses - {"F", "C", ""}:
        return ReportStatus.PARTIAL
    return ReportStatus.CORRECTED if "C" in statuses else ReportStatus.FINAL


def _moment(iso: str) -> Moment | None:
    return Moment.read(iso.replace("-", "")) if iso else None


def _patient(header: Header, issuer: str) -> Patient:
    own = Identifier(value=header.patient_id, type="PI", authority=issuer)
    return Patient(
        identifiers=(own,) if header.patient_id else (),
        # The format does not tell birth name from used name: nothing better is claimed.
        used_name=header.family_name,
        given_names=header.given_name,
        birth_date=_moment(header.birth_date),
        birth_date_text="" if header.birth_date else header.birth_text,
        address=tuple(line for line in (header.address1, header.address2) if line),
        postal_code=header.postal_code,
        city=header.city,
        nir=header.nir,
        nir_key=header.nir_key,
    )


def _person(code: str, name: str, role: str) -> Person:
    kind = "RPPS" if len(code) == 11 and code.isdigit() else ""
    numbers = (Identifier(value=code, type=kind),) if code else ()
    if role == "laboratory":
        return Person(identifiers=numbers, organisation=name, role=role)
    return Person(identifiers=numbers, family=name, role=role)


def _correspondent(header: Header, role: str) -> Person | None:
    """Line 12: the format has one correspondent, who asked for the report and receives it."""
    if not (header.receiver_code or header.receiver_name):
        return None
    return _person(header.receiver_code, header.receiver_name, role)


def _battery(dossier: Dossier, extras: list[Extra]) -> Battery | None:
    """Coded lines as observations. TEX lines that the printed text lacks become comments."""
    if not dossier.lab:
        return None
    printed = {line.strip() for line in dossier.text}
    observations: list[Observation] = []
    comments: list[list[Comment]] = [[]]
    for record in dossier.lab:
        if isinstance(record, Res):
            observations.append(_observation(record))
            comments.append([])
            if record.surplus or record.status not in _STATUS:
                _keep_oddities(record, len(observations), extras)
        elif isinstance(record, Tex):
            if (text := record.text.strip()) and text not in printed:
                comments[-1].append(Comment(text=record.text))
        else:
            place = f"après RES {len(observations)}"
            extras.append(Extra(place=place, kind=record.text[:3], text=record.text))
    lines = [
        _with_comments(line, tuple(own)) if own else line
        for line, own in zip(observations, comments[1:], strict=True)
    ]
    if not lines and not comments[0]:
        return None
    return Battery(code=Code(), comments=tuple(comments[0]), observations=tuple(lines))


def _with_comments(line: Observation, comments: tuple[Comment, ...]) -> Observation:
    """The same line with ``comments``; dataclasses.replace costs five times as much here."""
    return Observation(
        codes=line.codes, label=line.label, values=line.values, value_type=line.value_type,
        unit=line.unit, reference=line.reference, flags=line.flags, status=line.status,
        second=line.second, comments=comments,
    )  # fmt: skip


def _keep_oddities(res: Res, rank: int, extras: list[Extra]) -> None:
    if res.surplus:
        extras.append(Extra(place=f"RES {rank}", kind="champs", text="|".join(res.surplus)))
    if res.status not in _STATUS:
        extras.append(Extra(place=f"RES {rank}", kind="statut", text=res.status))


def _observation(res: Res) -> Observation:
    second = None
    if res.value2:
        second = Second(
            value=_quantity(res.value2) or Quantity(number=res.value2),
            unit=res.unit2,
            reference=_reference(res.low2, res.high2),
        )
    return Observation(
        codes=(Code(code=res.code, text=res.label),) if res.code else (),
        label=res.label,
        values=_values(res),
        value_type=res.type,
        unit=res.unit,
        reference=_reference(res.low, res.high),
        flags=(res.flag,) if res.flag else (),
        status=_STATUS.get(res.status, ResultStatus.UNVERIFIED),
        second=second,
    )


def _values(res: Res) -> tuple[Value, ...]:
    if not res.value:
        return ()
    if res.type == "N" and res.value == res.numeric:  # nearly always
        return (Quantity(number=res.value),)
    if res.type == "C":
        return (Coded(code=Code(code=res.value)),)
    quantity = _quantity(res.value)
    if quantity is not None and (res.type == "N" or quantity.comparator):
        return (quantity,)
    return (Text(text=res.value),)


def _quantity(text: str) -> Quantity | None:
    found = _NUMBER.fullmatch(text)
    if found is None:
        return None
    sign = found[1] or ""
    return Quantity(number=found[2], comparator=_COMPARATORS.get(sign, sign))


def _reference(low: str, high: str) -> str:
    """The two bounds as one interval; what is not a bound (packed, words) stays as written."""
    if not (low or high):
        return ""
    # Intervals come back in every report; nothing longer than one is remembered.
    known = len(low) + len(high) <= 64
    return _interval(low, high) if known else _interval.__wrapped__(low, high)


@lru_cache(maxsize=1024)
def _interval(low: str, high: str) -> str:
    if (not low or _BOUND.fullmatch(low)) and (not high or _BOUND.fullmatch(high)):
        return interval(low, high)
    return " ".join(part for part in (low, high) if part)
