"""Characters: what the faces can show, what is written otherwise, and what is refused.

A character is never dropped and never replaced in silence. One that no face has is named in full
(``‹U+4E2D›``) and told as a loss where the text is a remark or a heading; in a value, a unit, a
reference or an identity it is a RenderError, because nobody may guess there.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Set

from dlx.errors import RenderError
from formats.pdf._fonts import shown, usual

# Same letter or same blank under another code, or nothing to see: nothing is lost on paper.
_SAME = {
    "\u2010": "-",
    "\u2011": "-",
    "\u202f": "\u00a0",
    "\u2007": "\u00a0",
    **dict.fromkeys("\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2008\u2009\u200a\u3000", " "),
    **dict.fromkeys("\u00ad\u200b\u200e\u200f\u2060\ufeff\r", ""),
    "\t": "    ",
}
_NONE: frozenset[str] = frozenset()
_LINE_END = re.compile(r"\r\n?|[\v\f\x85\u2028\u2029]")


class Scribe:
    """Turns the texts of one report into texts that the faces can show; remembers the losses.

    Attributes:
        unknown: the characters that were named in full.
    """

    def __init__(self) -> None:
        self.unknown: set[str] = set()

    def remark(self, text: str) -> str:
        """Return ``text``; a character that no face has is named in full and counted as a loss."""
        if text.isascii() and text.isprintable():
            return text
        kept, unknown = _shown(text)
        self.unknown |= unknown
        return kept

    def exact(self, text: str) -> str:
        """Return ``text``. Raises RenderError (PDF-E01) for a character that no face has."""
        if text.isascii() and text.isprintable():
            return text
        kept, unknown = _shown(text)
        if unknown:
            raise RenderError(
                "PDF-E01",
                f"caractère absent des polices ({_names(unknown)}) dans une valeur, une unité, "
                "une référence ou une identité : ce compte rendu ne peut pas être imprimé tel quel",
            )
        return kept

    def losses(self) -> tuple[str, ...]:
        """One sentence when characters had to be named in full, else nothing."""
        if not self.unknown:
            return ()
        return (f"caractères absents des polices, imprimés par leur code : {_names(self.unknown)}",)


def _names(characters: Set[str]) -> str:
    return ", ".join(f"U+{ord(char):04X}" for char in sorted(characters))


def _shown(text: str) -> tuple[str, Set[str]]:
    return (text, _NONE) if usual(text) else _replaced(text)


def _replaced(text: str) -> tuple[str, set[str]]:
    text = unicodedata.normalize("NFC", _LINE_END.sub("\n", text))
    absent = [char for char in sorted(set(text)) if char != "\n" and not shown(char)]
    unknown = {char for char in absent if char not in _SAME}
    for char in absent:
        text = text.replace(char, _SAME.get(char, f"‹U+{ord(char):04X}›"))
    return text, unknown
