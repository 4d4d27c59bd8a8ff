"""The printed sheet as lines of text, shared by the formats that print (plain text, HPRIM).

One result is one line of fixed columns: label, value, unit, flag, reference. What does not fit is
continued below, indented; remarks start in column 1. No value is rounded, computed or cut.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from dlx.moment import Moment
from dlx.report import (
    Attachment,
    Battery,
    Comment,
    DateValue,
    Observation,
    Person,
    Quantity,
    Report,
    ReportStatus,
    ResultStatus,
    Second,
    Value,
)

LABEL = 32
VALUE = 10
# How far below the last result its next one is looked for: keeps hostile files linear.
_SEARCHED = 400

_WITHDRAWN = {
    ResultStatus.DELETED: "RÉSULTAT ANNULÉ",
    ResultStatus.WRONG: "RÉSULTAT ANNULÉ (attribué à tort)",
}
_WITHOUT_VALUE = {
    ResultStatus.PENDING: "en cours",
    ResultStatus.UNOBTAINABLE: "résultat non obtenu",
    ResultStatus.NOT_ASKED: "non demandé",
    ResultStatus.ORDER_ONLY: "prescrit",
}
_NOT_YET = {
    ResultStatus.PRELIMINARY: "provisoire",
    ResultStatus.UNVERIFIED: "non validé",
    ResultStatus.PARTIAL: "partiel",
    ResultStatus.PENDING: "en cours",
    ResultStatus.CORRECTED: "corrigé",
}
# HL7 table 0074, the codes that French laboratories send.
_SECTIONS = {
    "CHEM": "Biochimie",
    "CH": "Biochimie",
    "HM": "Hématologie",
    "COAG": "Hémostase",
    "MB": "Microbiologie",
    "MCB": "Mycobactériologie",
    "MYC": "Mycologie",
    "PAR": "Parasitologie",
    "VR": "Virologie",
    "SR": "Sérologie",
    "IMM": "Immunologie",
    "TX": "Toxicologie",
    "BLB": "Immuno-hématologie",
    "GE": "Génétique",
    "URN": "Urines",
}
_SUSCEPTIBILITY = {
    "S": "Sensible",
    "I": "Intermédiaire",
    "R": "Résistant",
    "MS": "Modérément sensible",
    "VS": "Très sensible",
}
# Flags as printed; any other is printed as it is.
_FLAGS = {"N": "", "null": "", "Null": ""} | {f: f"{f} {w}" for f, w in _SUSCEPTIBILITY.items()}


class Line(NamedTuple):
    """One line of the sheet.

    Attributes:
        observation: the result that begins on this line, if any.
        continues: the line goes on with the value of the result above.
    """

    text: str
    observation: Observation | None = None
    continues: bool = False


_BLANK = Line("")


def is_withdrawn(observation: Observation) -> bool:
    """True when the laboratory took the result back: its value must not be shown as valid."""
    return observation.status in _WITHDRAWN


def is_antibiogram(battery: Battery, observation: Observation) -> bool:
    """True for a susceptibility line (a flag S, I, R… under a germ)."""
    return any(flag in _SUSCEPTIBILITY for flag in observation.flags) or (
        battery.parent is not None
    )


def value_text(value: Value) -> str:
    """One value as printed; a date in the French form when it is a whole one."""
    if isinstance(value, Quantity):
        return value.text
    if isinstance(value, DateValue):
        moment = Moment.read(value.text)
        return moment.french if moment else value.text
    if isinstance(value, Attachment):
        return f"document joint : {value.title or value.reference or 'sans titre'}"
    return value.text


def wrapped(text: str, width: int, indent: str = "") -> list[str]:
    """Cut at blanks so that no line is longer than ``width``; longer words stay whole.

    Lines that already fit keep their own blanks (tables, indentation).
    """
    lines: list[str] = []
    for whole in text.split("\n"):
        room, rest = width - len(indent), whole.rstrip()
        while len(rest) > room:
            cut = rest.rfind(" ", 0, room + 1)
            if not rest[: max(cut, 0)].strip():
                cut = rest.find(" ", room)
            if cut < 0:
                break
            lines.append(indent + rest[:cut].rstrip())
            rest = rest[cut:].lstrip()
        lines.append(indent + rest if rest else "")
    return lines


def person_text(person: Person) -> str:
    """Name and numbers of a professional: « Dr LEFEVRE-TEST Anne (RPPS 99700000001) »."""
    numbers = ", ".join(f"{i.type} {i.value}".strip() for i in person.identifiers)
    name = person.name
    if person.organisation and person.organisation != name:
        name = f"{name}, {person.organisation}"
    return f"{name} ({numbers})" if name and numbers else name or numbers


def warnings(report: Report) -> list[str]:
    """What a reader must know before the first result, in capital letters."""
    lines = []
    if report.test:
        lines.append("MESSAGE DE TEST : NE PAS UTILISER POUR LES SOINS")
    if report.incomplete:
        lines.append("COMPTE RENDU INCOMPLET : LE FICHIER REÇU DU LABORATOIRE EST COUPÉ")
    match report.status:
        case ReportStatus.PARTIAL:
            lines.append("RÉSULTATS PARTIELS : UN COMPTE RENDU COMPLET SUIVRA")
        case ReportStatus.CORRECTED if report.replaces:
            lines.append(f"COMPTE RENDU CORRIGÉ : ANNULE ET REMPLACE LA VERSION {report.replaces}")
        case ReportStatus.CORRECTED:
            lines.append("COMPTE RENDU CORRIGÉ : ANNULE ET REMPLACE LA VERSION PRÉCÉDENTE")
        case ReportStatus.CANCELLED:
            lines.append("COMPTE RENDU ANNULÉ PAR LE LABORATOIRE")
        case ReportStatus.FINAL:
            pass
    if report.urgent:
        lines.append("URGENT")
    return lines


def circumstances(report: Report, *, addressee: Person | None = None) -> list[str]:
    """Sampling, reception, stay and people: one « Mot : valeur » line each, only what is known.

    ``addressee`` is left out when he is also the prescriber (his name stands elsewhere).
    """
    prescriber = "" if same_person(report.prescriber, addressee) else _of(report.prescriber)
    facts = [
        ("Prélevé le", report.collected.french if report.collected else ""),
        ("Reçu le", report.received.french if report.received else ""),
        ("Édité le", report.issued.french if report.issued else ""),
        ("Séjour", report.visit),
        ("Service", report.ward),
        ("Établissement", _of(report.establishment)),
        ("Prescripteur", prescriber),
        ("Médecin traitant", _of(report.treating)),
        ("Copies", " ; ".join(person_text(person) for person in report.copies)),
        ("Validé par", ", ".join(person.name for person in report.validated_by)),
    ]
    return [f"{word} : {value}" for word, value in facts if value]


def _of(person: Person | None) -> str:
    return person_text(person) if person else ""


def same_person(one: Person | None, other: Person | None) -> bool:
    """True when both are named and bear the same name."""
    return one is not None and other is not None and one.name.upper() == other.name.upper()


def results(report: Report, width: int) -> list[Line]:
    """Chapters, examinations, results and remarks, in the order of the laboratory."""
    section = ""
    signed = report.validated_by
    lines = _remarks(report.patient_comments, width)
    for battery in report.batteries:
        if battery.section and battery.section != section:
            section = battery.section
            lines += (_BLANK, Line(_SECTIONS.get(section, section).upper()))
        lines += _battery_head(battery, width, report)
        for observation in battery.observations:
            lines += observation_lines(observation, width, signed or battery.validated_by)
    if report.comments:
        lines.append(_BLANK)
    return lines + _remarks(report.comments, width)


def _battery_head(battery: Battery, width: int, report: Report) -> list[Line]:
    title = battery.code.text or battery.code.code
    only = len(battery.observations) == 1 and battery.observations[0].label == title
    lines = [_BLANK, Line(title)] if title and not only else []
    details = []
    if battery.parent and battery.parent.text:
        details.append(f"sur {battery.parent.text}")
    if battery.specimen:
        details.append(f"nature : {battery.specimen}")
    if battery.collected and battery.collected != report.collected:
        details.append(f"prélevé le {battery.collected.french}")
    if battery.validated_by and battery.validated_by != report.validated_by:
        details.append("validé par " + ", ".join(p.name for p in battery.validated_by))
    if details:
        text = ", ".join(details)
        lines += _plain(text[0].upper() + text[1:], width)
    return lines + _remarks(battery.comments, width)


def observation_lines(line: Observation, width: int, signed: tuple[Person, ...] = ()) -> list[Line]:
    """The lines of one observation; the first one carries it.

    ``signed``: who validated the whole report, and is not named again on each line.
    """
    if line.is_title:
        lines = [_BLANK, Line(label_of(line), line)]
    elif line.values and not is_withdrawn(line):
        lines = _result(line, width)
    else:
        word = _WITHDRAWN.get(line.status) or _WITHOUT_VALUE.get(line.status, "")
        lines = [Line(f"{label_of(line):<{LABEL}} {word}".rstrip(), line)]
    if line.comments or line.method or line.previous or line.validated_by != signed:
        lines += _notes(line, width, signed)
    return lines


def label_of(line: Observation) -> str:
    """The clear text of a line, else its code."""
    if line.label:
        return line.label.replace("\n", " ").strip()
    return next((code.text or code.code for code in line.codes), "")


def unit_of(line: Observation) -> str:
    """The unit as printed, else what its coding says."""
    code = line.unit_code
    return line.unit or (code.text or code.code if code else "")


def _result(line: Observation, width: int) -> list[Line]:
    label, unit = label_of(line), unit_of(line)
    flags = " ".join([_FLAGS.get(flag, flag) for flag in line.flags])
    limits = _limits(line)
    first = value_text(line.values[0])
    if len(line.values) > 1 or "\n" in first:
        texts = [value_text(value) for value in line.values]
        tail = f"{unit:<10} {flags:<3} {limits}".rstrip()
        lines = _long(label, "\n".join([*texts[:-1], f"{texts[-1]} {tail}"]), line, width)
    else:
        # ljust and rjust: a third of the time of format specifications on the hottest line.
        left = f"{label.ljust(LABEL)} {first.rjust(VALUE)} "
        row = f"{left}{unit.ljust(10)} {flags.ljust(3)} {limits}".rstrip()
        if len(row) <= width:
            lines = [Line(row, line)]
        elif line.unit or line.reference or len(first) <= VALUE:
            # Value, unit and flag stay together on the line of their label, whatever its length.
            rest = wrapped(limits.strip(), width, " " * LABEL)
            lines = [Line(left + f"{unit:<10} {flags}".rstrip(), line)]
            lines += [Line(text, continues=True) for text in rest if text]
        else:
            lines = _long(label, f"{first} {unit:<10} {flags:<3} {limits}", line, width)
    if line.second:
        lines.append(Line(_second(line.second), continues=True))
    return lines


def _long(label: str, text: str, line: Observation, width: int) -> list[Line]:
    """A textual value of several lines: below its label, in column 1, so that nobody hides it."""
    parts = wrapped(text.rstrip(), width)
    return [Line(f"{label} :", line), *(Line(part, continues=True) for part in parts)]


def _limits(line: Observation) -> str:
    reference = f"({line.reference})" if line.reference else ""
    word = _NOT_YET.get(line.status)
    return f"{reference} [{word}]" if word else reference


def _second(second: Second) -> str:
    reference = f"({second.reference})" if second.reference else ""
    return f"{'':<{LABEL}} {second.value.text:>{VALUE}} {second.unit:<10}     {reference}".rstrip()


def _notes(line: Observation, width: int, signed: tuple[Person, ...]) -> list[Line]:
    lines = _remarks(line.comments, width)
    if line.method:
        lines += _plain(f"Méthode : {line.method}", width)
    for previous in line.previous:
        when = f" le {previous.moment.french}" if previous.moment else ""
        text = f"Antériorité : {previous.value} {previous.unit}".rstrip() + when
        lines += _plain(text, width)
    if line.validated_by and line.validated_by != signed:
        lines += _plain("Validé par " + ", ".join(p.name for p in line.validated_by), width)
    return lines


def _remarks(comments: tuple[Comment, ...], width: int) -> list[Line]:
    return [line for comment in comments for line in _plain(comment.text, width)]


def _plain(text: str, width: int) -> list[Line]:
    return [Line(part) for part in wrapped(text, width)]


def squeezed(lines: Iterable[Line]) -> list[Line]:
    """Without blank lines at both ends and never two blank lines in a row."""
    kept: list[Line] = []
    for line in lines:
        if line.text or line.observation or (kept and kept[-1].text):
            kept.append(line)
    while kept and not kept[-1].text and not kept[-1].observation:
        kept.pop()
    return kept


def printed(report: Report, width: int) -> list[Line]:
    """Every line of the body: the laboratory's own printed text when the report has one.

    That text is kept line by line, each result tied to the line that shows it; then come the
    results and remarks which it does not show.
    """
    if not report.text:
        return squeezed(results(report, width))
    own = [Line(text.rstrip()) for text in report.text.split("\n")]
    rows = Matcher([line.text for line in own])
    known = {" ".join(line.text.split()) for line in own}
    more: list[Line] = []
    shown = False
    for line in results(report, width):
        if line.observation is not None:
            place = rows.place_of(line.observation)
            shown = place is not None
            if place is not None:
                own[place] = own[place]._replace(observation=line.observation)
                continue
        if not (line.continues and shown) and " ".join(line.text.split()) not in known:
            more.append(line)
    more = squeezed(more)
    return [*own, Line(""), *more] if more else own


class Matcher:
    """Finds, in order, the printed line that shows a result: label at its start, value in it."""

    def __init__(self, lines: list[str]) -> None:
        self._lines = [line.strip() for line in lines]
        self._next = 0

    def place_of(self, observation: Observation) -> int | None:
        """0-based index of the line of ``observation``, or None; never a line before the last."""
        label = label_of(observation)
        value = value_text(observation.values[0]) if observation.values else ""
        if not label:
            return None
        for index in range(self._next, min(self._next + _SEARCHED, len(self._lines))):
            line = self._lines[index]
            if line.startswith(label) and value in line[len(label) :]:
                self._next = index + 1
                return index
        return None
