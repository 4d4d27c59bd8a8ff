"""What surrounds the table: laboratory, patient, prescriber, banners, end of report, footers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

from dlx.contracts import Options
from dlx.report import Attachment, Extra, Patient, Person, Report, ReportStatus
from formats.pdf._model import (
    ALARM,
    BAND,
    BLACK,
    BLUE,
    BOTTOM,
    GREY,
    HEIGHT,
    LEFT,
    RED,
    RIGHT,
    RULE,
    Cell,
    Column,
    Fill,
    Line,
    Run,
    Style,
    bound,
    gap,
    kept,
    run_in,
    stacked,
    style,
    wrapped,
)
from formats.pdf._people import (
    IDENTITIES,
    INS_KINDS,
    born,
    described,
    full_name,
    local_number,
    national_number,
    validators,
)
from formats.pdf._table import FULL
from formats.pdf._text import Scribe

TITLE = "Compte rendu de biologie médicale"
_MIDDLE = 304.0
_LABORATORY = Column(LEFT, 268)
_ABOUT = Column(_MIDDLE + 10, RIGHT - _MIDDLE - 10, right=True)
_PATIENT = Column(LEFT + 9, _MIDDLE - LEFT - 21)
_DOCTOR = Column(_MIDDLE + 9, RIGHT - _MIDDLE - 18)
FOOT_HEIGHT = 26.0
_BESIDE_HEIGHT = 260.0
_WHO = Column(LEFT, 290)
_WHICH = Column(_MIDDLE + 36, 135)
_PAGE = Column(RIGHT - 70, 70, right=True)
_FOOT_RULE = (Fill(LEFT, 0, RIGHT - LEFT, 0.5, RULE),)
_SEGMENT = re.compile(r"[A-Z][A-Z0-9]{0,4}")


class Sheet:
    """Writes everything of one report but its results."""

    def __init__(self, report: Report, options: Options, scribe: Scribe) -> None:
        self.report = report
        self.options = options
        self.scribe = scribe
        self.losses: list[str] = []
        self.banners = tuple(_banners(report))
        if extras := _kinds(report.extras):
            self.losses.append(f"segments propres à l'émetteur non imprimés : {extras}")

    # — top of the first page —

    def opening(self) -> list[Line]:
        """Laboratory, title, patient, prescriber, times, banners."""
        lines = _beside(self._laboratory(), self._about())
        lines.append(Line(11, (), (Fill(LEFT, 4, RIGHT - LEFT, 1.1, BLUE),)))
        lines += self._identities()
        lines.append(gap(7))
        for text, ink in self.banners:
            lines += _banner(text, ink)
        return bound(lines)

    def laboratory_name(self) -> str:
        """As the options or the report say."""
        given = self.options.get("laboratory.name", "") or self.report.laboratory.name
        return given or self.report.issuer

    def _laboratory(self) -> tuple[Line, ...]:
        options = self.options
        finess = national_number(self.report.laboratory, "FINESS", "FINEG", "FINEJ")
        details = [part.strip() for part in options.get("laboratory.address", "").split(";")]
        details += [f"FINESS {finess}" if finess else "", options.get("accreditation", "")]
        exact = self.scribe.exact
        return _letterhead(exact(self.laboratory_name()), exact("\n".join(filter(None, details))))

    def _about(self) -> list[Line]:
        report = self.report
        lines = list(_title())
        number = f"Dossier n° {self.scribe.exact(report.number)}"
        lines += _texts(_ABOUT, style("bold", 9.4), [number], 12.4)
        if report.urgent:
            lines += _texts(_ABOUT, style("bold", 9.4, RED), ["URGENT"], 12.4)
        return lines + self._small(
            _ABOUT,
            [
                f"Édité le {report.issued.french}" if report.issued else "",
                f"Séjour {report.visit}" if report.visit else "",
                f"Service {report.ward}" if report.ward else "",
            ],
            GREY,
        )

    def _small(self, column: Column, texts: Iterable[str], ink: str) -> list[Line]:
        exact = self.scribe.exact
        return _texts(column, style("regular", 8, ink), [exact(t) for t in texts if t], 10.4)

    # — identities —

    def _identities(self) -> list[Line]:
        inner = [gap(5), *_beside(self._patient(), self._doctors()), gap(6)]
        if len(inner) > 3:
            return inner
        height = sum(line.height for line in inner)
        boxes = (
            Fill(LEFT, 0, _MIDDLE - LEFT - 6, height, BAND),
            Fill(_MIDDLE, 0, RIGHT - _MIDDLE, height, BAND),
        )
        return [inner[0]._replace(fills=boxes), *inner[1:]]

    def _patient(self) -> list[Line]:
        patient = self.report.patient
        exact = self.scribe.exact
        name = exact(full_name(patient)) or "Identité non transmise"
        lines = [
            *_caption(_PATIENT, "Patient"),
            *_texts(_PATIENT, style("bold", 10.6), [name], 13.6),
        ]
        birth = patient.birth_name if patient.used_name != patient.birth_name else ""
        texts = [
            f"Nom de naissance : {birth}" if birth and patient.used_name else "",
            born(patient),
            f"Lieu de naissance : {patient.birth_place}" if patient.birth_place else "",
            *self._ins(patient),
            local_number(patient),
            *patient.address,
            f"{patient.postal_code} {patient.city}".strip(),
            f"Décès : {patient.died.french_date}" if patient.died else "",
            *(comment.text for comment in self.report.patient_comments),
        ]
        return lines + self._small(_PATIENT, texts, BLACK)

    def _ins(self, patient: Patient) -> list[str]:
        """The matricule only when it is qualified (ins.md §3: INS and validated identity)."""
        found = next((i for i in patient.identifiers if i.type == "INS"), None)
        known = IDENTITIES.get(patient.reliability, "")
        if found is None:
            return [known]
        if patient.reliability != "VALI":
            self.losses.append("matricule INS non imprimé : identité non qualifiée")
            return [f"INS non qualifiée{f' ({known})' if known else ''}"]
        kind = INS_KINDS.get(found.oid.rpartition(".")[2], "")
        nature = f" ({kind}), identité qualifiée" if kind else ", identité qualifiée"
        return [f"INS : {found.value}{nature}"]

    def _doctors(self) -> list[Line]:
        report = self.report
        lines: list[Line] = []
        groups: tuple[tuple[str, tuple[Person | None, ...]], ...] = (
            ("Prescripteur", (report.prescriber,)),
            ("Copie à", report.copies),
            ("Médecin traitant", (report.treating,)),
            ("Établissement", (report.establishment,)),
        )
        for caption, people in groups:
            texts = [described(person) for person in people if person and described(person)]
            if texts:
                lines += [gap(3)] if lines else []
                lines += _caption(_DOCTOR, caption)
                lines += self._small(_DOCTOR, texts, BLACK)
        times = self._times()
        if times:
            lines += [gap(3)] if lines else []
            lines += self._small(_DOCTOR, times, BLACK)
        return lines

    def _times(self) -> list[str]:
        report = self.report
        return [
            f"Prélevé le {report.collected.french}" if report.collected else "",
            f"Reçu au laboratoire le {report.received.french}" if report.received else "",
        ]

    # — after the results —

    def text(self) -> Iterator[Line]:
        """The report as the laboratory's own text, in fixed pitch; narrower when lines are long."""
        if not self.report.text:
            return
        text = self.scribe.exact(self.report.text).rstrip("\n")
        unit = style("fixed", 1.0)
        longest = max(unit.width(line) for line in text.split("\n"))
        # In steps of a tenth of a point, so that few sizes exist.
        size = max(50, min(82, int(FULL.width * 10 / longest))) / 10 if longest else 8.2
        fixed = style("fixed", size)
        yield from stacked(
            [Cell(FULL, fixed, wrapped(text, fixed, FULL.width))], round(size * 1.36, 1)
        )

    def closing(self, legend: str) -> Iterator[Line]:
        """Report comments, attachments, legend of the signs, validation."""
        if self.report.comments:
            yield from _heading("Commentaires")
            texts = [self.scribe.remark(comment.text) for comment in self.report.comments]
            yield from kept(_texts(FULL, style("regular", 8.4), texts, 11.2))
        documents = [*self.report.attachments, *_attached(self.report)]
        if documents:
            self.losses.append("documents joints cités, non reproduits dans le PDF")
            yield from _heading("Documents joints")
            texts = [f"– {self.scribe.remark(_document(document))}" for document in documents]
            yield from kept(_texts(FULL, style("regular", 8.4), texts, 11.2))
        yield from kept(list(self._signature(legend)))

    def _signature(self, legend: str) -> Iterator[Line]:
        people = [described(person) for person in validators(self.report)]
        if legend:
            yield gap(9)
            rule = Fill(LEFT, 0, RIGHT - LEFT, 0.5, RULE)
            first, *rest = _texts(FULL, style("regular", 7, GREY), [legend], 10.4)
            yield first._replace(fills=(rule,))
            yield from rest
        if people:
            yield gap(8)
            text = f"Validé par {', '.join(self.scribe.exact(person) for person in people)}"
            yield from _texts(FULL, style("bold", 8.6), [text], 11.4)

    # — every page —

    def running_head(self) -> list[Line]:
        """Top of the second and later pages."""
        left, right = Column(LEFT, 260), Column(_MIDDLE, RIGHT - _MIDDLE, right=True)
        name = self.scribe.exact(self.laboratory_name())
        runs = (
            run_in(left, *_shortened(name, style("bold", 8.4, BLUE), left.width), 11),
            run_in(right, style("regular", 8.4, GREY), TITLE, 11),
        )
        lines = [Line(20, runs, (Fill(LEFT, 12.5, RIGHT - LEFT, 0.8, BLUE),))]
        if self.banners:
            text = " · ".join(text.partition(" — ")[0] for text, _ in self.banners)
            lines += _texts(FULL, style("bold", 8.8, RED), [text], 13)
        return lines

    def foot(self, pages: int) -> list[tuple[float, Line]]:
        """Identity, dossier and page number at the bottom of each of ``pages`` pages."""
        identity = self.scribe.exact(full_name(self.report.patient))
        if birth := born(self.report.patient).split(" · ")[0]:
            identity = f"{identity}, {birth[:1].lower()}{birth[1:]}"
        number = f"Dossier n° {self.scribe.exact(self.report.number)}"
        small = style("regular", 7.8)
        runs = (
            run_in(_WHO, *_shortened(self.scribe.exact(identity), small, _WHO.width), 12.9),
            run_in(_WHICH, *_shortened(number, small, _WHICH.width), 12.9),
        )
        top, bold = HEIGHT - BOTTOM - FOOT_HEIGHT + 8, style("bold", 7.8)
        return [
            (
                top,
                Line(
                    FOOT_HEIGHT - 8,
                    (*runs, run_in(_PAGE, bold, f"page {page}/{pages}", 12.9)),
                    _FOOT_RULE,
                ),
            )
            for page in range(1, pages + 1)
        ]


@lru_cache(maxsize=64)
def _letterhead(name: str, details: str) -> tuple[Line, ...]:
    """The laboratory's own lines, the same on every report."""
    lines = _texts(_LABORATORY, style("bold", 13.4, BLUE), [name] if name else [], 17)
    more = details.split("\n") if details else []
    lines += _texts(_LABORATORY, style("regular", 8, GREY), more, 10.4)
    return tuple(_beside(lines, ()))  # one line, so that its runs are shared by all reports


@lru_cache(maxsize=1)
def _title() -> tuple[Line, ...]:
    return tuple(_texts(_ABOUT, style("bold", 11), [TITLE], 17))


@lru_cache(maxsize=32)
def _caption(column: Column, text: str) -> tuple[Line, ...]:
    return tuple(_texts(column, style("regular", 7, GREY), [text], 9.8))


@lru_cache(maxsize=8)
def _heading(text: str) -> tuple[Line, ...]:
    line = _texts(FULL, style("bold", 9.2, BLUE), [text], 13)
    return (gap(9, keep=True), *bound(line))


def _texts(column: Column, face: Style, texts: Iterable[str], pitch: float) -> list[Line]:
    """Texts one below the other, wrapped in ``column``; empty ones left out."""
    return [
        Line(pitch, (run_in(column, face, part, pitch),))
        for text in texts
        if text
        for part in wrapped(text, face, column.width)
    ]


def _banners(report: Report) -> Iterator[tuple[str, str]]:
    """What must be known before reading, with its ink."""
    if report.test:
        yield "TEST — document d'essai, à ne pas utiliser pour le soin", RED
    if report.status is ReportStatus.CANCELLED:
        yield "Annulé — les résultats de ce compte rendu ne doivent pas être utilisés", RED
    if report.status is ReportStatus.PARTIAL:
        yield "Résultats partiels — un compte rendu complet suivra", BLUE
    if report.status is ReportStatus.CORRECTED:
        former = f"la version {report.replaces}" if report.replaces else "la version précédente"
        yield f"Annule et remplace {former}", RED
    if report.incomplete:
        yield "Transmission incomplète — la fin du fichier du laboratoire manque", RED


@lru_cache(maxsize=64)
def _banner(text: str, ink: str) -> tuple[Line, ...]:
    run = Run(LEFT + 10, 13.4, style("bold", 10.2, ink), text, RIGHT - LEFT - 20)
    back = Fill(LEFT, 0, RIGHT - LEFT, 20, ALARM if ink == RED else BAND)
    edges = (Fill(LEFT, 0, RIGHT - LEFT, 0.9, ink), Fill(LEFT, 19.1, RIGHT - LEFT, 0.9, ink))
    return (Line(20, (run,), (back, *edges)), gap(6))


def _kinds(extras: Iterable[Extra]) -> str:
    """Names of the segments, each once; one that does not look like a name is only counted."""
    kinds = dict.fromkeys(
        extra.kind if _SEGMENT.fullmatch(extra.kind) else "sans nom" for extra in extras
    )
    return ", ".join(kinds)


def _attached(report: Report) -> list[Attachment]:
    values = (value for line in report.observations() for value in line.values)
    return [value for value in values if isinstance(value, Attachment)]


def _document(document: Attachment) -> str:
    name = document.title or document.reference or "sans titre"
    kind = document.media_type.removeprefix("application/").upper()
    size = f"{max(1, len(document.content) // 1024)} Ko" if document.content else "non transmis"
    return f"{name} ({', '.join(part for part in (kind, size) if part)})"


def _beside(left: Sequence[Line], right: Sequence[Line]) -> list[Line]:
    """Two columns as one line, or one below the other when that would be too high for a page."""
    heights = [sum(line.height for line in column) for column in (left, right)]
    if max(heights) > _BESIDE_HEIGHT:
        return [*left, *right]
    runs = [run for column in (left, right) for run in _placed(column)]
    return [Line(max(heights), tuple(runs))]


def _placed(lines: Sequence[Line]) -> Iterator[Run]:
    y = 0.0
    for line in lines:
        for run in line.runs:
            yield run.lower(y) if y else run
        y += line.height


def _shortened(text: str, face: Style, room: float) -> tuple[Style, str]:
    """Make ``text`` fit by a smaller size, down to 5 points; then cut it, which « … » shows."""
    if face.width(text) <= room:
        return face, text
    name = "bold" if face.face.bold else "regular"
    size = int(face.size * 10 * room / face.width(text)) / 10
    if size >= 5:
        return style(name, size, face.ink), text
    least = style(name, 5.0, face.ink)
    return least, f"{wrapped(text, least, room - least.width('…'))[0]}…"
