"""`hprim-sante`: HPRIM Santé 2.0 to 2.5, read (results: context ORU).

``syntax`` separators and escapes, ``reading`` the message as it is, ``parsing`` the reports, with
``people`` and ``results`` for their parts. Written nowhere yet: DLX sends HPRIM Médecin.
"""

from __future__ import annotations

from dlx.contracts import Format
from formats.hprim_sante.parsing import parse, recognises

FORMAT = Format(
    name="hprim-sante",
    suffix=".hpr",
    recognises=recognises,
    parse=parse,
    reading={"strict": "no"},
)
