"""Words of the model as HL7 fields, with the standard separators, escaped."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from dlx.moment import Moment
from dlx.report import Code, Comment, Identifier, Person
from formats.hl7v2 import escaped

# Whatever ``escaped`` may change, but for the component separator.
_TO_ESCAPE = re.compile(r'[\x00-\x1f\x7f|~\\&"]')

DOCUMENT = Code(code="11502-2", text="Compte rendu d'examens biologiques", system="LN")


def segment(name: str, fields: Mapping[int, str]) -> str:
    """One segment (not MSH) from its fields by number, trailing empty ones left out."""
    parts = [name] + [""] * max(fields)
    for number, text in fields.items():
        parts[number] = text
    return "|".join(parts).rstrip("|")


def components(*texts: str) -> str:
    """Escaped components, trailing empty ones left out."""
    whole = "^".join(texts)
    if _TO_ESCAPE.search(whole) or whole.count("^") >= len(texts):
        whole = "^".join(map(escaped, texts))
    return whole.rstrip("^")


def time_field(moment: Moment | None) -> str:
    """A TS of the precision that the moment has."""
    return moment.hl7 if moment else ""


def code_field(*codes: Code) -> str:
    """A CE: one or two codings."""
    return components(*(part for c in codes[:2] for part in (c.code, c.text, c.system)))


def identifier_field(own: Identifier) -> str:
    """A CX: ``value^^^authority&oid&ISO^type``."""
    return "^".join([escaped(own.value), "", "", authority_part(own), escaped(own.type)]).rstrip(
        "^"
    )


def authority_part(own: Identifier) -> str:
    """An HD as subcomponents: name, OID."""
    name = escaped(own.authority)
    return f"{name}&{escaped(own.oid)}&ISO" if own.oid else name


def people_field(people: Iterable[Person]) -> str:
    """XCN repetitions: one for each number of each person."""
    return "~".join(repetition for person in people for repetition in _person(person))


def _person(person: Person) -> Iterable[str]:
    family = escaped(person.family or person.organisation)
    named = [family, escaped(person.given), "", "", escaped(person.title), "", ""]
    for own in person.identifiers or (Identifier(value=""),):
        parts = [escaped(own.value), *named, authority_part(own), "", "", "", escaped(own.type)]
        yield "^".join(parts).rstrip("^")


def observer_field(people: Iterable[Person]) -> str:
    """NDL repetitions (OBR-32): a CNN as subcomponents of the first component."""
    found = []
    for person in people:
        named = [person.family or person.organisation, person.given, "", "", person.title, "", ""]
        for own in person.identifiers or (Identifier(value=""),):
            parts = [own.value, *named, own.authority or own.type, own.oid]
            found.append("&".join(map(escaped, parts)).rstrip("&"))
    return "~".join(found)


def notes(comments: Iterable[Comment]) -> list[str]:
    """NTE segments; line breaks become ``\\.br\\``."""
    return [
        segment("NTE", {1: str(n), 2: escaped(c.source), 3: escaped(c.text), 4: escaped(c.kind)})
        for n, c in enumerate(comments, start=1)
    ]
