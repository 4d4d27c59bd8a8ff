"""Persons named in a report → profiles, by their numbers and never by their names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from dlx.delivery import NoticeKind
from dlx.facts import Facts
from dlx.profiles import Book, Group, Profile
from dlx.report import Person


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Something about the recipients that a person must see; becomes a notice on the report.

    Attributes:
        kind: UNROUTED. cause: what is wrong, in French, without medical data; groups notices.
        words: the codes or names as the report gave them. command: what to type next.
    """

    kind: NoticeKind = NoticeKind.UNROUTED
    cause: str
    words: str = ""
    command: str = ""


ROLE_WORDS: Mapping[str, str] = {
    Group.PRESCRIBER.value: "prescripteur",
    Group.COPIES.value: "copie",
    Group.TREATING.value: "médecin traitant",
    Group.ADDRESSEE.value: "destinataire",
    Group.ESTABLISHMENT.value: "établissement",
    Group.PATIENT.value: "patient",
    Group.PARENTS.value: "parents",
}
_KINDS = {
    "RPPS": "RPPS",
    "ADELI": "ADELI",
    "FINESS": "FINESS",
    "FINEG": "FINESS",
    "FINEJ": "FINESS",
}
_ORDER = ("RPPS", "FINESS", "ADELI", "LIS")
_COMMAND_OPTIONS = {"RPPS": "--rpps", "FINESS": "--finess", "ADELI": "--adeli", "LIS": "--lis-code"}


def _numbers(person: Person) -> list[tuple[str, str]]:
    """(kind, number) in the order of trust; a number without a known type is a code of the LIS."""
    found = [
        (_KINDS.get(i.type.upper(), "LIS"), i.value.strip())
        for i in person.identifiers
        if i.value.strip()
    ]
    return sorted(dict.fromkeys(found), key=lambda number: _ORDER.index(number[0]))


def _profile_of(kind: str, number: str, book: Book) -> Profile | None:
    found = book.find(kind, number)
    if found is None and kind == "LIS" and len(number) == 11:
        return book.find("RPPS", number)  # HPRIM Médecin gives the number without its type
    return found


def _contradicts(profile: Profile, numbers: Iterable[tuple[str, str]]) -> bool:
    """True when the report gives this profile a number that is not its own."""
    own = {"RPPS": profile.rpps, "ADELI": profile.adeli}
    if profile.kind == "establishment":  # a doctor may work in several places
        own["FINESS"] = profile.finess
    stated: dict[str, set[str]] = {}
    for kind, number in numbers:
        stated.setdefault(kind, set()).add(number)
    return any(own.get(kind) and own[kind] not in given for kind, given in stated.items())


def _described(numbers: Iterable[tuple[str, str]]) -> str:
    return ", ".join(f"code SIL {n}" if kind == "LIS" else f"{kind} {n}" for kind, n in numbers)


def match(person: Person, role: str, book: Book) -> tuple[Profile | None, Problem | None]:
    """Find the profile of a person by RPPS, FINESS, ADELI, then code of the LIS.

    Exactly one of the two is None. Two profiles, or a profile that bears another RPPS than the
    report says, are a problem, never a guess.
    """
    numbers = _numbers(person)
    found = {p.id: p for kind, n in numbers if (p := _profile_of(kind, n, book)) is not None}
    words = _described(numbers)
    if not found:
        return None, _unknown(person, role, numbers)
    if len(found) > 1:
        cause = f"{role} ambigu : {words} désignent plusieurs fiches ({', '.join(sorted(found))})"
    else:
        (profile,) = found.values()
        if not _contradicts(profile, numbers):
            return profile, None
        cause = f"{role} contradictoire : {words} ne s'accordent pas avec la fiche {profile.id}"
    command = f"dlx profile show {' '.join(sorted(found))}"
    return None, Problem(cause=cause, words=person.name, command=command)


def _unknown(person: Person, role: str, numbers: list[tuple[str, str]]) -> Problem:
    if not numbers:
        return Problem(
            cause=f"{role} inconnu : aucun numéro dans le compte rendu ({person.name})",
            words=person.name,
            command="dlx profile new",
        )
    options = " ".join(f"{_COMMAND_OPTIONS[kind]} {n}" for kind, n in numbers)
    return Problem(
        cause=f"{role} inconnu : {_described(numbers)}",
        words=person.name,
        command=f"dlx profile new {options}",
    )


def named(facts: Facts) -> list[tuple[str, Person]]:
    """Return (group, person) for everybody named, in the order of their deliveries."""
    singles = [(Group.PRESCRIBER, facts.prescriber), (Group.ADDRESSEE, facts.addressee)]
    last = [(Group.ESTABLISHMENT, facts.establishment), (Group.TREATING, facts.treating)]
    everybody = singles + [(Group.COPIES, copy) for copy in facts.copies] + last
    return [(g.value, p) for g, p in everybody if p is not None and (p.identifiers or p.name)]
