"""File names from a template over safe fields: never a patient, never a value, always the same.

The same delivery gives the same names at every attempt, so that a repeat meets its own files.
"""

from __future__ import annotations

import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dlx.delivery import Delivery, Rendition
from dlx.errors import PermanentFailure

FIELDS: Mapping[str, str] = {
    "delivery": "numéro d'envoi (D…)",
    "report": "numéro du compte rendu dans DLX (R…)",
    "report.ref": "comme {report}",
    "version": "version du compte rendu",
    "recipient": "identifiant de la fiche",
    "establishment.finess": "FINESS du destinataire (option finess: de la route)",
    "sequence": "rang du fichier dans l'envoi, à partir de 1",
    "format": "mot du format (hprim, pdf…)",
    "suffix": "terminaison avec son point (.hpr)",
    "ext": "terminaison sans point (hpr)",
}
"""What a template may name, with the words of the manual."""

SAFE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")
"""What every file server of the field accepts; 64 characters, never a leading dot."""

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedFile:
    """One rendition under its final name."""

    name: str
    content: bytes


def template_problems(template: str) -> list[str]:
    """French sentences of what is wrong with a file name template; empty when it is good."""
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError:
        return [f"filename : accolades mal fermées dans « {template} »"]
    problems = []
    fields = {field for _, field, _, _ in parts if field is not None}
    for field in sorted(fields - FIELDS.keys()):
        known = ", ".join(FIELDS)
        problems.append(f"filename : champ inconnu « {field} » ; champs possibles : {known}")
    if any(_UNSAFE.search(text) for text, _, _, _ in parts):
        problems.append("filename : seuls les caractères A-Z a-z 0-9 . _ - sont permis")
    if not fields & {"delivery", "report", "report.ref"}:
        problems.append(
            "filename : sans {delivery} ni {report}, deux envois auraient le même nom ;"
            " ajoutez {delivery}"
        )
    return problems


def named_files(
    template: str, delivery: Delivery, renditions: Sequence[Rendition]
) -> tuple[NamedFile, ...]:
    """Give every rendition its file name.

    Two renditions that would bear one name (a template without ``{sequence}``, equal suffixes) get
    ``-2``, ``-3`` before their suffix.

    Raises:
        PermanentFailure: ``bad-name``: a name is empty or unsafe.
    """
    taken: set[str] = set()
    files = []
    for rank, rendition in enumerate(renditions, start=1):
        name = _filled(template, _fields_of(delivery, rendition, rank))
        if name in taken:
            stem, dot, ending = name.rpartition(".")
            name = f"{stem}-{rank}{dot}{ending}" if dot else f"{name}-{rank}"
        if SAFE_NAME.fullmatch(name) is None or name in taken:
            raise PermanentFailure(
                "Nom de fichier impossible d'après le modèle du canal",
                code="bad-name",
                cure="raccourcir filename: (64 caractères au plus, A-Z a-z 0-9 . _ -)",
            )
        taken.add(name)
        files.append(NamedFile(name=name, content=rendition.content))
    return tuple(files)


def folder_problems(address: str) -> list[str]:
    """French sentences of what is wrong with ``to:`` as a sub-folder; empty when it is good."""
    if all(SAFE_NAME.fullmatch(part) for part in address.rstrip("/").split("/")) or not address:
        return []
    return [f"to: « {address} » n'est pas un sous-dossier permis (A-Z a-z 0-9 . _ -, sans « .. »)"]


def unique_name(name: str, delivery: Delivery) -> str:
    """``name`` made unlike any other delivery's, and the same at every attempt."""
    if delivery.id in name:
        return name
    stem, dot, ending = name.rpartition(".")
    return f"{stem}_{delivery.id}{dot}{ending}" if dot else f"{name}_{delivery.id}"


def _fields_of(delivery: Delivery, rendition: Rendition, rank: int) -> dict[str, str]:
    # A resend by a person is another delivery of the same report; its own id tells them apart.
    report = delivery.report if not delivery.number else f"{delivery.report}-{delivery.number}"
    return {
        "delivery": delivery.id,
        "report": report,
        "report.ref": report,
        "version": str(delivery.version),
        "recipient": delivery.recipient,
        "establishment.finess": delivery.options.get("finess", ""),
        "sequence": str(rank),
        "format": rendition.format,
        "suffix": rendition.suffix,
        "ext": rendition.suffix.lstrip("."),
    }


def _filled(template: str, fields: Mapping[str, str]) -> str:
    """Fill by lookup only: ``str.format`` would follow attributes of its arguments."""
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError:
        return ""
    out = []
    for text, field, _, _ in parts:
        out.append(text)
        if field is not None:
            out.append(_UNSAFE.sub("-", fields.get(field, "")))
    return "".join(out)
