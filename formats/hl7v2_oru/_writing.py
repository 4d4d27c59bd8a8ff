"""A report as ORU^R01 (HL7 v2.5.1 chapter 7, structure ORU_R01; 2.4 and 2.3.1 on demand).

The message is read again before it leaves: what the reader no longer finds is named in
``losses``; a number, an identity, a status or a value that would change is a RenderError.
"""

from __future__ import annotations

import hashlib

from dlx.contracts import Options
from dlx.delivery import Rendition
from dlx.errors import ParseError, RenderError
from dlx.report import Battery, Code, Patient, Person, Report, ReportStatus
from formats.hl7v2 import escaped, read_message
from formats.hl7v2_oru._charset import encoded
from formats.hl7v2_oru._losses import check_essentials, losses_between
from formats.hl7v2_oru._parts import (
    DOCUMENT,
    authority_part,
    code_field,
    components,
    identifier_field,
    notes,
    observer_field,
    people_field,
    segment,
    time_field,
)
from formats.hl7v2_oru._reading import Reader
from formats.hl7v2_oru._results import document_line, result_line, text_line

OPTIONS = {
    "version": "2.5.1",
    "charset": "utf-8",
    "sending_application": "DLX",
    "receiving_application": "",
    "receiving_facility": "",
}
_VERSIONS = ("2.5.1", "2.4", "2.3.1")
_ORDER_STATUS = {
    ReportStatus.PARTIAL: "P",
    ReportStatus.FINAL: "F",
    ReportStatus.CORRECTED: "C",
    ReportStatus.CANCELLED: "X",
}


def render(report: Report, to: Person, options: Options) -> Rendition:
    """Write one report as one message, the same bytes each time; ``to`` is not named in it.

    Args:
        report: any report with a number, a patient's name and birth date.
        options: see ``OPTIONS``. ``version`` 2.5.1, 2.4 or 2.3.1; ``charset`` utf-8, 8859/1 or
            8859/15; applications and facility of MSH-3, -5, -6.

    Raises:
        RenderError: HL7-R01 incomplete report or unknown option; HL7-R02 a required part is
            missing; HL7-R03 a value would change; HL7-R04 a character is not in the set.
    """
    chosen = {**OPTIONS, **options}
    if report.incomplete:
        raise RenderError("HL7-R01", "compte rendu incomplet : rien n'est écrit")
    if chosen["version"] not in _VERSIONS:
        raise RenderError("HL7-R01", f"version HL7 inconnue, attendu : {', '.join(_VERSIONS)}")
    text = _Writer(report, chosen).message()
    content, declared, replaced = encoded(text, report, chosen["charset"])
    losses = losses_between(report, _read_again(content if not replaced else text.encode()))
    if replaced:
        check_essentials(report, _read_again(content))
    return Rendition(
        format="oru",
        suffix=".hl7",
        media_type=f"x-application/hl7-v2+er7; charset={declared}",
        content=content,
        losses=losses + replaced,
    )


def _read_again(content: bytes) -> Report:
    try:
        back = Reader(read_message(content), {}).reports()
    except ParseError as error:
        raise RenderError("HL7-R02", f"compte rendu non représentable : {error.message}") from error
    if len(back) != 1:
        raise RenderError("HL7-R03", "le message écrit ne se relit pas comme un seul compte rendu")
    return back[0]


class _Writer:
    """Writes the segments of one report."""

    def __init__(self, report: Report, options: Options) -> None:
        self._report = report
        self._options = options
        self._recent = options["version"] == "2.5.1"  # has SPM and TQ1
        self._lines: list[str] = []
        self._signed = _anyone(report)
        self._observers: dict[int, str] = {}

    def message(self) -> str:
        """The whole message, with its final CR."""
        self._patient(self._report.patient)
        batteries = self._report.batteries or (Battery(code=DOCUMENT),)
        statuses = self._order_statuses(batteries)
        numbers = self._order_numbers(batteries)
        for rank, battery in enumerate(batteries):
            self._order(rank, battery, statuses[rank], numbers[rank], len(set(numbers)) > 1)
            self._results(battery, last=rank == len(batteries) - 1)
        body = "\r".join(self._lines) + "\r"
        return self._header(hashlib.sha256(body.encode("utf-8", "surrogatepass"))) + body

    def _header(self, digest: hashlib._Hash) -> str:
        """MSH. The control id depends on content and version only, so a repeat has the same."""
        r = self._report
        digest.update(f"\r{r.issuer}\r{r.number}\r{r.version}".encode("utf-8", "surrogatepass"))
        lab = r.laboratory
        own = lab.identifiers[0] if lab.identifiers else None
        facility = [lab.organisation, own.value if own else "", own.type if own else ""]
        charset = {"utf-8": "UNICODE UTF-8"}.get(self._options["charset"], self._options["charset"])
        o = self._options
        fields = {
            3: escaped(o["sending_application"]),
            4: "^".join(map(escaped, facility)).rstrip("^"),
            5: escaped(o["receiving_application"]),
            6: escaped(o["receiving_facility"]),
            7: self._issued(),
            9: "ORU^R01^ORU_R01" if o["version"] != "2.3.1" else "ORU^R01",
            10: digest.hexdigest()[:20].upper(),
            11: "T" if r.test else "P",
            12: o["version"],
            17: "FRA",
            18: charset,
        }
        rest = "|".join(fields.get(n, "") for n in range(3, 19))
        return f"MSH|^~\\&|{rest}\r"

    def _issued(self) -> str:
        if self._report.issued:
            return self._report.issued.hl7
        known = [b.resulted or b.received or b.collected for b in self._report.batteries]
        return max((moment.hl7 for moment in known if moment), default="")

    def _patient(self, p: Patient) -> None:
        nir = escaped(p.nir + p.nir_key)
        home = [*p.address[:1], " ".join(p.address[1:])] if p.address else ["", ""]
        place = ["", "", ""] if p.birth_place.isalnum() else ["", "", escaped(p.birth_place)]
        code = escaped(p.birth_place) if p.birth_place.isalnum() else ""
        address = "^".join(
            [*map(escaped, home), escaped(p.city), "", escaped(p.postal_code), "", ""]
        ).rstrip("^")
        birth = "^".join([*place, "", "", "", "BDL", "", code]).rstrip("^")
        fields = {
            1: "1",
            3: "~".join(identifier_field(one) for one in p.identifiers),
            5: _names(p),
            7: p.birth_date.hl7 if p.birth_date else escaped(p.birth_date_text),
            8: escaped(p.sex),
            11: "~".join(part for part in (address, birth if p.birth_place else "") if part),
            13: "~".join(map(escaped, p.phones)),
            19: nir,
            29: time_field(p.died),
        }
        if self._options["version"] != "2.3.1":
            fields[32] = escaped(p.reliability)
        self._lines.append(segment("PID", fields))
        if self._report.treating:
            self._lines.append(segment("PD1", {4: people_field((self._report.treating,))}))
        self._lines += notes(self._report.patient_comments)
        if self._report.visit or self._report.ward:
            visit = {1: "1", 2: "N", 3: escaped(self._report.ward), 19: escaped(self._report.visit)}
            self._lines.append(segment("PV1", visit))

    def _order_statuses(self, batteries: tuple[Battery, ...]) -> list[str]:
        """OBR-25 of every order, so that the whole says the status of the report."""
        wanted = _ORDER_STATUS[self._report.status]
        statuses = [battery.status or wanted for battery in batteries]
        lines = {line.status.value for battery in batteries for line in battery.observations}
        match self._report.status:
            case ReportStatus.CANCELLED:
                return ["X"] * len(statuses)
            case ReportStatus.PARTIAL:
                said = bool(set(statuses) & set("PSIRAO") or lines & set("PSIR"))
            case ReportStatus.CORRECTED:
                said = bool("C" in statuses or lines & set("CDW"))
            case _:
                said = True
        return statuses if said else [wanted, *statuses[1:]]

    def _order_numbers(self, batteries: tuple[Battery, ...]) -> list[str]:
        """OBR-3 of every order: its own number only where the orders differ."""
        numbers = [battery.number or self._report.number for battery in batteries]
        if len(set(numbers)) == 1:
            return [self._report.number] * len(numbers)
        return numbers

    def _order(self, rank: int, b: Battery, status: str, number: str, grouped: bool) -> None:
        r = self._report
        first = rank == 0
        filler = components(number, r.issuer)
        whole = components(r.number, r.issuer)
        placer = escaped(b.placer_number)
        asked = [p for p in (r.prescriber,) if p]
        asked += [p for p in r.copies if p.role == "prescriber"]
        prescriber = people_field(tuple(asked))
        orc = {1: "RE", 2: placer, 3: filler, 4: whole if grouped else "", 12: prescriber}
        if r.establishment:
            orc[21] = _facility(r.establishment)
        self._lines.append(segment("ORC", orc))
        collected = any(one.collected for one in r.batteries)
        received = any(one.received for one in r.batteries)
        urgent = first and r.urgent
        observer = b.validated_by or (r.validated_by if first and not self._signed else ())
        obr = {
            1: str(rank + 1),
            2: placer,
            3: filler,
            4: code_field(b.code, *b.alternates[:1]),
            7: time_field(b.collected or (r.collected if first and not collected else None)),
            14: time_field(b.received or (r.received if first and not received else None)),
            15: f"&{escaped(b.specimen)}" if b.specimen and not self._recent else "",
            16: prescriber,
            22: time_field(b.resulted),
            24: escaped(b.section),
            25: escaped(status),
            27: "^^^^^S" if urgent and not self._recent else "",
            28: people_field(tuple(p for p in r.copies if p.role != "prescriber")),
            32: observer_field(observer),
        }
        if b.parent:
            code = b.parent.code or Code()
            parts = "&".join(map(escaped, (code.code, code.text, code.system))).rstrip("&")
            obr[26] = f"{parts}^{components(b.parent.sub_id, b.parent.text)}".rstrip("^")
            obr[29] = f"^{escaped(b.parent.number)}" if b.parent.number else ""
        self._lines.append(segment("OBR", obr))
        self._lines += notes((*(r.comments if first else ()), *b.comments))
        if urgent and self._recent:
            self._lines.append(segment("TQ1", {1: "1", 9: "S"}))

    def _results(self, battery: Battery, *, last: bool) -> None:
        r = self._report
        rank = 0
        for rank, line in enumerate(battery.observations, start=1):
            observer = self._observer(line.validated_by)
            written = result_line(rank, line, observer, r.status, self._options["version"])
            self._lines.append(written)
            if line.comments:
                self._lines += notes(line.comments)
        if r.text and not r.batteries:
            rank += 1
            self._lines.append(text_line(rank, r.text, r.status))
        for attachment in r.attachments if last else ():
            rank += 1
            self._lines.append(document_line(rank, attachment, r.status))
        if battery.specimen and self._recent:
            self._lines.append(segment("SPM", {1: "1", 4: f"^{escaped(battery.specimen)}"}))

    def _observer(self, people: tuple[Person, ...]) -> str:
        """OBX-16; the lines of a report that was read share one tuple, written once."""
        known = self._observers.get(id(people))
        if known is None:
            known = self._observers[id(people)] = people_field(people)
        return known


def _names(p: Patient) -> str:
    """PID-5: birth name (L) and used name (D); XPN-2 first, XPN-3 all birth given names."""
    first, listed = p.given_names, ""
    if p.first_given and p.given_names.casefold().startswith(p.first_given.casefold()):
        first, listed = p.first_given, p.given_names
    names = []
    for family, kind in ((p.birth_name, "L"), (p.used_name, "D")):
        if family:
            own = map(escaped, (family, first, listed))
            names.append("^".join([*own, "", escaped(p.title), "", kind]))
    return "~".join(names)


def _facility(person: Person) -> str:
    """An XON: name in 1, authority in 6, type in 7, number in 10."""
    own = person.identifiers[0] if person.identifiers else None
    name = escaped(person.organisation or person.name)
    if own is None:
        return name
    number = [authority_part(own), escaped(own.type), "", "", escaped(own.value)]
    return "^".join([name, "", "", "", "", *number])


def _anyone(report: Report) -> bool:
    """True when a line or an order names who validated it."""
    return any(
        b.validated_by or any(o.validated_by for o in b.observations) for b in report.batteries
    )
