"""Data types of HL7 v2 chapter 2.A as words of the model: codes, people, identifiers, times."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache, partial
from typing import TypeVar

from dlx.contracts import Diagnostic
from dlx.moment import Moment
from dlx.report import Code, Comment, Identifier, Person
from formats.hl7v2 import NULL, Message, Segment, Separators, repetitions, unescaped, value

RPPS_OID = "1.2.250.1.71.4.2.1"
INS_OIDS = frozenset(f"1.2.250.1.213.1.4.{n}" for n in (8, 9, 10, 11))

ROLES = ("prescriber", "copy", "treating", "")

_OID = re.compile(r"\d+(?:\.\d+){3,}")
_T = TypeVar("_T")


class _Memory(dict[str, _T]):
    """What ``read`` makes of a field, read once for equal fields: ``memory[raw]``.

    Forgets everything rather than grow without end, and keeps no field of unusual length.
    """

    def __init__(self, read: Callable[[str], _T]) -> None:
        super().__init__()
        self._read = read

    def __missing__(self, raw: str) -> _T:
        found = self._read(raw)
        if len(self) >= 4096:
            self.clear()
        if len(raw) <= 512:
            self[raw] = found
        return found


class Decoder:
    """Reads fields with the separators and the codec of a message; remembers nothing."""

    def __init__(self, separators: Separators, codec: str) -> None:
        self.separators = separators
        self._codec = codec
        self._component = separators.component
        self._repetition = separators.repetition
        self._escape = separators.escape

    def text(self, raw: str) -> str:
        """The decoded text of a field or component; HL7 null says nothing to print."""
        if self._escape and self._escape in raw:
            return unescaped(raw, self.separators, self._codec)
        return "" if raw == NULL else raw

    def lines(self, raw: str) -> str:
        """A text whose repetitions are lines (TX, FT, NTE-3)."""
        return "\n".join(self.text(part) for part in raw.split(self._repetition))

    def components(self, raw: str) -> list[str]:
        """Components of the first repetition, still escaped."""
        return raw.split(self._repetition, 1)[0].split(self._component)

    def component(self, raw: str, number: int) -> str:
        """One decoded component (1-based) of the first repetition."""
        return self.part(self.components(raw), number) if raw else ""

    def part(self, components: list[str], number: int) -> str:
        """Decode component ``number`` (1-based) of a list, "" when there are fewer."""
        return self.text(components[number - 1]) if number <= len(components) else ""

    def subs(self, components: list[str], number: int) -> list[str]:
        """Decoded subcomponents of one component, at least one."""
        raw = components[number - 1] if number <= len(components) else ""
        sub = self.separators.subcomponent
        return [self.text(part) for part in (raw.split(sub) if sub else [raw])]

    def codes(self, raw: str) -> tuple[Code, ...]:
        """The codings of a CE or CWE (first and alternate), each with a code or a text."""
        c = self.components(raw)
        first = Code(code=self.part(c, 1), text=self.part(c, 2), system=self.part(c, 3))
        if len(c) < 4:
            return (first,) if first.code or first.text else ()
        second = Code(code=self.part(c, 4), text=self.part(c, 5), system=self.part(c, 6))
        return tuple(code for code in (first, second) if code.code or code.text)

    def analyte(self, raw: str) -> tuple[tuple[Code, ...], str]:
        """OBX-3: its codings, and its label: original text (CWE-9), else what the codings say."""
        codes = self.codes(raw)
        texts = [self.component(raw, 9), *(c.text for c in codes), *(c.code for c in codes)]
        return codes, next(filter(None, texts), "")

    def unit(self, raw: str) -> tuple[str, Code | None]:
        """OBX-6: the unit as printed, and its coding when it has a table or a text."""
        code = next(iter(self.codes(raw)), Code())
        return code.text or code.code, code if code.system or code.text else None

    def flags(self, raw: str) -> tuple[str, ...]:
        """OBX-8: every flag, in order."""
        return self.each(raw, lambda c: self.part(c, 1) or None)

    def entity(self, raw: str) -> tuple[str, str]:
        """Number and issuer of an EI: ``id^namespace^universal id^type``."""
        if not raw:
            return "", ""
        c = self.components(raw)
        return self.part(c, 1).strip(), (self.part(c, 2) or self.part(c, 3)).strip()

    def authority(self, components: list[str], number: int) -> tuple[str, str]:
        """Name and OID of an HD, also when the OID stands alone or in the first place."""
        subs = self.subs(components, number)
        name, oid = subs[0], subs[1] if len(subs) > 1 else ""
        return ("", name) if not oid and _OID.fullmatch(name) else (name, oid)

    def laboratory(self, raw: str) -> Person:
        """MSH-4, an HD: name, then number and its type."""
        c = self.components(raw)
        number = self.part(c, 2)
        own = (Identifier(value=number, type=self.part(c, 3)),) if number else ()
        return Person(identifiers=own, organisation=self.part(c, 1), role="laboratory")

    def people(self, raw: str, role: str) -> tuple[Person, ...]:
        """The people of an XCN field; repetitions with one name are one person's numbers."""
        merged: list[Person] = []
        for c in repetitions(raw, self.separators):
            person = self._person(c, role)
            last = merged[-1] if merged else None
            if last and last.name and last.name == person.name:
                merged[-1] = replace(last, identifiers=last.identifiers + person.identifiers)
            elif person.name or person.identifiers:
                merged.append(person)
        return tuple(merged)

    def _person(self, c: list[str], role: str) -> Person:
        number = self.part(c, 1).strip()
        given = " ".join(name for name in (self.part(c, 3), self.part(c, 4)) if name)
        return Person(
            identifiers=(self._professional_number(c, number),) if number else (),
            family=self.subs(c, 2)[0],
            given=given,
            title=self.part(c, 6),
            role=role,
        )

    def _professional_number(self, c: list[str], number: str) -> Identifier:
        authority, oid = self.authority(c, 9)
        kind = self.part(c, 13)
        if oid == RPPS_OID or kind in ("RPPS", "IDNPS") or "RPPS" in (authority, self.part(c, 8)):
            # The national number (IDNPS) is the RPPS number behind an 8, the ADELI one behind a 0.
            if len(number) == 12 and number[0] == "8" and number.isdecimal():
                number, kind = number[1:], "RPPS"
            elif len(number) == 10 and number[0] == "0" and number.isdecimal():
                number, kind = number[1:], "ADELI"
            elif len(number) == 11 and number.isdecimal():
                kind = "RPPS"
        return Identifier(value=number, type=kind, authority=authority, oid=oid)

    def observer(self, raw: str) -> tuple[Person, ...]:
        """An NDL (OBR-32): the person stands in the subcomponents of the first component."""
        if not raw:
            return ()
        found = []
        for c in repetitions(raw, self.separators):
            subs = [*self.subs(c, 1), *[""] * 9]
            kind = "RPPS" if subs[9] == RPPS_OID or subs[8] == "RPPS" else ""
            number = Identifier(value=subs[0], type=kind, authority=subs[8], oid=subs[9])
            if subs[0] or subs[1]:
                found.append(
                    Person(
                        identifiers=(number,) if number.value else (),
                        family=subs[1],
                        given=subs[2],
                        title=subs[5],
                    )
                )
        return tuple(found)

    def comment(self, note: Segment) -> Comment | None:
        """An NTE; None when it says nothing."""
        raw = value(note, 3)
        if not raw or raw == NULL:
            return None
        return Comment(
            text=self.lines(raw),
            source=self.text(value(note, 2)),
            kind=self.component(value(note, 4), 1),
        )

    def comments(self, notes: list[Segment]) -> tuple[Comment, ...]:
        """Every NTE that says something."""
        return tuple(c for c in map(self.comment, notes) if c is not None) if notes else ()

    def each(self, raw: str, read: Callable[[list[str]], _T | None]) -> tuple[_T, ...]:
        """What ``read`` makes of every repetition, without None."""
        found = map(read, repetitions(raw, self.separators))
        return tuple(one for one in found if one is not None)


class Vocabulary:
    """Fields that come back in every message of a laboratory, by field as sent.

    One for each set of separators and codec; nothing about patients or their results.
    """

    def __init__(self, decoder: Decoder) -> None:
        self.decoder = decoder
        self.codes = _Memory(decoder.codes)
        self.analytes = _Memory(decoder.analyte)
        self.units = _Memory(decoder.unit)
        self.flags = _Memory(decoder.flags)
        self.laboratories = _Memory(decoder.laboratory)
        self.people = {role: _Memory(partial(decoder.people, role=role)) for role in ROLES}


@lru_cache(maxsize=16)
def _vocabulary(separators: Separators, codec: str) -> Vocabulary:
    return Vocabulary(Decoder(separators, codec))


class Fields(Decoder):
    """Reads the fields of one message; equal fields are read once.

    Attributes:
        terms: what every message of the laboratory says again, by field as sent.
        entities: numbers and issuers of this message (EI), by field as sent.
        diagnostics: grows as oddities are met.
    """

    def __init__(self, message: Message) -> None:
        super().__init__(message.separators, message.codec)
        self.diagnostics: list[Diagnostic] = list(message.diagnostics)
        self.terms = _vocabulary(message.separators, message.codec)
        self.entities = _Memory(self.terms.decoder.entity)
        self._moments: dict[str, Moment | None] = {}

    def moment(self, raw: str, line: int, column: int) -> Moment | None:
        """A TS or DTM; None with a diagnostic when it is not a date."""
        if not raw:
            return None
        known = self._moments.get(raw)
        if known is not None or raw in self._moments:
            return known
        text = self.component(raw, 1).strip()
        found = Moment.read(text) if text else None
        if text and found is None:
            self.odd("HL7-W13", "date illisible : laissée de côté", line, column)
        self._moments[raw] = found
        return found

    def odd(self, code: str, message: str, line: int | None = None, column: int = 0) -> None:
        """Add a diagnostic."""
        self.diagnostics.append(
            Diagnostic(code=code, message=message, line=line, column=column or None)
        )
