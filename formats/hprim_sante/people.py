"""Who is named in an HPRIM Santé message: patient (P), doctors, sites; sections 7 and 8."""

from __future__ import annotations

from dlx.moment import Moment
from dlx.report import Identifier, Patient, Person
from formats.hprim_sante.syntax import Syntax, part

_DOCTOR_TYPES = {"R": "RPPS", "A": "ADELI"}
_INS_OIDS = {"INS-NIR": "1.2.250.1.213.1.4.8", "INS-NIA": "1.2.250.1.213.1.4.9"}
_RELIABILITY = {"VL": "VALI", "PR": "PROV"}


def moment(text: str) -> Moment | None:
    """A TS of the norm, ``YYYYMMDD[HHmm[SS]]``; None when it is none."""
    return Moment.read(text.strip())


def site(components: list[str], role: str) -> Person:
    """Sender or receiver of H: code~name."""
    code, name = part(components, 1), part(components, 2)
    kind = "FINESS" if len(code) == 9 and code.isdigit() else ""
    numbers = (Identifier(value=code, type=kind),) if code else ()
    return Person(identifiers=numbers, organisation=name, role=role)


def doctor(repetition: str, syntax: Syntax, role: str) -> Person | None:
    """A doctor: code ~ name&given&second&alias&title ~ type (8.14, 9.17, 9.29); None when empty."""
    parts = syntax.split(repetition, syntax.separators.component)
    code, kind = syntax.plain(part(parts, 1)), syntax.plain(part(parts, 3))
    name = syntax.split(part(parts, 2), syntax.separators.subcomponent)
    words = [syntax.plain(word) for word in name]
    if not (code or any(words)):
        return None
    kind = _DOCTOR_TYPES.get(kind, "RPPS" if len(code) == 11 and code.isdigit() else "")
    given = " ".join(word for word in (part(words, 2), part(words, 3)) if word)
    return Person(
        identifiers=(Identifier(value=code, type=kind),) if code else (),
        family=part(words, 1),
        given=given,
        title=part(words, 5),
        role=role,
    )


def patient(fields: list[str], syntax: Syntax, clinic: str, laboratory: str) -> Patient:
    """The identity of a P segment; the place of birth and the INS exist since version 2.5."""

    def sub(number: int) -> list[str]:
        return syntax.components(part(fields, number))

    name, births, address, place = sub(6), sub(7), sub(11), sub(35)
    given = " ".join(word for word in (part(name, 2), part(name, 3)) if word)
    born = syntax.plain(part(fields, 8))
    lines = tuple(line for line in (part(address, 1), part(address, 2)) if line)
    return Patient(
        identifiers=_identifiers(fields, syntax, clinic, laboratory),
        birth_name=part(births, 1),
        used_name=part(name, 1),
        given_names=part(births, 3) or given,
        first_given=part(births, 2),
        title=part(name, 5),
        birth_date=moment(born),
        birth_date_text="" if moment(born) else born,
        sex=syntax.plain(part(fields, 9)),
        address=lines,
        postal_code=part(address, 5),
        city=part(address, 3),
        birth_place=part(place, 1) or part(place, 2),
        phones=tuple(syntax.plain(phone) for phone in syntax.repeats(part(fields, 13)) if phone),
        reliability=_RELIABILITY.get(syntax.plain(part(fields, 39)), ""),
        died=moment(part(fields, 34)),
    )


def _identifiers(
    fields: list[str], syntax: Syntax, clinic: str, laboratory: str
) -> tuple[Identifier, ...]:
    found = []
    for number, authority in ((3, clinic), (4, laboratory)):
        value = part(syntax.components(part(fields, number)), 1)
        if value:
            found.append(Identifier(value=value, type="PI", authority=authority))
    for repetition in syntax.repeats(part(fields, 12)):
        parts = syntax.components(repetition)
        value, kind, oid = part(parts, 1), part(parts, 2), part(parts, 6)
        if value:
            known = _INS_OIDS.get(kind, "")
            found.append(Identifier(value=value, type="INS" if known else kind, oid=oid or known))
    return tuple(found)
