"""`hprim`: HPRIM Médecin 3.0, read and written.

``decoding`` bytes to text, ``header`` and ``reading`` the file as it is, ``parsing`` what it means;
``rendering``, ``header_out`` and ``coded`` the way back, ``charset`` for narrow character sets.
"""

from __future__ import annotations

from dlx.contracts import Format
from formats.hprim_medecin.parsing import parse
from formats.hprim_medecin.recognition import recognises
from formats.hprim_medecin.rendering import OPTIONS, render

FORMAT = Format(
    name="hprim",
    suffix=".hpr",
    recognises=recognises,
    parse=parse,
    render=render,
    reading={"strict": "no"},
    options=OPTIONS,
    addressed=True,
)
