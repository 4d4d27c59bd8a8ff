"""PID as the patient of a report."""

from __future__ import annotations

from functools import partial

from dlx.errors import ParseError
from dlx.moment import Moment
from dlx.report import Identifier, Patient
from formats.hl7v2 import value
from formats.hl7v2_oru._fields import INS_OIDS, Fields
from formats.hl7v2_oru._groups import Group


def read_patient(f: Fields, group: Group) -> Patient:
    """The patient of a PID.

    Raises ParseError HL7-E10 when the name or the birth date is missing.
    """
    pid = group.pid
    birth, used = _names(f, value(pid, 5))
    born = f.component(value(pid, 7), 1).strip()
    if not (birth or used):
        raise ParseError("HL7-E10", "nom du patient absent", line=group.number, column=5)
    if not born:
        message = "date de naissance du patient absente"
        raise ParseError("HL7-E10", message, line=group.number, column=7)
    name = birth or used
    first, listed = f.part(name, 2), f.part(name, 3)
    birth_date = Moment.read(born)
    address, home, place = _addresses(f, value(pid, 11))
    phone = partial(_phone, f)
    nir = f.component(value(pid, 19), 1)
    return Patient(
        identifiers=f.each(value(pid, 3), partial(_patient_number, f)),
        birth_name=f.subs(birth, 1)[0] if birth else "",
        used_name=f.subs(used, 1)[0] if used else "",
        given_names=_given_names(first, listed),
        first_given=first if listed else "",
        title=f.part(name, 5),
        birth_date=birth_date,
        birth_date_text="" if birth_date else born,
        sex=f.component(value(pid, 8), 1),
        address=address,
        postal_code=f.part(home, 5),
        city=f.part(home, 3),
        birth_place=place or f.text(value(pid, 23)),
        phones=(*f.each(value(pid, 13), phone), *f.each(value(pid, 14), phone)),
        nir=nir[:13],
        nir_key=nir[13:],
        reliability=f.component(value(pid, 32), 1),
        died=f.moment(value(pid, 29), group.number, 29),
    )


def _names(f: Fields, raw: str) -> tuple[list[str], list[str]]:
    """Birth name (type L, M or none) and used name (D), as components."""
    birth: list[str] = []
    used: list[str] = []
    for name in f.each(raw, lambda c: c if f.subs(c, 1)[0] else None):
        kind = f.part(name, 7)
        if kind == "D":
            used = used or name
        elif kind in ("L", "M", "B", "") or not birth:
            birth = birth or name
    return birth, used


def _patient_number(f: Fields, c: list[str]) -> Identifier | None:
    number = f.part(c, 1).strip()
    if not number:
        return None
    authority, oid = f.authority(c, 4)
    kind = f.part(c, 5).strip()
    if oid in INS_OIDS and kind in ("", "NH"):
        kind = "INS"
    return Identifier(value=number, type=kind, authority=authority, oid=oid)


def _addresses(f: Fields, raw: str) -> tuple[tuple[str, ...], list[str], str]:
    """Street lines, the home address as components, and the birth place (type BDL)."""
    home: list[str] = []
    place = ""
    for c in f.each(raw, lambda c: c):
        if f.part(c, 7) in ("BDL", "N"):
            place = place or f.part(c, 9) or f.part(c, 3)
        else:
            home = home or c
    lines = (f.subs(home, 1)[0], f.part(home, 2))
    return tuple(line for line in lines if line), home, place


def _phone(f: Fields, c: list[str]) -> str | None:
    """XTN-1 as written, XTN-12, or the parts joined; an e-mail address is not a phone."""
    parts = " ".join(p for p in (f.part(c, 5), f.part(c, 6), f.part(c, 7)) if p)
    return f.part(c, 1) or f.part(c, 12) or parts or None


def _given_names(first: str, listed: str) -> str:
    """All given names: XPN-3 lists them all in France, the further ones elsewhere."""
    if not listed:
        return first
    return listed if listed.casefold().startswith(first.casefold()) else f"{first} {listed}"
