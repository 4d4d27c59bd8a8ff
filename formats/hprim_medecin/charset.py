"""What a reader's character set lacks, written with what it has: nothing disappears silently."""

from __future__ import annotations

import re
import unicodedata

# Only replacements that say the same to a doctor. Signs that carry meaning and have no equivalent
# (≠, ½…) are not here: they end as "?" in a remark, and refuse the rendition in a result.
_SAME = {
    "œ": "oe", "Œ": "OE", "æ": "ae", "Æ": "AE", "ß": "ss", "ø": "o", "Ø": "O",
    "’": "'", "‘": "'", "‚": "'", "´": "'", "ʼ": "'", "“": '"', "”": '"', "„": '"',
    "«": '"', "»": '"', "‹": "'", "›": "'",
    "–": "-", "—": "-", "‐": "-", "‑": "-", "−": "-", "‒": "-", "…": "...", "•": "-", "·": ".",
    "≤": "<=", "≥": ">=", "⩽": "<=", "⩾": ">=", "€": "EUR", "™": "(TM)", "®": "(R)", "©": "(C)",
    "\u00a0": " ", "\u202f": " ", "\u2009": " ", "\u2007": " ", "\u2002": " ", "\u2003": " ",
    "\u200b": "", "\u200d": "", "\u00ad": "", "\ufeff": "",
    "μ": "µ", "×": "x", "°": "deg", "→": "->", "±": "+/-", "‰": "o/oo", "№": "No", "Ω": "Ohm",
    "α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "Δ": "delta", "ε": "epsilon",
    "ζ": "zeta", "η": "eta", "θ": "theta", "κ": "kappa", "λ": "lambda", "π": "pi", "σ": "sigma",
    "τ": "tau", "φ": "phi", "χ": "chi", "ψ": "psi", "ω": "omega",
}  # fmt: skip
_ASCII_ONLY = {"µ": "u"}
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺", "0123456789-+")
_SUPERSCRIPT_RUN = re.compile(r"[⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺]+")
_SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")


def fits(text: str, encoding: str) -> bool:
    """True when every character exists in ``encoding``."""
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def transliterated(text: str, encoding: str) -> tuple[str, bool]:
    """Write ``text`` with the characters of ``encoding``.

    Returns the text and True when every replacement says the same; False when a ``?`` stands for a
    character that has no equivalent.
    """
    if fits(text, encoding):
        return text, True
    text = unicodedata.normalize("NFC", text)

    def exponent(run: re.Match[str]) -> str:
        # « 10⁹ » is 10^9: without the sign it would read 109.
        if fits(run[0], encoding):
            return run[0]
        before = run.string[run.start() - 1 : run.start()]
        return ("^" if before.isdigit() else "") + run[0].translate(_SUPERSCRIPTS)

    text = _SUPERSCRIPT_RUN.sub(exponent, text).translate(_SUBSCRIPTS)
    kept = [c if fits(c, encoding) else _replaced(c, encoding) for c in text]
    return "".join(kept).replace("\0", "?"), "\0" not in kept


def _replaced(character: str, encoding: str) -> str:
    """The equivalent of one character; NUL when there is none."""
    same = _SAME.get(character)
    if same is not None and fits(same, encoding):
        return same
    if character in "µμ":
        return _ASCII_ONLY["µ"]
    base = unicodedata.normalize("NFD", character)[0]
    # Only letters lose their marks: « ≠ » without its stroke would say the contrary.
    if character.isalpha() and base != character and base.isalpha() and fits(base, encoding):
        return base
    return "\0"


def strict_name(text: str) -> str:
    """A name in upper case letters A-Z, blanks and hyphens, as every known reader takes it."""
    upper = text.upper()
    for ligature in ("Œ", "Æ", "ß"):
        upper = upper.replace(ligature, _SAME[ligature].upper())
    plain = "".join(c for c in unicodedata.normalize("NFD", upper) if not unicodedata.combining(c))
    return " ".join(re.sub(r"[^A-Z -]", " ", plain).split())
