"""The French document carrier (ANS volet « Transmission de documents CDA-R2 en HL7v2 »).

Such a message, told by MSH-21, holds a CDA in an ED and coded OBX with routing wishes. Here its
actions are checked and its flags kept apart from results; PRT segments are kept verbatim.
"""

from __future__ import annotations

from collections.abc import Callable

from dlx.errors import ParseError
from formats.hl7v2 import Segment, value
from formats.hl7v2_oru._fields import Fields
from formats.hl7v2_oru._groups import Order

_PROFILE = "CISIS_CDA_HL7_V"
_MAIL_BODY = "CORPSMAIL_"
_ACTIONS = {"NW": "F", "RO": "C", "CA": "D"}  # ORC-1 and OBX-11 of the document, volet 2.1 §4


def is_carrier(fields: Fields, msh: Segment) -> bool:
    """True when MSH-21 names the volet, any version."""
    profiles = value(msh, 21).split(fields.separators.repetition)
    return any(_PROFILE in profile for profile in profiles)


def flag_test(fields: Fields, msh: Segment) -> Callable[[Segment], bool] | None:
    """A test for the OBX that are routing wishes or mail bodies: all but the documents.

    None for a message of any other profile, which has no such OBX.
    """
    if not is_carrier(fields, msh):
        return None
    return lambda obx: value(obx, 2) != "ED" or value(obx, 3).startswith(_MAIL_BODY)


def check_actions(fields: Fields, msh: Segment, orders: list[Order]) -> None:
    """Refuse a message whose ORC-1 and OBX-11 disagree (HL7-E11)."""
    if not is_carrier(fields, msh):
        return
    old = not value(msh, 21).lstrip().startswith("2.1")
    for order in orders:
        action = fields.text(order.orc[1])
        for line in order.lines:
            if line.obx[2] != "ED":
                continue
            if old and action in ("", "SC"):
                fields.odd("HL7-W21", "ORC-1 absent ou SC : l'action vient de OBX-11", line.number)
            elif _ACTIONS.get(action) != line.obx[11]:
                message = "ORC-1 et OBX-11 se contredisent : nouveau, remplacement ou suppression ?"
                raise ParseError("HL7-E11", message, line=line.number, column=11)
