"""`text`: the whole report as a plain UTF-8 sheet, for people and for printers.

No software reads it back. Everything the report holds is printed; documents that come with it
cannot be, and are named in ``losses``.
"""

from __future__ import annotations

from dlx.contracts import Format, Options
from dlx.delivery import Rendition
from dlx.errors import RenderError
from dlx.report import Attachment, Patient, Person, Report
from formats import _sheet

_BLANKS = "\u00a0\u202f\u2009\u3000"
_SEX = {"M": "masculin", "F": "féminin", "U": "indéterminé"}


def render(report: Report, to: Person, options: Options) -> Rendition:
    """Print the sheet.

    ``options``: ``width`` columns (80), ``newline`` ``crlf`` or ``lf``. ``to`` is not printed: one
    sheet serves every recipient. Raises RenderError TX-E01 for an unusable option.
    """
    width = _width(options)
    newline = {"crlf": "\r\n", "lf": "\n"}.get(options.get("newline", "crlf"))
    if newline is None:
        raise RenderError("TX-E01", "option newline : crlf ou lf attendu")
    lines = _lines(report, width)
    clean = [line if line.isprintable() else _printable(line) for line in lines]
    content = (newline.join(clean) + newline).encode("utf-8", "replace")
    return Rendition(
        format="text",
        suffix=".txt",
        media_type="text/plain; charset=utf-8",
        content=content,
        losses=_losses(report),
    )


def _width(options: Options) -> int:
    text = options.get("width", "80")
    if not (text.isascii() and text.isdigit() and 60 <= int(text) <= 200):
        raise RenderError("TX-E01", "option width : un nombre de 60 à 200 attendu")
    return int(text)


def _printable(line: str) -> str:
    """Control characters would drive a printer or a terminal: shown as ``?``; blanks are kept."""
    return "".join(c if c.isprintable() or c in _BLANKS else "?" for c in line)


def _lines(report: Report, width: int) -> list[str]:
    lines = _identity(report)
    for warning in _sheet.warnings(report):
        lines += ["", f"*** {warning} ***"]
    body = [line.text for line in _sheet.printed(report, width)]
    lines += ["", *body] if body else []
    for document in report.attachments:
        lines += ["", f"Document joint : {document.title or document.reference or 'sans titre'}"]
    if report.extras:
        lines += ["", "Autres éléments transmis par le laboratoire, tels quels :"]
        lines += [
            part
            for extra in report.extras
            for part in _sheet.wrapped(f"{extra.kind} ({extra.place}) : {extra.text}", width)
        ]
    return [line for part in lines for line in part.split("\n")]


def _identity(report: Report) -> list[str]:
    patient = report.patient
    facts = [
        ("Laboratoire", _sheet.person_text(report.laboratory) or report.issuer),
        ("Compte rendu n°", report.number),
        ("Patient", f"{patient.title} {patient.family} {patient.given_names}".strip()),
        *_traits(patient),
    ]
    if report.addressee and not _sheet.same_person(report.addressee, report.prescriber):
        facts.append(("Destinataire", _sheet.person_text(report.addressee)))
    lines = [f"{word} : {value}" for word, value in facts if value]
    return [*lines, *_sheet.circumstances(report)]


def _traits(patient: Patient) -> list[tuple[str, str]]:
    born = patient.birth_date.french if patient.birth_date else patient.birth_date_text
    place = f" à {patient.birth_place}" if patient.birth_place else ""
    numbers = (f"{i.value} ({i.type})" if i.type else i.value for i in patient.identifiers)
    city = f"{patient.postal_code} {patient.city}".strip()
    return [
        ("Nom de naissance", patient.birth_name if patient.birth_name != patient.family else ""),
        ("Premier prénom", patient.first_given),
        ("Naissance", (born + place).strip()),
        ("Sexe", _SEX.get(patient.sex, patient.sex)),
        ("Numéros", ", ".join(numbers)),
        ("NIR", f"{patient.nir} {patient.nir_key}".strip()),
        ("Identité", patient.reliability),
        ("Adresse", ", ".join((*patient.address, *((city,) if city else ())))),
        ("Téléphone", ", ".join(patient.phones)),
        ("Décès", patient.died.french if patient.died else ""),
    ]


def _losses(report: Report) -> tuple[str, ...]:
    documents = len(report.attachments) + sum(
        isinstance(value, Attachment) for line in report.observations() for value in line.values
    )
    return (f"{documents} document(s) joint(s) nommé(s) mais non transmis",) if documents else ()


def recognises(data: bytes) -> bool:
    """Never: a plain text cannot be told from any other file, and is not read."""
    return False


FORMAT = Format(
    name="text",
    suffix=".txt",
    recognises=recognises,
    render=render,
    options={"width": "80", "newline": "crlf"},
)
