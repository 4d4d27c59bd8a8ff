"""What routing knows of a report: codes, flags and identifiers, never a value.

The render worker reads the hostile bytes and answers with these facts; the station routes on them
and keeps them in the ledger, so that ``explain`` and ``plan`` can route again later.
"""

from __future__ import annotations

import hashlib
import unicodedata
from dataclasses import dataclass, field, replace
from datetime import date

from dlx.report import Person, Report, ReportStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """One report as routing sees it.

    Attributes:
        number, issuer: key of the report.
        status: of this version; ``has_results`` is False when it carries no result line at all.
        patient_key: SHA-256 of the normalised identity traits: equal for the same person, says
            nothing by itself; the ledger stores it under a keyed hash.
        patient_ids: local and national identifiers, hashed in the same way.
        birth_date: ISO, for rules on age; never stored.
        prescriber, copies, treating, addressee, establishment: as named in the report.
        urgent, critical, abnormal, test, incomplete: flags of the report.
        tags: further facts that policies may name: ``opposition``, ``secrecy``, ``origin:…``.
        content_key: SHA-256 of what the version says (not of the file): equal when nothing changed.
    """

    number: str
    issuer: str = ""
    status: ReportStatus = ReportStatus.FINAL
    corrects: bool = False
    has_results: bool = True
    patient_key: str = ""
    patient_ids: tuple[str, ...] = ()
    birth_date: str = ""
    prescriber: Person | None = None
    copies: tuple[Person, ...] = ()
    treating: Person | None = None
    addressee: Person | None = None
    establishment: Person | None = None
    urgent: bool = False
    critical: bool = False
    abnormal: bool = False
    test: bool = False
    incomplete: bool = False
    sections: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    message_id: str = ""
    issued: str = ""
    content_key: str = ""
    source_format: str = ""
    diagnostics: tuple[str, ...] = field(default=())


def normalised(text: str) -> str:
    """Upper case letters and digits without accents, single blanks (INS strict traits)."""
    plain = unicodedata.normalize("NFKD", text.upper().replace("Œ", "OE").replace("Æ", "AE"))
    kept = "".join(c if c.isalnum() else " " for c in plain if not unicodedata.combining(c))
    return " ".join(kept.split())


def _hash(*parts: str) -> str:
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()


def patient_key_of(report: Report) -> str:
    """Hash of birth name, first given name and birth date; "" when the name is missing."""
    p = report.patient
    family = normalised(p.birth_name or p.used_name)
    if not family:
        return ""
    given = normalised(p.first_given or p.given_names).split(" ")[0]
    born = p.birth_date.digits[:8] if p.birth_date else ""
    return _hash("traits", family, given, born)


def facts_of(report: Report, *, content_key: str, diagnostics: tuple[str, ...] = ()) -> Facts:
    """Extract the facts. ``content_key`` is the hash of the report's content, see ``Facts``."""
    lines = report.observations()
    return Facts(
        number=report.number,
        issuer=report.issuer,
        status=report.status,
        corrects=report.status is ReportStatus.CORRECTED,
        has_results=bool(lines or report.text or report.attachments),
        patient_key=patient_key_of(report),
        patient_ids=tuple(
            _hash(i.type, i.oid or i.authority, i.value) for i in report.patient.identifiers
        ),
        birth_date=report.patient.birth_date.iso[:10] if report.patient.birth_date else "",
        prescriber=report.prescriber,
        copies=report.copies,
        treating=report.treating,
        addressee=report.addressee,
        establishment=report.establishment,
        urgent=report.urgent,
        critical=any(line.critical for line in lines),
        abnormal=any(line.abnormal for line in lines),
        test=report.test,
        incomplete=report.incomplete,
        sections=tuple(dict.fromkeys(b.section for b in report.batteries if b.section)),
        message_id=report.message_id,
        issued=report.issued.hl7 if report.issued else "",
        content_key=content_key,
        source_format=report.source_format,
        diagnostics=diagnostics,
    )


def without_identity(facts: Facts) -> Facts:
    """The same facts as they may be stored: no birth date, no readable patient identifier."""
    return replace(facts, birth_date="")


def age_on(birth_date: str, day: date) -> int | None:
    """Whole years between an ISO birth date and ``day``; None when the date is not complete."""
    try:
        born = date.fromisoformat(birth_date)
    except ValueError:
        return None
    return day.year - born.year - ((day.month, day.day) < (born.month, born.day))
