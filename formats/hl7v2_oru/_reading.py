"""From the groups of an ORU message to reports: one for each PID."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from dlx.contracts import Options
from dlx.errors import ParseError
from dlx.moment import Moment
from dlx.report import (
    Attachment,
    Battery,
    Code,
    Identifier,
    Observation,
    Parent,
    Person,
    Report,
    ResultStatus,
)
from formats.hl7v2 import Message, Segment, value
from formats.hl7v2_oru._carrier import check_actions, flag_test
from formats.hl7v2_oru._fields import Fields
from formats.hl7v2_oru._groups import Group, Line, Order, Walk
from formats.hl7v2_oru._patient import read_patient
from formats.hl7v2_oru._status import report_status
from formats.hl7v2_oru._values import Values

DOCUMENT_CODES = frozenset(("11502-2", "11503-0"))  # LOINC: laboratory report, as a whole
URGENT = frozenset(("S", "A", "STAT", "ASAP", "URG", "U"))
_STATUSES = {status.value: status for status in ResultStatus}
_UNSTATED, _ORDER_ONLY = ResultStatus.UNSTATED, ResultStatus.ORDER_ONLY
_DOCUMENTS = ("ED", "RP")
_T = TypeVar("_T")


class Reader:
    """Reads the reports of one message. ``fields.diagnostics`` holds what was odd."""

    def __init__(self, message: Message, options: Options) -> None:
        self.fields = Fields(message)
        self._message = message
        self._values = Values(self.fields)
        self._hold_cut = options.get("unterminated", "hold") != "accept"

    def reports(self) -> tuple[Report, ...]:
        """One report for each PID. Raises ParseError."""
        msh = self._message.segments[0]
        self._check_header(msh)
        cut = not self._message.terminated
        if cut:
            self._check_last_segment()
        walk = Walk(self._message, flag_test(self.fields, msh))
        if not walk.groups:
            raise ParseError("HL7-E10", "segment PID absent : patient inconnu")
        incomplete = (cut and self._hold_cut) or walk.continued or bool(value(msh, 14))
        if walk.continued or value(msh, 14):
            self.fields.odd("HL7-W15", "la suite est dans un autre message (DSC, MSH-14)")
        return tuple(self._report(walk, group, incomplete) for group in walk.groups)

    def _check_header(self, msh: Segment) -> None:
        kind = self.fields.component(value(msh, 9), 1)
        event = self.fields.component(value(msh, 9), 2)
        if kind != "ORU" or event not in ("", "R01"):
            message = "type de message (MSH-9) autre que ORU^R01 : ce n'est pas un résultat"
            raise ParseError("HL7-E07", message, line=1, column=9)
        if len(msh) <= 11:
            raise ParseError("HL7-E05", "segment MSH incomplet : MSH-11 absent", line=1, column=11)
        if not value(msh, 10):
            self.fields.odd("HL7-W16", "MSH-10 (identifiant du message) est vide", 1, 10)

    def _check_last_segment(self) -> None:
        """Refuse what was cut in the middle of a segment; else say that the end is missing."""
        number = len(self._message.segments)
        last = self._message.segments[-1]
        least = {"OBX": 11, "OBR": 4, "PID": 5, "NTE": 3, "MSH": 12}.get(last[0], 0)
        if len(last) <= least or not last[least]:
            message = "message tronqué : dernier segment incomplet et sans fin de segment"
            raise ParseError("HL7-E06", message, line=number)
        self.fields.odd("HL7-W08", "dernier segment sans CR : message peut-être tronqué", number)

    def _report(self, walk: Walk, group: Group, incomplete: bool) -> Report:
        msh = self._message.segments[0]
        f = self.fields
        if group.stray_results:
            f.odd("HL7-W17", "OBX sans OBR : gardé à part, hors des résultats", group.number)
        number, issuer = self._key(group, msh)
        check_actions(f, msh, group.orders)
        batteries, documents = self._batteries(group, number)
        status = report_status(f, group.orders)
        requesters = self._requesters(group)
        treating = f.terms.people["treating"]
        return Report(
            number=number,
            issuer=issuer,
            status=status,
            patient=read_patient(f, group),
            laboratory=f.terms.laboratories[value(msh, 4)],
            prescriber=requesters[0] if requesters else None,
            copies=self._copies(group, requesters),
            treating=_first(treating[value(group.pd1, 4)] or treating[value(group.pv1, 7)]),
            establishment=self._establishment(group),
            visit=f.component(value(group.pv1, 19), 1) or f.component(value(group.pid, 18), 1),
            ward=" ".join(p for p in f.subs(f.components(value(group.pv1, 3)), 1)[:1] if p),
            collected=_first(b.collected for b in batteries if b.collected),
            received=_first(b.received for b in batteries if b.received),
            issued=f.moment(value(msh, 7), 1, 7),
            validated_by=_validators(batteries),
            urgent=any(self._urgent(order) for order in group.orders),
            test=f.component(value(msh, 11), 1) in ("T", "D"),
            incomplete=incomplete,
            batteries=batteries,
            comments=f.comments(walk.head_notes),
            patient_comments=f.comments(group.notes),
            attachments=documents,
            extras=(*walk.head_extras, *group.extras),
            message_id=f.text(value(msh, 10)),
            source_format="oru",
        )

    def _key(self, group: Group, msh: Segment) -> tuple[str, str]:
        """Number and issuer: OBR-3, ORC-3; ORC-4 when the orders have different numbers."""
        f = self.fields
        keys = [self._own_key(order) for order in group.orders]
        found = [key for key in keys if key[0]]
        if not found:
            message = "numéro de dossier absent (OBR-3, ORC-3)"
            raise ParseError("HL7-E09", message, line=group.number)
        key = found[0]
        if len(set(found)) > 1:
            together = {f.entities[order.orc[4]] for order in group.orders}
            if len(together) == 1 and (common := together.pop())[0]:
                key = common
                f.odd("HL7-W09", "plusieurs numéros OBR-3 : le numéro commun ORC-4 est retenu")
            else:
                f.odd("HL7-W09", "plusieurs numéros OBR-3 : le premier est retenu", None, 3)
        own = f.components(value(msh, 4))
        return key[0], key[1] or f.part(own, 1) or f.part(own, 2)

    def _own_key(self, order: Order) -> tuple[str, str]:
        """Number and issuer of one order: OBR-3, else ORC-3."""
        found = self.fields.entities[order.obr[3]]
        return found if found[0] else self.fields.entities[order.orc[3]]

    def _requesters(self, group: Group) -> list[Person]:
        """Every prescriber: OBR-16, else ORC-12."""
        people = self.fields.terms.people["prescriber"]
        fields = dict.fromkeys(order.obr[16] or order.orc[12] for order in group.orders)
        found = dict.fromkeys(person for raw in fields for person in people[raw])
        if len(found) > 1:
            self.fields.odd("HL7-W18", "plusieurs prescripteurs : les suivants sont en copie")
        return list(found)

    def _copies(self, group: Group, requesters: list[Person]) -> tuple[Person, ...]:
        people = self.fields.terms.people["copy"]
        fields = dict.fromkeys(order.obr[28] for order in group.orders)
        copies = (person for raw in fields for person in people[raw])
        return tuple(dict.fromkeys((*requesters[1:], *copies)))

    def _establishment(self, group: Group) -> Person | None:
        """ORC-21, the ordering facility (XON)."""
        f = self.fields
        for raw in filter(None, (order.orc[21] for order in group.orders)):
            c = f.components(raw)
            name, number = f.part(c, 1), f.part(c, 10) or f.part(c, 3)
            if name or number:
                authority, oid = f.authority(c, 6)
                own = Identifier(value=number, type=f.part(c, 7), authority=authority, oid=oid)
                return Person(
                    identifiers=(own,) if number else (), organisation=name, role="establishment"
                )
        return None

    def _urgent(self, order: Order) -> bool:
        """OBR-5, OBR-27.6 or TQ1-9."""
        f = self.fields
        if not (order.obr[5] or order.obr[27] or order.timings):
            return False
        said = [f.component(order.obr[5], 1), f.component(order.obr[27], 6)]
        said += [f.component(value(timing, 9), 1) for timing in order.timings]
        return any(word.strip().upper() in URGENT for word in said)

    def _batteries(
        self, group: Group, number: str
    ) -> tuple[tuple[Battery, ...], tuple[Attachment, ...]]:
        documents: list[Attachment] = []
        batteries = tuple(self._battery(order, number, documents) for order in group.orders)
        return batteries, tuple(documents)

    def _battery(self, order: Order, number: str, documents: list[Attachment]) -> Battery:
        f, obr = self.fields, order.obr
        codes = f.terms.codes[obr[4]] or (Code(),)
        own = self._own_key(order)[0]
        lines: list[Observation] = []
        notes = list(order.notes)
        for line in order.lines:
            if line.obx[2] in _DOCUMENTS and self._is_document(line, codes):
                documents.extend(self._attachments(line))
                notes += line.notes
            else:
                lines.append(self._observation(line))
        return Battery(
            code=codes[0],
            alternates=codes[1:],
            number=own if own != number else "",
            placer_number=f.entities[obr[2]][0] or f.entities[order.orc[2]][0],
            section=f.text(obr[24]),
            status=f.text(obr[25]),
            specimen=self._specimen(order),
            collected=self._collected(order),
            received=f.moment(obr[14], order.number, 14),
            resulted=f.moment(obr[22], order.number, 22),
            comments=f.comments(notes),
            observations=tuple(lines),
            parent=self._parent(obr),
            validated_by=f.observer(obr[32]),
        )

    def _is_document(self, line: Line, order_codes: tuple[Code, ...]) -> bool:
        """An ED or RP that is the report itself, not the image of one test."""
        codes = {code.code for code in self.fields.terms.codes[line.obx[3]] if code.code}
        return bool(codes & DOCUMENT_CODES) or bool(codes & {c.code for c in order_codes})

    def _attachments(self, line: Line) -> Iterable[Attachment]:
        label = self.fields.terms.analytes[line.obx[3]][1]
        for found in self._values.read(line.obx, line.number):
            if isinstance(found, Attachment):
                yield Attachment(
                    media_type=found.media_type,
                    content=found.content,
                    title=label,
                    reference=found.reference,
                )

    def _observation(self, line: Line) -> Observation:
        f, terms, obx = self.fields, self.fields.terms, line.obx
        codes, label = terms.analytes[obx[3]]
        unit, unit_code = terms.units[obx[6]]
        status = _STATUSES.get(obx[11], _UNSTATED)
        values = self._values.read(obx, line.number) if obx[5] else ()
        return Observation(
            codes=codes,
            label=label,
            values=values,
            value_type=obx[2],
            unit=unit,
            unit_code=unit_code,
            reference=f.text(obx[7]),
            flags=terms.flags[obx[8]],
            status=status,
            sub_id=f.text(obx[4]) if obx[4] else "",
            method=self._method(obx[17]) if obx[17] else "",
            moment=f.moment(obx[14], line.number, 14),
            validated_by=terms.people[""][obx[16]],
            comments=f.comments(line.notes) if line.notes else (),
            is_title=status is _ORDER_ONLY and not values and not unit,
        )

    def _method(self, raw: str) -> str:
        return next((c.text or c.code for c in self.fields.terms.codes[raw]), "")

    def _specimen(self, order: Order) -> str:
        """SPM-4, else OBR-15.1."""
        f = self.fields
        for segment in order.specimens:
            for code in f.terms.codes[value(segment, 4)]:
                return code.text or code.code
        subs = f.subs(f.components(order.obr[15]), 1)
        return (subs[1] if len(subs) > 1 else "") or subs[0]

    def _collected(self, order: Order) -> Moment | None:
        """OBR-7, else SPM-17."""
        f = self.fields
        found = f.moment(order.obr[7], order.number, 7)
        for segment in order.specimens:
            found = found or f.moment(f.component(value(segment, 17), 1), order.number, 7)
        return found

    def _parent(self, obr: Segment) -> Parent | None:
        """OBR-26 (code, sub-id and text of the parent result) and OBR-29 (its order)."""
        f = self.fields
        if not (obr[26] or obr[29]):
            return None
        c = f.components(obr[26])
        subs = [*f.subs(c, 1), "", ""]
        code = Code(code=subs[0], text=subs[1], system=subs[2])
        placer_filler = f.components(obr[29])
        number = f.subs(placer_filler, 2)[0] or f.subs(placer_filler, 1)[0]
        parent = Parent(
            code=code if code.code or code.text else None,
            sub_id=f.part(c, 2),
            text=f.part(c, 3),
            number=number,
        )
        return parent if parent != Parent() else None


def _first(found: Iterable[_T]) -> _T | None:
    return next(iter(found), None)


def _validators(batteries: tuple[Battery, ...]) -> tuple[Person, ...]:
    found: dict[Person, None] = {}
    last: tuple[Person, ...] = ()
    for battery in batteries:
        found.update(dict.fromkeys(battery.validated_by))
        for line in battery.observations:
            if line.validated_by is not last:  # equal fields give the same object
                last = line.validated_by
                found.update(dict.fromkeys(last))
    return tuple(found)
