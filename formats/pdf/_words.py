"""The words and signs of the table: HL7 codes as French doctors read them."""

from __future__ import annotations

from dlx.report import ResultStatus

# HL7 v2 table 0074, diagnostic service section; anything else is printed as sent.
SECTIONS = {
    "CH": "Biochimie",
    "CHEM": "Biochimie",
    "HM": "Hématologie",
    "COAG": "Hémostase",
    "MB": "Microbiologie",
    "IMM": "Immunologie",
    "SR": "Sérologie",
    "TX": "Toxicologie",
    "VR": "Virologie",
    "PAR": "Parasitologie",
    "MYC": "Mycologie",
    "MCB": "Mycobactériologie",
    "BLB": "Immuno-hématologie",
    "CTH": "Cytogénétique",
    "GE": "Génétique",
    "PAT": "Anatomie pathologique",
    "SP": "Anatomie pathologique",
    "CP": "Cytologie",
    "LAB": "Biologie",
}
# HL7 v2 table 0078. Triangles need no colour; two of them are a critical value.
SIGNS = {"H": "▲", "HH": "▲▲", "L": "▼", "LL": "▼▼", ">": "▲", "<": "▼", "A": "*", "AA": "**"}
SUSCEPTIBILITY = {"S": "S", "I": "I", "R": "R", "MS": "MS", "VS": "VS"}
STATES = {
    ResultStatus.CORRECTED: "résultat corrigé",
    ResultStatus.PRELIMINARY: "résultat provisoire",
    ResultStatus.PENDING: "en cours",
    ResultStatus.UNVERIFIED: "non validé",
    ResultStatus.PARTIAL: "résultat partiel",
    ResultStatus.DELETED: "résultat supprimé",
    ResultStatus.UNOBTAINABLE: "non réalisable",
    ResultStatus.WRONG: "résultat antérieur erroné",
    ResultStatus.NOT_ASKED: "non demandé",
    ResultStatus.ORDER_ONLY: "demandé, sans résultat",
}
# States that stand in the place of a missing value.
EMPTY = frozenset(
    {
        ResultStatus.PENDING,
        ResultStatus.UNOBTAINABLE,
        ResultStatus.DELETED,
        ResultStatus.NOT_ASKED,
        ResultStatus.ORDER_ONLY,
    }
)
