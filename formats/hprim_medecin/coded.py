"""One result as a RES line of HPRIM Médecin 3.0: 14 fields and a closing bar."""

from __future__ import annotations

import re
from functools import lru_cache

from dlx.report import (
    Attachment,
    Coded,
    Observation,
    Quantity,
    ResultStatus,
    Second,
    Value,
    bounds,
)
from formats import _sheet

_PLAIN = re.compile(r"[+-]?\d+(?:\.\d+)?", re.ASCII)
_LOOSE = re.compile(r"[+-]?\d[\d \u00a0\u202f]*(?:[.,]\d+)?", re.ASCII)
_BLANKS = re.compile(r"[ \u00a0\u202f]")
_FLAGS = ("LL", "HH", "L", "H", "N")
_SUSCEPTIBILITY = frozenset(("S", "I", "R", "MS", "VS"))
_NEUTRAL = frozenset(("", "null", "Null"))
_STATUS = {
    ResultStatus.FINAL: "F",
    ResultStatus.UNCHANGED: "F",
    ResultStatus.CORRECTED: "C",
    ResultStatus.UNSTATED: "",
}

ANTIBIOGRAM = "antibiogramme imprimé dans le texte, sans ligne codée"
WITHDRAWN = "résultat annulé imprimé dans le texte, sans ligne codée"
UNCODED = "ligne sans résultat imprimée dans le texte, sans ligne codée"
BROKEN = "retours à la ligne d'un résultat remplacés par un blanc dans la ligne codée"
REPEATED = "résultats multiples d'une ligne réunis dans la ligne codée"
REFERENCE = "intervalle de référence non numérique imprimé, non codé"
FLAG = "drapeau sans équivalent HPRIM imprimé, non codé"
CODES = "codages supplémentaires d'une analyse non transmis"
BARS = "barre verticale d'un texte écrite « / »"


def res_line(line: Observation, prefer: str, losses: dict[str, None], *, grown: bool) -> str:
    """The RES line of a result; "" when it is only printed, which ``losses`` then says.

    ``prefer``: ``local`` or ``loinc``, which code goes into field 3. ``grown``: the line belongs to
    an antibiogram.
    """
    if line.is_title:
        return ""
    if reason := _only_printed(line, grown):
        losses[reason] = None
        return ""
    kind, value = _value(line, losses)
    low, high = _bounds(line.reference, losses)
    status = _STATUS.get(line.status, "R")
    fields = (
        "RES", _sheet.label_of(line), _code(line, prefer, losses), kind, value,
        _sheet.unit_of(line), low, high, _flag(line.flags, losses), status,
        *_second(line.second, losses), "",
    )  # fmt: skip
    record = "|".join(fields)
    if record.count("|") == 14 and record.isprintable() and "  " not in record:
        return record
    return "|".join([_field(field, losses) for field in fields])


def _only_printed(line: Observation, grown: bool) -> str:
    if _sheet.is_withdrawn(line):
        return WITHDRAWN
    if grown or not _SUSCEPTIBILITY.isdisjoint(line.flags):
        return ANTIBIOGRAM
    if not line.values:
        return UNCODED
    for value in line.values:
        if isinstance(value, Attachment):
            return UNCODED
    return ""


def _field(text: str, losses: dict[str, None]) -> str:
    if "|" in text:
        losses[BARS] = None
    kept = "".join(" " if c < " " or "\x7f" <= c <= "\x9f" else c for c in text.replace("|", "/"))
    return kept.strip()


def _value(line: Observation, losses: dict[str, None]) -> tuple[str, str]:
    """Type and text of field 5: ``N`` for a plain number, ``A`` for anything else."""
    if len(line.values) == 1:
        return _one(line.values[0], line.value_type, losses)
    losses[REPEATED] = None
    return "A", " ; ".join(_one(value, "", losses)[1] for value in line.values)


def _one(value: Value, value_type: str, losses: dict[str, None]) -> tuple[str, str]:
    if isinstance(value, Quantity):
        if value.comparator or value.separator:
            return "A", value.text
        number = plain_number(value.number)
        return ("A", value.number) if number is None else ("N", number)
    if isinstance(value, Coded) and value_type == "C":
        return "C", value.code.code
    text = _sheet.value_text(value)
    if "\n" in text:
        losses[BROKEN] = None
    return "A", text


def plain_number(text: str) -> str | None:
    """The number without blanks and with a point, digits unchanged; None when it is not one."""
    if _PLAIN.fullmatch(text):
        return text
    if _LOOSE.fullmatch(text):
        return _BLANKS.sub("", text).replace(",", ".")
    return None


def _bounds(reference: str, losses: dict[str, None]) -> tuple[str, str]:
    if not reference:
        return "", ""
    known = len(reference) <= 64  # anything longer is no interval to remember
    pair = _coded_bounds(reference) if known else _coded_bounds.__wrapped__(reference)
    if pair is None:
        losses[REFERENCE] = None
        return "", ""
    return pair


@lru_cache(maxsize=1024)
def _coded_bounds(reference: str) -> tuple[str, str] | None:
    """Both bounds as plain numbers where they are; intervals come back in every report."""
    pair = bounds(reference)
    return pair and (plain_number(pair[0]) or pair[0], plain_number(pair[1]) or pair[1])


def _second(second: Second | None, losses: dict[str, None]) -> tuple[str, str, str, str]:
    if second is None:
        return "", "", "", ""
    value = second.value
    number = None if value.comparator or value.separator else plain_number(value.number)
    low, high = _bounds(second.reference, losses)
    return number or value.text, second.unit, low, high


def _flag(flags: tuple[str, ...], losses: dict[str, None]) -> str:
    if len(flags) == 1 and flags[0] in _FLAGS:
        return flags[0]
    found = next((flag for flag in _FLAGS if flag in flags), "")
    if any(flag != found and flag not in _NEUTRAL for flag in flags):
        losses[FLAG] = None
    return found


def _code(line: Observation, prefer: str, losses: dict[str, None]) -> str:
    if not line.codes:
        return ""
    if len(line.codes) > 1:
        losses[CODES] = None
    for code in line.codes:
        if (code.system == "LN") == (prefer == "loinc") and code.code:
            return code.code
    return line.codes[0].code
