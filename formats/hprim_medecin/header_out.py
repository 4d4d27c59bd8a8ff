"""The twelve header lines of a HPRIM Médecin file, as every known reader takes them."""

from __future__ import annotations

from dlx.contracts import Options
from dlx.errors import RenderError
from dlx.moment import Moment
from dlx.report import Patient, Person, Report
from formats.hprim_medecin.charset import strict_name

# The matricule INS is the NIR under these authorities (the second is the one of tests).
_INS_NIR = ("1.2.250.1.213.1.4.8", "1.2.250.1.213.1.4.10")
_SEX = {"M": "masculin", "F": "féminin"}


def header_lines(
    report: Report, to: Person, options: Options, losses: dict[str, None]
) -> tuple[list[str], list[str]]:
    """The header, and the text lines that say what it has no place for.

    Raises RenderError HM-R02 when name, given name, birth date, number or every date is missing:
    such a file would be filed nowhere, or under the wrong patient.
    """
    patient = report.patient
    number = _one_line(report.number)
    if not number:
        raise RenderError("HM-R02", "le compte rendu n'a pas de numéro")
    code, more = _patient_code(patient)
    address1, address2, town = _address(patient)
    lines = [
        code,
        _name(patient.family, "nom", losses),
        _name(patient.given_names, "prénom", losses),
        address1,
        address2,
        town,
        _whole_date(patient.birth_date, "date de naissance", losses),
        _nir(patient, options["nir"]),
        number,
        _whole_date(_date_of(report), "date du compte rendu", losses),
        _coded_name(_sender_code(report), report.laboratory.name or report.issuer),
        _coded_name(_code_of(to, options["addressee"]), to.name),
    ]
    return [line.rstrip() for line in lines], more + _other_traits(patient)


def _one_line(text: str) -> str:
    if text.isprintable() and "|" not in text and "****" not in text:
        return text.strip()
    plain = "".join(c if c.isprintable() or c == "\u00a0" else " " for c in text)
    return " ".join(plain.replace("|", "/").replace("***", "---").split())


def _name(text: str, what: str, losses: dict[str, None]) -> str:
    written = strict_name(text)
    if not written:
        raise RenderError("HM-R02", f"{what} du patient absent ou sans lettre latine")
    if written != " ".join(text.upper().split()):
        losses["nom ou prénom du patient écrit sans accent ni apostrophe"] = None
    return written


def _patient_code(patient: Patient) -> tuple[str, list[str]]:
    """Line 1 holds ten characters: a longer number would be cut, so it goes into the text."""
    code = _one_line(patient.identifier("PI"))
    if len(code) <= 10:
        return code, []
    return "", [f"Numéro de patient : {code}"]


def _address(patient: Patient) -> tuple[str, str, str]:
    lines = [text for text in (_one_line(line) for line in patient.address) if text]
    postal, city = _one_line(patient.postal_code), _one_line(patient.city)
    if city and not postal:
        # Readers take the first word of line 6 for the postal code.
        lines.append(city)
        city = ""
    first = lines[0] if lines else ""
    return first, ", ".join(lines[1:]), f"{postal} {city}".strip()


def _whole_date(moment: Moment | None, what: str, losses: dict[str, None]) -> str:
    if moment is None:
        raise RenderError("HM-R02", f"{what} absente")
    digits = moment.digits[:8]
    if len(digits) < 8:
        losses[f"{what} incomplète, complétée par 01"] = None
        digits = (digits + "0101")[:8]
    return f"{digits[6:8]}/{digits[4:6]}/{digits[0:4]}"


def _date_of(report: Report) -> Moment | None:
    """Date of the examination: sampling, else reception, else edition."""
    found = report.collected or report.received or report.issued
    for battery in report.batteries:
        found = found or battery.collected or battery.received or battery.resulted
    return found


def _nir(patient: Patient, layout: str) -> str:
    if layout == "none":
        return ""
    nir, key = patient.nir, patient.nir_key
    if not nir:
        ins = next((i.value for i in patient.identifiers if i.oid in _INS_NIR), "")
        nir, key = ins[:13], ins[13:15]
    nir, key = _one_line(nir), _one_line(key)
    return f"{nir} {key}".strip() if layout == "spaced" else f"{nir}{key}"


def _usable(code: str) -> bool:
    """Ten columns and no blank: what both ways of cutting lines 11 and 12 read alike."""
    return 0 < len(code) <= 10 and code != "." and " " not in code and code.isprintable()


def _sender_code(report: Report) -> str:
    numbers = [report.issuer, *(i.value for i in report.laboratory.identifiers)]
    return next((number for number in numbers if _usable(number)), "")


def _code_of(to: Person, choice: str) -> str:
    if choice == "rpps":
        rpps = next((i.value for i in to.identifiers if i.type == "RPPS"), "")
        if rpps and " " not in rpps:
            return rpps
    own = sorted(to.identifiers, key=lambda i: i.type in ("ADELI", "FINESS"))
    return next((i.value for i in own if _usable(i.value)), "")


def _coded_name(code: str, name: str) -> str:
    return f"{_one_line(code) or '.':<10} {_one_line(name)}"


def _other_traits(patient: Patient) -> list[str]:
    """Traits that the header has no line for."""
    lines = []
    if patient.birth_name and patient.birth_name != patient.family:
        lines.append(f"Nom de naissance : {patient.birth_name}")
    if patient.first_given and patient.first_given != patient.given_names:
        lines.append(f"Premier prénom : {patient.first_given}")
    if patient.sex:
        lines.append(f"Sexe : {_SEX.get(patient.sex, patient.sex)}")
    if patient.birth_place:
        lines.append(f"Lieu de naissance : {patient.birth_place}")
    if ins := patient.identifier("INS"):
        lines.append(f"Matricule INS : {ins} {patient.reliability}".rstrip())
    return lines
