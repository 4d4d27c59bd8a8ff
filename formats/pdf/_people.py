"""Patients and professionals in words."""

from __future__ import annotations

from dlx.report import Patient, Person, Report

_SEXES = {"M": "masculin", "F": "féminin", "A": "ambigu", "O": "autre", "U": "", "N": ""}
_BORN = {"M": "Né le", "F": "Née le"}
IDENTITIES = {
    "VALI": "identité validée",
    "PROV": "identité provisoire",
    "DOUB": "identité douteuse",
    "FILI": "identité fictive",
    "CACH": "identité cachée",
}
# OIDs of the INS authorities (ANS, annex « Prise en charge de l'INS »).
INS_KINDS = {"8": "NIR", "9": "NIA", "10": "NIR de test", "11": "NIA de test"}


def born(patient: Patient) -> str:
    """« Née le 31/01/1960 · Sexe : féminin », as far as known."""
    date = patient.birth_date.french_date if patient.birth_date else patient.birth_date_text
    sex = _SEXES.get(patient.sex.upper(), patient.sex)
    text = f"{_BORN.get(patient.sex.upper(), 'Né(e) le')} {date}" if date else ""
    return " · ".join(part for part in (text, f"Sexe : {sex}" if sex else "") if part)


def local_number(patient: Patient) -> str:
    """« N° patient : 12 », or ""."""
    number = patient.identifier("PI")
    return f"N° patient : {number}" if number else ""


def full_name(patient: Patient) -> str:
    """« Mme NOM Prénoms », the used name first."""
    return " ".join(p for p in (patient.title, patient.family, patient.given_names) if p)


def described(person: Person) -> str:
    """Name and national number."""
    for kind in ("RPPS", "ADELI", "FINESS", "FINEG"):
        if number := national_number(person, kind):
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


def national_number(person: Person, *kinds: str) -> str:
    """The first number of one of ``kinds``, or ""."""
    return next((i.value for i in person.identifiers if i.type in kinds and i.value), "")
