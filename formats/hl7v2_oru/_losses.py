"""What a written message no longer says: the report compared with what a reader makes of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from dlx.errors import RenderError
from dlx.report import Attachment, Observation, Report, Text

_NOT_CONTENT = frozenset(("version", "replaces", "source_format", "message_id"))
_IDENTITY = (
    "identifiers", "birth_name", "used_name", "given_names", "birth_date", "birth_date_text", "sex",
)  # fmt: skip

_WORDS = {
    "Report.issuer": "émetteur du numéro de dossier",
    "Report.laboratory": "coordonnées du laboratoire",
    "Report.prescriber": "prescripteur",
    "Report.copies": "destinataires en copie",
    "Report.treating": "médecin traitant",
    "Report.addressee": "destinataire nommé dans le compte rendu",
    "Report.establishment": "établissement demandeur",
    "Report.visit": "numéro de séjour",
    "Report.ward": "service",
    "Report.collected": "date de prélèvement du dossier : reprise des demandes",
    "Report.received": "date de réception du dossier : reprise des demandes",
    "Report.issued": "date d'édition : déduite des résultats",
    "Report.validated_by": "biologiste du dossier : repris des demandes et des lignes",
    "Report.urgent": "urgence",
    "Report.text": "texte imprimable",
    "Report.batteries": "découpage en demandes : une demande ajoutée",
    "Report.comments": "commentaires généraux : rattachés à la première demande",
    "Report.patient_comments": "commentaires sur le patient",
    "Report.attachments": "titre ou type d'un document joint",
    "Report.extras": "segments propres à l'émetteur",
    "Patient.first_given": "premier prénom de naissance",
    "Patient.title": "civilité",
    "Patient.address": "adresse du patient : lignes regroupées",
    "Patient.reliability": "fiabilité de l'identité",
    "Patient.nir": "numéro de sécurité sociale",
    "Patient.nir_key": "clé du numéro de sécurité sociale",
    "Person.identifiers": "identifiants d'un intervenant",
    "Person.organisation": "organisation d'un intervenant",
    "Person.family": "organisation d'un intervenant : portée comme nom",
    "Person.given": "prénom d'un intervenant",
    "Person.title": "titre d'un intervenant",
    "Person.role": "rôle d'un intervenant",
    "Identifier.type": "type d'un identifiant",
    "Identifier.authority": "autorité d'un identifiant",
    "Identifier.oid": "autorité d'un identifiant",
    "Battery.code": "code d'une demande",
    "Battery.alternates": "codes supplémentaires d'une demande",
    "Battery.number": "numéro propre d'une demande",
    "Battery.status": "statut d'une demande : précisé",
    "Battery.specimen": "nature du prélèvement",
    "Battery.comments": "commentaires d'une demande",
    "Battery.observations": "découpage en lignes : document ou texte déplacé",
    "Battery.parent": "lien avec l'examen d'origine",
    "Battery.validated_by": "biologiste d'une demande",
    "Observation.codes": "codes supplémentaires d'une ligne",
    "Observation.label": "libellé d'une ligne : déduit de son code",
    "Observation.values": "type d'une valeur ; son texte est inchangé",
    "Observation.value_type": "type de valeur d'une ligne",
    "Observation.unit": "unité imprimée, distincte de l'unité codée",
    "Observation.unit_code": "codage de l'unité",
    "Observation.flags": "indicateurs d'anomalie",
    "Observation.status": "statut d'une ligne : précisé d'après le compte rendu",
    "Observation.validated_by": "biologiste d'une ligne",
    "Observation.comments": "commentaires d'une ligne",
    "Observation.second": "résultat dans une seconde unité",
    "Observation.previous": "antériorités",
    "Observation.is_title": "intertitre",
    "Comment.text": "présentation d'un commentaire",
    "Code.text": "libellé d'un code",
    "Code.code": "code",
    "Code.system": "table d'un code",
}


def losses_between(sent: Report, back: Report) -> tuple[str, ...]:
    """One French sentence for each kind of difference, without any value.

    Raises RenderError HL7-R03 when a number, an identity, a status or a value itself would change.
    """
    check_essentials(sent, back)
    return tuple(
        f"{_WORDS.get(name, f'champ {name}')} : non porté ou modifié en HL7 ORU"
        for name in dict.fromkeys(_differences(sent, back, "Report"))
    )


def check_essentials(sent: Report, back: Report) -> None:
    """Raise RenderError HL7-R03 when what must never change has changed."""
    lines, lines_back = _essence(sent), _essence(back)
    same = {
        "le numéro de dossier": sent.number == back.number,
        "le statut": sent.status is back.status and sent.test == back.test,
        "l'identité du patient": all(
            getattr(sent.patient, name) == getattr(back.patient, name) for name in _IDENTITY
        ),
        "une valeur": lines == lines_back[: len(lines)],
        "un document joint": _documents(sent) == _documents(back),
    }
    for what, kept in same.items():
        if not kept:
            raise RenderError("HL7-R03", f"{what} ne peut pas être porté tel quel en HL7 ORU")


def _essence(report: Report) -> list[tuple[object, ...]]:
    """What must never change of a line: its values as printed, unit, interval and flags.

    A line that is only a document may become a document of the report: see ``_documents``.
    """
    return [
        (_printed(line), line.unit, line.reference, [f for f in line.flags if f])
        for line in report.observations()
        if {type(v) for v in line.values} != {Attachment}
    ]


def _printed(line: Observation) -> list[str]:
    texts = [v.reference if isinstance(v, Attachment) else v.text for v in line.values]
    return [text for text in texts if text]


def _documents(report: Report) -> list[tuple[bytes, str]]:
    inside = [v for o in report.observations() for v in o.values if isinstance(v, Attachment)]
    return sorted((a.content, a.reference) for a in (*inside, *report.attachments))


def _differences(sent: Any, back: Any, name: str) -> Iterator[str]:
    if sent == back:
        return
    if isinstance(sent, Text) or type(sent) is not type(back):
        yield name
    elif dataclasses.is_dataclass(sent):
        for part in dataclasses.fields(sent):
            if part.name not in _NOT_CONTENT:
                own = f"{type(sent).__name__}.{part.name}"
                yield from _differences(getattr(sent, part.name), getattr(back, part.name), own)
    elif isinstance(sent, tuple) and len(sent) == len(back):
        for one, other in zip(sent, back, strict=True):
            yield from _differences(one, other, name)
    else:
        yield name
