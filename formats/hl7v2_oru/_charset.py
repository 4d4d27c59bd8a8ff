"""The message in the character set its receiver asked for, never changed in silence."""

from __future__ import annotations

import re

from dlx.errors import RenderError
from dlx.report import Attachment, Report

_CODECS = {"utf-8": "utf-8", "8859/1": "iso8859-1", "8859/15": "iso8859-15"}
# Typography that has an exact plain spelling; nothing that could carry a value or a name.
_PLAIN = {
    "’": "'", "‘": "'", "“": '"', "”": '"', "–": "-", "—": "-", "…": "...", "œ": "oe", "Œ": "OE",
    "\u202f": "\u00a0", "\u2009": "\u00a0", "→": "->", "•": "-", "μ": "µ", "€": "EUR",
}  # fmt: skip


def encoded(text: str, report: Report, charset: str) -> tuple[bytes, str, tuple[str, ...]]:
    """The bytes, the MIME name of the set, and a sentence for each character replaced.

    Raises RenderError HL7-R01 for an unknown set, HL7-R04 when a character has no place in it and
    stands in a value, an identity, or has no exact spelling.
    """
    codec = _CODECS.get(charset)
    if codec is None:
        raise RenderError("HL7-R01", f"jeu de caractères inconnu, attendu : {', '.join(_CODECS)}")
    declared = codec.replace("iso8859-", "iso-8859-")
    try:
        return text.encode(codec), declared, ()
    except UnicodeEncodeError:
        pass
    if not _encodable("".join(_untouchable(report)), codec):
        message = f"une valeur ou l'identité contient un caractère étranger au jeu {charset}"
        raise RenderError("HL7-R04", message)
    foreign = sorted({c for c in text if not _encodable(c, codec)})
    if any(c not in _PLAIN for c in foreign):
        raise RenderError("HL7-R04", f"caractère sans équivalent dans le jeu {charset}")
    plain = re.sub("|".join(map(re.escape, foreign)), lambda found: _PLAIN[found[0]], text)
    losses = tuple(f"caractère U+{ord(c):04X} remplacé par « {_PLAIN[c]} »" for c in foreign)
    return plain.encode(codec), declared, losses


def _encodable(text: str, codec: str) -> bool:
    try:
        text.encode(codec)
    except UnicodeEncodeError:
        return False
    return True


def _untouchable(report: Report) -> list[str]:
    p = report.patient
    found = [report.number, report.issuer, p.birth_name, p.used_name, p.given_names]
    found += [own.value for own in p.identifiers]
    for line in report.observations():
        found += [line.unit, line.reference, *line.flags]
        found += [v.reference if isinstance(v, Attachment) else v.text for v in line.values]
    return found
