"""Telling a HPRIM Médecin file from any other by its first bytes; names of files are no proof."""

from __future__ import annotations

import re

from dlx.errors import ParseError
from formats.hprim_medecin.decoding import decoded
from formats.hprim_medecin.header import aligned

HEAD_BYTES = 4096

_OTHERS = ("MSH", "FHS", "BHS", "H|", "<", "{", "[", "%PDF", "PK", "%!", "-----BEGIN", "MIME-")
_OTHER_BYTES = tuple(word.encode() for word in _OTHERS)
_SANTE = re.compile(r"H[^0-9A-Za-z\s]{5}")
_TAG = re.compile(r"^\*{3,}(?:LAB|FIN)", re.MULTILINE)


def recognises(data: bytes) -> bool:
    """True when the twelve header lines are there.

    Birth and record date three lines apart are enough; one date alone at its place needs a tag.
    """
    head = data[:HEAD_BYTES]
    if head.startswith(_OTHER_BYTES):
        return False
    try:
        text = decoded(_whole_characters(head), "HM-E04").text
    except ParseError:
        return False
    start = text.lstrip()
    if start.startswith(_OTHERS) or _SANTE.match(start):
        return False
    found = aligned(text.split("\n"))
    if found is None:
        return False
    both = bool(found.lines[6].strip()) and bool(found.lines[9].strip())
    return both or bool(_TAG.search(text))


def _whole_characters(head: bytes) -> bytes:
    """Without the character that the limit of 4096 bytes may have cut."""
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return head[: len(head) - len(head) % 2]
    if len(head) < HEAD_BYTES:
        return head
    cut = len(head)
    while cut > len(head) - 4 and head[cut - 1] & 0xC0 == 0x80:
        cut -= 1
    return head[: cut - 1] if cut and head[cut - 1] >= 0xC0 else head
