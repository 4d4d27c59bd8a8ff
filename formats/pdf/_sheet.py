"""What surrounds the table: laboratory, patient, prescriber, banners, end of report, footers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from dlx.contracts import Options
from dlx.report import Attachment, Patient, Person, Report, ReportStatus
from formats.pdf._fonts import Face, faces
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
    Fill,
    Line,
    Run,
    gap,
    wrapped,
)
from formats.pdf._results import FULL, Cell, Column, kept, stacked
from formats.pdf._text import Scribe

TITLE = "Compte rendu de biologie médicale"
_MIDDLE = 304.0
_LABORATORY = Column(LEFT, 268)
_ABOUT = Column(_MIDDLE + 10, RIGHT - _MIDDLE - 10, right=True)
_PATIENT = Column(LEFT + 9, _MIDDLE - LEFT - 21)
_DOCTOR = Column(_MIDDLE + 9, RIGHT - _MIDDLE - 18)
FOOT_HEIGHT = 26.0
_BESIDE_HEIGHT = 260.0

_SEXES = {"M": "masculin", "F": "féminin", "A": "ambigu", "O": "autre", "U": "", "N": ""}
_BORN = {"M": "Né le", "F": "Née le"}
_IDENTITIES = {
    "VALI": "identité validée",
    "PROV": "identité provisoire",
    "DOUB": "identité douteuse",
    "FILI": "identité fictive",
    "CACH": "identité cachée",
}
# OIDs of the INS authorities (ANS, annex « Prise en charge de l'INS »).
_INS_KINDS = {"8": "NIR", "9": "NIA", "10": "NIR de test", "11": "NIA de test"}


class Sheet:
    """Writes everything of one report but its results."""

    def __init__(self, report: Report, options: Options, scribe: Scribe) -> None:
        self.report = report
        self.options = options
        self.scribe = scribe
        self.regular, self.bold, self.fixed = faces()
        self.losses: list[str] = []

    # — top of the first page —

    def opening(self) -> list[Line]:
        """Laboratory, title, patient, prescriber, times, banners."""
        lines = _beside(self._laboratory(), self._about())
        lines.append(Line(9, fills=(Fill(LEFT, 3, RIGHT - LEFT, 1.1, BLUE),)))
        lines += self._identities()
        lines.append(gap(6))
        for text, ink in self._banners():
            lines += self._banner(text, ink)
        return [line._replace(keep=True) for line in lines]

    def laboratory_name(self) -> str:
        """As the options or the report say."""
        given = self.options.get("laboratory.name", "") or self.report.laboratory.name
        return given or self.report.issuer

    def _laboratory(self) -> list[Line]:
        options = self.options
        name = self.scribe.exact(self.laboratory_name())
        titles = wrapped(name, self.bold, 13, _LABORATORY.width) if name else []
        lines = stacked([Cell(_LABORATORY, self.bold, 13, titles, BLUE)], 17)
        details = [part.strip() for part in options.get("laboratory.address", "").split(";")]
        finess = _number(self.report.laboratory, "FINESS", "FINEG", "FINEJ")
        details.append(f"FINESS {finess}" if finess else "")
        details.append(options.get("accreditation", ""))
        return lines + self._small(_LABORATORY, details)

    def _about(self) -> list[Line]:
        report = self.report
        lines = stacked([Cell(_ABOUT, self.bold, 10.5, [TITLE])], 17)
        number = f"Dossier n° {self.scribe.exact(report.number)}"
        lines += self._texts(_ABOUT, self.bold, 9, [number], 12)
        issued = f"Édité le {report.issued.french}" if report.issued else ""
        visit = f"Séjour {report.visit}" if report.visit else ""
        ward = f"Service {report.ward}" if report.ward else ""
        if report.urgent:
            lines += self._texts(_ABOUT, self.bold, 9, ["URGENT"], 12, RED)
        return lines + self._small(_ABOUT, [issued, visit, ward])

    def _small(self, column: Column, texts: Iterable[str], ink: str = GREY) -> list[Line]:
        return self._texts(
            column, self.regular, 7.6, [self.scribe.exact(t) for t in texts], 10, ink
        )

    def _texts(
        self,
        column: Column,
        face: Face,
        size: float,
        texts: Iterable[str],
        pitch: float,
        ink: str = BLACK,
    ) -> list[Line]:
        cut = [part for text in texts if text for part in wrapped(text, face, size, column.width)]
        return stacked([Cell(column, face, size, cut, ink)], pitch)

    # — identities —

    def _identities(self) -> list[Line]:
        left, right = self._patient(), self._doctors()
        inner = [gap(5), *_beside(left, right), gap(5)]
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
        lines = self._caption(_PATIENT, "Patient")
        lines += self._texts(_PATIENT, self.bold, 10.2, [name], 13)
        birth = patient.birth_name if patient.used_name != patient.birth_name else ""
        texts = [
            f"Nom de naissance : {birth}" if birth and patient.used_name else "",
            self._birth(patient),
            *self._ins(patient),
            self._local(patient),
            *patient.address,
            f"{patient.postal_code} {patient.city}".strip(),
            f"Décès : {patient.died.french_date}" if patient.died else "",
            *(comment.text for comment in self.report.patient_comments),
        ]
        return lines + self._small(_PATIENT, texts, BLACK)

    @staticmethod
    def _birth(patient: Patient) -> str:
        date = patient.birth_date.french_date if patient.birth_date else patient.birth_date_text
        sex = _SEXES.get(patient.sex.upper(), patient.sex)
        born = f"{_BORN.get(patient.sex.upper(), 'Né(e) le')} {date}" if date else ""
        return " · ".join(part for part in (born, f"Sexe : {sex}" if sex else "") if part)

    def _ins(self, patient: Patient) -> list[str]:
        """The matricule only when it is qualified (ins.md §3: INS and validated identity)."""
        found = next((i for i in patient.identifiers if i.type == "INS"), None)
        known = _IDENTITIES.get(patient.reliability, "")
        if found is None:
            return [known]
        if patient.reliability != "VALI":
            self.losses.append("matricule INS non imprimé : identité non qualifiée")
            return [f"INS non qualifiée{f' ({known})' if known else ''}"]
        kind = _INS_KINDS.get(found.oid.rpartition(".")[2], "")
        nature = f" ({kind}), identité qualifiée" if kind else ", identité qualifiée"
        return [f"INS : {found.value}{nature}"]

    @staticmethod
    def _local(patient: Patient) -> str:
        number = patient.identifier("PI")
        return f"N° patient : {number}" if number else ""

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
                lines += self._caption(_DOCTOR, caption)
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

    def _caption(self, column: Column, text: str) -> list[Line]:
        return self._texts(column, self.regular, 6.8, [text], 9.5, GREY)

    # — banners —

    def _banners(self) -> Iterator[tuple[str, str]]:
        report = self.report
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

    def _banner(self, text: str, ink: str) -> list[Line]:
        run = Run(LEFT + 10, 13.2, self.bold, 10, text, ink, RIGHT - LEFT - 20)
        back = Fill(LEFT, 0, RIGHT - LEFT, 20, ALARM if ink == RED else BAND)
        edges = (
            Fill(LEFT, 0, RIGHT - LEFT, 0.9, ink),
            Fill(LEFT, 19.1, RIGHT - LEFT, 0.9, ink),
        )
        return [Line(20, (run,), (back, *edges)), gap(5)]

    # — after the results —

    def text(self) -> Iterator[Line]:
        """The report as the laboratory's own text, in fixed pitch; narrower when lines are long."""
        if not self.report.text:
            return
        text = self.scribe.exact(self.report.text).rstrip("\n")
        longest = max(self.fixed.width(line, 1) for line in text.split("\n"))
        size = max(5.0, min(7.4, FULL.width / longest)) if longest else 7.4
        lines = wrapped(text, self.fixed, size, FULL.width + 0.01)
        yield from stacked([Cell(FULL, self.fixed, size, lines)], size * 1.32)

    def closing(self, legend: str) -> Iterator[Line]:
        """Report comments, attachments, legend of the signs, validation."""
        if self.report.comments:
            yield from self._heading("Commentaires")
            texts = [self.scribe.remark(comment.text) for comment in self.report.comments]
            yield from kept(self._texts(FULL, self.regular, 8, texts, 10.8))
        documents = [*self.report.attachments, *_attached(self.report)]
        if documents:
            self.losses.append("documents joints cités, non reproduits dans le PDF")
            yield from self._heading("Documents joints")
            texts = [f"– {self.scribe.remark(_document(document))}" for document in documents]
            yield from kept(self._texts(FULL, self.regular, 8, texts, 10.8))
        yield from kept(list(self._signature(legend)))

    def _heading(self, text: str) -> list[Line]:
        line = stacked([Cell(FULL, self.bold, 8.8, [text], BLUE)], 12.5)[0]
        return [gap(9, keep=True), line._replace(keep=True)]

    def _signature(self, legend: str) -> Iterator[Line]:
        people = [described(person) for person in validators(self.report)]
        if legend:
            yield gap(9)
            rule = Fill(LEFT, 0, RIGHT - LEFT, 0.5, RULE)
            lines = self._texts(FULL, self.regular, 6.8, [legend], 9, GREY)
            yield lines[0]._replace(fills=(rule,))
            yield from lines[1:]
        if people:
            yield gap(8)
            text = f"Validé par {', '.join(self.scribe.exact(person) for person in people)}"
            yield from self._texts(FULL, self.bold, 8.2, [text], 11)

    # — every page —

    def running_head(self) -> list[Line]:
        """Top of the second and later pages."""
        report = self.report
        name = self.scribe.exact(self.laboratory_name())
        left = Column(LEFT, 260)
        name, size = _shortened(name, self.bold, 8, left.width)
        line = stacked(
            [
                Cell(left, self.bold, size, [name], BLUE),
                Cell(Column(_MIDDLE, RIGHT - _MIDDLE, right=True), self.regular, 8, [TITLE], GREY),
            ],
            11,
        )[0]
        rule = Fill(LEFT, 12, RIGHT - LEFT, 0.8, BLUE)
        lines = [line._replace(height=20, fills=(rule,))]
        if report.test or report.status is not ReportStatus.FINAL or report.incomplete:
            text = " · ".join(text.partition(" — ")[0] for text, _ in self._banners())
            lines += self._texts(FULL, self.bold, 8.4, [text], 13, RED)
        return lines

    def foot(self, page: int, pages: int) -> tuple[float, Line]:
        """Identity, dossier and page number; placed at the bottom of every page."""
        identity = self.scribe.exact(full_name(self.report.patient))
        born = self._birth(self.report.patient).split(" · ")[0]
        if born:
            identity = f"{identity}, {born[:1].lower()}{born[1:]}"
        name, size = _shortened(identity, self.regular, 7.4, 290)
        number = f"Dossier n° {self.scribe.exact(self.report.number)}"
        dossier, dossier_size = _shortened(number, self.regular, 7.4, 135)
        shown = f"page {page}/{pages}"
        x = RIGHT - self.bold.width(shown, 7.4)
        runs = (
            Run(LEFT, 10, self.regular, size, name, BLACK, 290),
            Run(_MIDDLE + 36, 10, self.regular, dossier_size, dossier, BLACK, 135),
            Run(x, 10, self.bold, 7.4, shown, BLACK, 70),
        )
        rule = Fill(LEFT, 0, RIGHT - LEFT, 0.5, RULE)
        return HEIGHT - BOTTOM - FOOT_HEIGHT + 8, Line(FOOT_HEIGHT - 8, runs, (rule,))


def full_name(patient: Patient) -> str:
    """« Mme NOM Prénoms », the used name first."""
    return " ".join(p for p in (patient.title, patient.family, patient.given_names) if p)


def described(person: Person) -> str:
    """Name and national number."""
    for kind in ("RPPS", "ADELI", "FINESS", "FINEG"):
        if number := _number(person, kind):
            return f"{person.name} ({kind.replace('FINEG', 'FINESS')} {number})".strip()
    return person.name


def validators(report: Report) -> tuple[Person, ...]:
    """The biologists of the report, of its batteries and of its lines, each once."""
    groups = [report.validated_by]
    for battery in report.batteries:
        groups.append(battery.validated_by)
        groups += [line.validated_by for line in battery.observations]
    # Mostly the same object again: comparing that is much cheaper than hashing each.
    objects = {id(person): person for group in groups for person in group}
    return tuple(dict.fromkeys(person for person in objects.values() if person.name))


def _number(person: Person, *kinds: str) -> str:
    return next((i.value for i in person.identifiers if i.type in kinds and i.value), "")


def _attached(report: Report) -> list[Attachment]:
    values = (value for line in report.observations() for value in line.values)
    return [value for value in values if isinstance(value, Attachment)]


def _document(document: Attachment) -> str:
    name = document.title or document.reference or "sans titre"
    kind = document.media_type.removeprefix("application/").upper()
    size = f"{max(1, len(document.content) // 1024)} Ko" if document.content else "non transmis"
    return f"{name} ({', '.join(part for part in (kind, size) if part)})"


def _beside(left: list[Line], right: list[Line]) -> list[Line]:
    """Two columns as one line, or one below the other when that would be too high for a page."""
    heights = [sum(line.height for line in column) for column in (left, right)]
    if max(heights) > _BESIDE_HEIGHT:
        return [*left, *right]
    runs = [run for column in (left, right) for run in _placed(column)]
    return [Line(max(heights), tuple(runs))]


def _placed(lines: list[Line]) -> Iterator[Run]:
    y = 0.0
    for line in lines:
        yield from (run._replace(y=run.y + y) for run in line.runs)
        y += line.height


def _shortened(text: str, face: Face, size: float, room: float) -> tuple[str, float]:
    """Make ``text`` fit by a smaller size, down to 5 points; then cut it, which « … » shows."""
    natural = face.width(text, size)
    if natural <= room:
        return text, size
    if natural * 5.0 / size <= room:
        return text, size * room / natural - 0.001
    first = wrapped(text, face, 5.0, room - face.width("…", 5.0))[0]
    return f"{first}…", 5.0
