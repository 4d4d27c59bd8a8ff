"""What the laboratory says of the whole version, from OBR-25 and OBX-11 (tables 0123, 0085).

Released only when every line is F, C, U or X; a letter that is missing or unknown never releases.
"""

from __future__ import annotations

from dlx.report import ReportStatus
from formats.hl7v2_oru._fields import Fields
from formats.hl7v2_oru._groups import Order

_ORDER_NOT_ALL_IN = frozenset("PSIRAO")
_LINE_NOT_ALL_IN = frozenset("PSIR")
_LINE_CHANGED = frozenset("CDW")
_LINE_GONE = frozenset("XD")
_LINE_KNOWN = frozenset("FCPIRSDXUWNO")


def report_status(fields: Fields, orders: list[Order]) -> ReportStatus:
    """PARTIAL, else CANCELLED, else CORRECTED, else FINAL."""
    asked = {fields.text(order.obr[25]).strip() for order in orders}
    lines = {letter for order in orders for letter in _letters(fields, order)}
    if asked & _ORDER_NOT_ALL_IN or lines & _LINE_NOT_ALL_IN or asked - set("FCX") - {""}:
        return ReportStatus.PARTIAL
    told = lines - {"N", "O"}
    if (asked == {"X"} and told <= _LINE_GONE) or told == {"D"}:
        return ReportStatus.CANCELLED
    if "C" in asked or lines & _LINE_CHANGED:
        return ReportStatus.CORRECTED
    if not lines and asked == {""}:
        fields.odd("HL7-W19", "ni résultat ni statut de demande : compte rendu tenu pour partiel")
        return ReportStatus.PARTIAL
    return ReportStatus.FINAL


def _letters(fields: Fields, order: Order) -> set[str]:
    """The letters that the lines of an order say or that are taken for theirs."""
    letters = {line.obx[11] for line in order.lines}
    if letters <= _LINE_KNOWN:  # nearly always
        return letters
    for line in order.lines:
        if line.obx[11] not in _LINE_KNOWN:
            letters.add(_assumed(fields, order, line.obx[11], line.number))
    return letters & _LINE_KNOWN


def _assumed(fields: Fields, order: Order, letter: str, number: int) -> str:
    """What a line is taken for whose OBX-11 is empty or unknown."""
    asked = order.obr[25]
    if not letter and asked in ("F", "C", "X"):
        fields.odd("HL7-W20", "OBX-11 est vide : statut de la demande (OBR-25) retenu", number, 11)
        return "X" if asked == "X" else "F"
    fields.odd("HL7-W20", "OBX-11 vide ou inconnu : ligne tenue pour non validée", number, 11)
    return "P"
