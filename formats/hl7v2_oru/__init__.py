"""`oru`: HL7 v2 results (ORU^R01, 2.3.1 to 2.6), read and written; see docs/formats/oru.md.

Message: MSH { PID [PD1] {NTE} [PV1] { [ORC] OBR {NTE} {TQ1} { OBX {NTE} } {SPM} } }
One report for each PID, one battery for each OBR, one line for each OBX.
"""

from __future__ import annotations

import codecs
import re

from dlx.contracts import Diagnostic, Format, Options, Parsed, RefusedPart
from dlx.errors import ParseError
from dlx.report import Report
from formats.hl7v2 import read_message, split_file
from formats.hl7v2_oru._reading import Reader
from formats.hl7v2_oru._writing import OPTIONS, render

_HEADER = re.compile(rb"(?:\A|[\r\n\x0b])(MSH[^\r\n\x0b]*)")
_READING = {"charset": "cp1252", "unterminated": "hold"}


def recognises(head: bytes) -> bool:
    """True when the first bytes are HL7 v2 with an ORU message (MSH-9)."""
    start = head.removeprefix(codecs.BOM_UTF8).lstrip(b"\x0b\r\n\t ")
    if start[:3] not in (b"MSH", b"FHS", b"BHS"):
        return False
    found = _HEADER.search(start)
    header = found[1] if found else b""
    fields = header.split(header[3:4], 9) if len(header) > 8 else []
    return len(fields) > 8 and fields[8].startswith(b"ORU")


def parse(data: bytes, options: Options) -> Parsed:
    """Read one message or a batch file.

    Args:
        data: the file, with its envelope (BOM, MLLP, FHS/BHS) if any.
        options: ``charset``: Python codec of the feed, where MSH-18 is empty or wrong;
            ``unterminated``: ``hold`` or ``accept`` a message whose last segment has no end.

    Raises:
        ParseError: codes HL7-E01 to HL7-E11; in a batch only when no message can be read.
    """
    known = {**_READING, **options}
    try:
        codecs.lookup(known["charset"])
    except LookupError as error:
        message = "option charset : jeu de caractères inconnu"
        raise ParseError("HL7-E03", message) from error
    file = split_file(data)
    reports: list[Report] = []
    diagnostics: list[Diagnostic] = list(file.diagnostics)
    refused: list[RefusedPart] = []
    for position, message_bytes in enumerate(file.messages, start=1):
        try:
            reader = Reader(read_message(message_bytes, fallback=known["charset"]), known)
            reports += reader.reports()
            diagnostics += reader.fields.diagnostics
        except ParseError as error:
            if len(file.messages) == 1:
                raise
            refused.append(RefusedPart(position=position, error=error))
    if not reports:
        raise refused[0].error
    return Parsed(
        reports=tuple(reports),
        diagnostics=tuple(diagnostics),
        refused=tuple(refused),
        several_expected=file.batch,
    )


FORMAT = Format(
    name="oru",
    suffix=".hl7",
    recognises=recognises,
    parse=parse,
    render=render,
    reading=_READING,
    options=OPTIONS,
)
