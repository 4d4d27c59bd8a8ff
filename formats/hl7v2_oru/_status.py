"""What the laboratory says of the whole version, from OBR-25 and OBX-11 (tables 0123, 0085).

Released only when every line is F, C, U or X; a letter that is missing or unknown never releases.
"""

from __future__ import annotations

from dlx.report import ReportStatus
from formats.hl7v2 import Segment, value
from formats.hl7v2_oru._fields import Fields
from formats.hl7v2_oru._groups import Order

_ORDER_NOT_ALL_IN = frozenset("PSIRAO")
_LINE_NOT_ALL_IN = frozenset("PSIR")
_LINE_CHANGED = frozenset("CDW")
_LINE_GONE = frozenset("XD")
_LINE_KNOWN = frozenset("FCPIRSDXUWNO")


def report_status(fields: Fields, orders: list[Order]) -> ReportStatus:
    """PARTIAL, else CANCELLED, else CORRECTED, else FINAL."""
    asked = {fields.text(value(order.obr, 25)).strip() for order in orders}
    lines = {
        _line_status(fields, order, line.obx, line.number)
        for order in orders
        for line in order.lines
    }
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


def _line_status(fields: Fields, order: Order, obx: Segment, number: int) -> str:
    letter = value(obx, 11)
    if letter in _LINE_KNOWN and letter:
        return letter
    if not letter and value(order.obr, 25) in ("F", "C", "X"):
        fields.odd("HL7-W20", "OBX-11 est vide : statut de la demande (OBR-25) retenu", number, 11)
        return "F" if value(order.obr, 25) != "X" else "X"
    fields.odd("HL7-W20", "OBX-11 vide ou inconnu : ligne tenue pour non validée", number, 11)
    return "P"
