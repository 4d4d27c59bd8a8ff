"""An HPRIM Santé ORU message as reports: one per patient and laboratory request."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from dlx.contracts import Options, Parsed, RefusedPart
from dlx.errors import ParseError
from dlx.report import (
    Battery,
    Code,
    Comment,
    Extra,
    Person,
    Report,
    ReportStatus,
    ResultStatus,
)
from formats.hprim_medecin.decoding import decoded
from formats.hprim_sante.people import doctor, moment, patient, site
from formats.hprim_sante.reading import Message, Segment, read
from formats.hprim_sante.results import observation
from formats.hprim_sante.syntax import Syntax, part, separators_of

_HEAD = re.compile(r"\s*(?:[^\n]*\n){0,3}?(H[^0-9A-Za-z\s]{5}[^\n]*)")
_UNVALIDATED = frozenset((ResultStatus.UNVERIFIED, ResultStatus.PRELIMINARY, ResultStatus.PARTIAL))
# Fields that are read into the report or that only serve the layout of the message; every other
# field that is filled is kept as an Extra.
_READ = {
    "H": {1, 2, 3, 5, 7, 10, 12, 13, 14},
    "P": {1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 22, 23, 26, 34, 35, 39},
    "OBR": {1, 2, 3, 4, 5, 6, 7, 8, 12, 14, 15, 16, 17, 18, 23, 25, 26, 29, 33},
    "OBX": {1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15, 16, 17},
}
# Sub-fields of P that the report has no word for.
_PARTS = {3: (2, 3), 5: (2,), 6: (4, 6), 11: (4,), 35: (3, 4)}
_OTHERS = ("MSH", "FHS", "BHS", "<", "%PDF")
_OTHER_BYTES = tuple(word.encode() for word in _OTHERS)
_WORDS = {
    "8.3": "identité à fusionner",
    "8.5": "rang de naissance",
    "8.6": "autre nom",
    "8.11": "département",
    "8.24": "mouvement",
    "8.25": "type de venue",
    "9.32": "motif",
}


def recognises(data: bytes) -> bool:
    """True when the first lines hold an H segment with five separators and a context."""
    if data.startswith(_OTHER_BYTES):
        return False
    try:
        text = decoded(data[: len(data) - len(data) % 2][:4096], "HS-E08").text
        found = _HEAD.match(text)
        if found is None or text.lstrip().startswith(_OTHERS):
            return False
        signs = separators_of(found[1])
    except ParseError:
        return False
    fields = found[1].split(signs.field)
    context = part(fields, 7).split(signs.component)[0]
    return context.isalpha() and context.isupper() and len(context) == 3


def parse(data: bytes, options: Options) -> Parsed:
    """Read a message of context ORU; ``options`` may say ``strict: yes``.

    Each P gives one report per laboratory request (9.4), in file order. A patient without name or
    request number is refused alone (HS-E07) when others can be read.

    Raises ParseError with the codes of ``reading.read``, HS-E09 (damaged base64) or HS-E10 (a
    context that carries no report).
    """
    message = read(data, strict=options.get("strict", "no") == "yes")
    if message.context != "ORU":
        raise ParseError(
            "HS-E10", f"contexte {message.context} : pas un compte rendu", line=1, column=7
        )
    head, patients = _grouped(message)
    reports: list[Report] = []
    refused: list[RefusedPart] = []
    for position, group in enumerate(patients, 1):
        try:
            reports += _reports(message, head, group)
        except ParseError as error:
            refused.append(RefusedPart(position=position, error=error))
    if not reports:
        if refused:
            raise refused[0].error
        raise ParseError("HS-E05", "aucun patient dans le message")
    return Parsed(
        reports=tuple(reports),
        diagnostics=message.diagnostics,
        refused=tuple(refused),
    )


@dataclass(kw_only=True)
class _Node:
    """A segment with the comments and segments that belong to it."""

    segment: Segment
    comments: list[Comment] = field(default_factory=list)
    children: list[_Node] = field(default_factory=list)
    extras: list[Extra] = field(default_factory=list)


def _grouped(message: Message) -> tuple[_Node, list[_Node]]:
    """The message as a tree: H, its P, their OBR, their OBX; each C under what it comments."""
    head = _Node(segment=message.segments[0])
    patients: list[_Node] = []
    request = last = head
    for segment in message.segments[1:-1]:
        match segment.name:
            case "P":
                last = _Node(segment=segment)
                patients.append(last)
            case "OBR":
                last = request = _Node(segment=segment)
                patients[-1].children.append(request)
            case "OBX":
                last = _Node(segment=segment)
                request.children.append(last)
            case "C":
                last.comments.append(_comment(segment, message.syntax))
            case name:
                place = f"après {last.segment.name} {part(last.segment.fields, 2)}".strip()
                owner = patients[-1] if patients else head
                owner.extras.append(Extra(place=place, kind=name, text=segment.text))
    return head, patients


def _comment(segment: Segment, syntax: Syntax) -> Comment:
    lines = [syntax.plain_line(line) for line in syntax.repeats(part(segment.fields, 4))]
    return Comment(text="\n".join(lines), source=syntax.plain(part(segment.fields, 3)))


def _reports(message: Message, head: _Node, group: _Node) -> list[Report]:
    syntax, fields = message.syntax, group.segment.fields
    if not any(syntax.components(part(fields, n))[0] for n in (6, 7)):
        raise ParseError("HS-E07", "nom du patient absent", line=group.segment.line, column=6)
    requests: dict[str, list[_Node]] = {}
    number = ""
    for node in group.children:
        number = _number(node.segment, syntax) or number
        if not number:
            raise ParseError(
                "HS-E07", "numéro de demande absent (9.4)", line=node.segment.line, column=4
            )
        requests.setdefault(number, []).append(node)
    if not requests:
        raise ParseError("HS-E05", "patient sans demande (OBR)", line=group.segment.line)
    return [_report(message, head, group, number, nodes) for number, nodes in requests.items()]


def _number(segment: Segment, syntax: Syntax) -> str:
    """The laboratory's request, else its sample, else the requester's request."""
    own = syntax.components(part(segment.fields, 4))
    theirs = syntax.components(part(segment.fields, 3))
    return part(own, 2) or part(own, 1) or part(theirs, 2)


def _report(message: Message, head: _Node, group: _Node, number: str, nodes: list[_Node]) -> Report:
    syntax = message.syntax
    fields, first = group.segment.fields, nodes[0].segment.fields
    batteries = tuple(_battery(node, syntax) for node in nodes)
    doctors = _doctors(part(fields, 14), syntax, "treating")
    prescriber = _prescriber(nodes, syntax)
    return Report(
        number=number,
        issuer=part(list(message.sender), 1) or part(list(message.sender), 2),
        status=_status(batteries),
        patient=patient(
            fields, syntax, part(list(message.receiver), 1), part(list(message.sender), 1)
        ),
        laboratory=site(list(message.sender), "laboratory"),
        prescriber=prescriber,
        copies=_copies(nodes, syntax),
        treating=doctors[0] if doctors else None,
        establishment=site(list(message.receiver), "establishment"),
        visit=part(syntax.components(part(fields, 5)), 1),
        ward=_ward(fields, nodes, syntax),
        collected=batteries[0].collected,
        received=batteries[0].received,
        issued=moment(syntax.plain(part(first, 23))) or moment(_timestamp(message)),
        urgent=any(
            syntax.plain(one) in ("S", "A")
            for node in nodes
            for one in syntax.repeats(part(node.segment.fields, 6))
        ),
        test=message.processing in ("T", "D"),
        batteries=batteries,
        comments=tuple(head.comments),
        patient_comments=(*_requester_comments(fields, syntax), *group.comments),
        extras=(
            *_extras(head, syntax),
            *_extras(group, syntax),
            *(
                Extra(place=group.segment.name, kind="8.14", text=person.name)
                for person in doctors[1:]
            ),
            *(extra for node in nodes for extra in _request_extras(node, syntax)),
        ),
        message_id=message.message_name,
        source_format="hprim-sante",
    )


def _timestamp(message: Message) -> str:
    return message.syntax.plain(part(message.segments[0].fields, 14))


def _status(batteries: tuple[Battery, ...]) -> ReportStatus:
    """Of the whole request (9.26); a line that is not validated makes it partial in any case."""
    words = {battery.status for battery in batteries}
    results = {line.status for battery in batteries for line in battery.observations}
    if words and words <= {"D", "X"}:
        return ReportStatus.CANCELLED
    if words - {"F", "C", "D", "X", ""} or results & _UNVALIDATED:
        return ReportStatus.PARTIAL
    if "" in words and ResultStatus.PENDING in results:
        return ReportStatus.PARTIAL
    if "C" in words or ("" in words and ResultStatus.CORRECTED in results):
        return ReportStatus.CORRECTED
    return ReportStatus.FINAL


def _doctors(repeated: str, syntax: Syntax, role: str) -> list[Person]:
    found = [doctor(one, syntax, role) for one in syntax.repeats(repeated)]
    return [person for person in found if person is not None]


def _prescriber(nodes: list[_Node], syntax: Syntax) -> Person | None:
    for node in nodes:
        for person in _doctors(part(node.segment.fields, 17), syntax, "prescriber"):
            return person
    return None


def _copies(nodes: list[_Node], syntax: Syntax) -> tuple[Person, ...]:
    copies: list[Person] = []
    for node in nodes:
        for person in _doctors(part(node.segment.fields, 29), syntax, "copy"):
            if person not in copies:
                copies.append(person)
    return tuple(copies)


def _ward(fields: list[str], nodes: list[_Node], syntax: Syntax) -> str:
    """8.26 is bed~room~ward; else the prescriber's ward."""
    place = syntax.components(part(fields, 26))
    if part(place, 3):
        bed = [
            f"{word} {text}"
            for word, text in (("chambre", part(place, 2)), ("lit", part(place, 1)))
            if text
        ]
        return ", ".join([part(place, 3), *bed])
    for node in nodes:
        parts = syntax.components(part(node.segment.fields, 17))
        if ward := part(parts, 6) or part(parts, 5):
            return ward
    return ""


def _requester_comments(fields: list[str], syntax: Syntax) -> tuple[Comment, ...]:
    texts = (syntax.plain(part(fields, number)) for number in (22, 23))
    return tuple(Comment(text=text, source="P") for text in texts if text)


def _battery(node: _Node, syntax: Syntax) -> Battery:
    fields = node.segment.fields
    codes = [_code(one, syntax) for one in syntax.repeats(part(fields, 5)) if one]
    lines = tuple(
        observation(child.segment, syntax, tuple(child.comments)) for child in node.children
    )
    taken = syntax.repeats(part(fields, 8))
    clinical = syntax.plain(part(fields, 14))
    theirs, own = (syntax.components(part(fields, number)) for number in (3, 4))
    return Battery(
        code=_asked(codes),
        alternates=tuple(codes) if len(codes) > 1 else (),
        number=part(own, 2) or part(own, 1),
        placer_number=part(theirs, 2) or part(theirs, 1),
        section=_section(node, syntax),
        status=syntax.plain(part(fields, 26)),
        specimen=_specimen(part(fields, 16), syntax),
        collected=moment(taken[0]) if taken else None,
        received=moment(part(fields, 15)) or moment(part(fields, 7)),
        resulted=moment(part(fields, 23)),
        comments=(
            *((Comment(text=clinical, source="P"),) if clinical else ()),
            *node.comments,
        ),
        observations=lines,
        validated_by=tuple(_doctors(part(fields, 33), syntax, "validator")),
    )


def _asked(codes: list[Code]) -> Code:
    """9.5 repeats: several tests have one title together, and each its code in ``alternates``."""
    if len(codes) == 1:
        return codes[0]
    return Code(text=", ".join(code.text or code.code for code in codes))


def _code(repetition: str, syntax: Syntax) -> Code:
    parts = syntax.components(repetition)
    return Code(code=part(parts, 1), text=part(parts, 2), system=part(parts, 3))


def _section(node: _Node, syntax: Syntax) -> str:
    """9.25, else the section of the first result (10.16.1)."""
    parts = syntax.components(part(node.segment.fields, 25))
    if section := part(parts, 2) or part(parts, 1):
        return section
    for child in node.children:
        if section := part(syntax.components(part(child.segment.fields, 16)), 1):
            return section
    return ""


def _specimen(repeated: str, syntax: Syntax) -> str:
    """9.16: code&label&table ~ additive ~ method."""
    parts = syntax.split(repeated, syntax.separators.component)
    words = syntax.split(part(parts, 1), syntax.separators.subcomponent)
    first = syntax.plain(part(words, 2)) or syntax.plain(part(words, 1))
    more = [syntax.plain(text) for text in parts[1:] if text]
    return ", ".join(text for text in (first, *more) if text)


def _extras(node: _Node, syntax: Syntax) -> list[Extra]:
    """Filled fields that the model has no word for, and unexpected segments."""
    name, fields = node.segment.name, node.segment.fields
    rank = part(fields, 2) if name != "H" else ""
    chapter = {"H": 7, "P": 8, "OBR": 9, "OBX": 10}[name]
    read_fields = _READ[name]
    found = [
        _extra(name, rank, f"{chapter}.{number}", syntax.plain(text))
        for number, text in enumerate(fields, 1)
        if text and number not in read_fields
    ]
    if name == "P":
        for number, places in _PARTS.items():
            parts = syntax.components(part(fields, number))
            found += [_extra(name, rank, f"8.{number}", t) for p in places if (t := part(parts, p))]
    return found + node.extras


def _extra(name: str, rank: str, number: str, text: str) -> Extra:
    kind = f"{number} {_WORDS.get(number, '')}".rstrip()
    return Extra(place=f"{name} {rank}".strip(), kind=kind, text=text)


def _request_extras(node: _Node, syntax: Syntax) -> list[Extra]:
    found = _extras(node, syntax)
    taken = syntax.repeats(part(node.segment.fields, 8))
    if len(taken) > 1 and taken[1]:
        place = f"OBR {part(node.segment.fields, 2)}"
        found.append(Extra(place=place, kind="9.8 date de prescription", text=taken[1]))
    for child in node.children:
        if len(child.segment.fields) > 17 or part(child.segment.fields, 10):
            found += _extras(child, syntax)
    return found
