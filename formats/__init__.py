"""The formats DLX ships, by the word operators write. One line each; see README.md to add one."""

from __future__ import annotations

from dlx.contracts import Format
from formats.hl7v2_oru import FORMAT as ORU
from formats.hprim_medecin import FORMAT as HPRIM
from formats.hprim_sante import FORMAT as HPRIM_SANTE
from formats.pdf import FORMAT as PDF
from formats.text import FORMAT as TEXT

FORMATS: dict[str, Format] = {
    "hprim": HPRIM,
    "hprim-sante": HPRIM_SANTE,
    "oru": ORU,
    "pdf": PDF,
    "text": TEXT,
}
