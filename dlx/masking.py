"""The only way to print a patient: enough to recognise, not enough to tell."""

from __future__ import annotations

import re

from dlx.report import Patient

_UNPRINTABLE = re.compile(r"[^\x20-\x7e\u00a1-\u024f\u2018-\u201d\u2013\u2014\u00ab\u00bb]")


def masked(patient: Patient, number: str = "") -> str:
    """``MA… Je… ♀1961 n° 26031234``: two letters of each name, sex sign and year of birth."""
    sign = {"M": "♂", "F": "♀"}.get(patient.sex.upper(), "")
    year = patient.birth_date.digits[:4] if patient.birth_date else "????"
    names = [f"{n[:2]}…" for n in (patient.family, patient.given_names) if n]
    return " ".join([*names, f"{sign}{year}", *([f"n° {number}"] if number else [])])


def printable(text: str, limit: int = 200) -> str:
    """Foreign text (a file name, a server's reply) as it may go to a terminal or a log.

    Control characters, line ends and direction marks become ``\\xNN``; long text is cut with « … ».
    """
    shown = _UNPRINTABLE.sub(lambda m: f"\\x{ord(m[0]):02x}", text)
    return shown if len(shown) <= limit else f"{shown[: limit - 1]}…"
