"""Delimiters and escapes of HL7 v2 (HL7 v2.5.1, 2.5.4 and 2.7)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

NULL = '""'  # HL7 null: delete the value; distinct from an empty field, which says nothing

BREAKS = re.compile(r"\r\n|\r|\n")


@dataclass(frozen=True, slots=True)
class Separators:
    """The delimiters of one message (MSH-1 and MSH-2).

    ``escape`` and ``subcomponent`` are "" when MSH-2 is too short to name them.
    """

    field: str = "|"
    component: str = "^"
    repetition: str = "~"
    escape: str = "\\"
    subcomponent: str = "&"
    truncation: str = ""

    @property
    def encoding(self) -> str:
        """MSH-2."""
        return self.component + self.repetition + self.escape + self.subcomponent + self.truncation


STANDARD = Separators()


@lru_cache(maxsize=64)
def _escapes(escape: str) -> re.Pattern[str]:
    e = re.escape(escape)
    hexadecimal = rf"(?:{e}X(?:[0-9A-Fa-f]{{2}})+{e})+"
    layout = r"\.(?:br|ce|fi|nf|sp ?\+?\d{0,2}|sk ?\+?\d{0,2}|in ?[+-]?\d{0,3}|ti ?[+-]?\d{0,3})"
    return re.compile(rf"({hexadecimal})|{e}([FSTREPHN]|{layout}){e}")


def unescaped(text: str, separators: Separators, codec: str = "utf-8") -> str:
    """Decode escapes once, from left to right; a lone escape character is text.

    ``\\.br\\``, ``\\.ce\\`` and ``\\.sp n\\`` become line breaks, ``\\.sk n\\`` blanks; indents and
    highlighting go; local (``\\Z..\\``) and unknown sequences stay as they are.
    """
    if not separators.escape or separators.escape not in text:
        return text
    meaning = {
        "F": separators.field,
        "S": separators.component,
        "T": separators.subcomponent,
        "R": separators.repetition,
        "E": separators.escape,
        "P": separators.truncation or "#",
        "H": "",
        "N": "",
    }

    def decoded(found: re.Match[str]) -> str:
        if found[1]:
            return _from_hexadecimal(found[1], separators.escape, codec)
        known = meaning.get(found[2])
        return _layout(found[2]) if known is None else known

    return _escapes(separators.escape).sub(decoded, text)


def _from_hexadecimal(found: str, escape: str, codec: str) -> str:
    raw = bytes.fromhex(found.replace(escape + "X", "").replace(escape, ""))
    try:
        return BREAKS.sub("\n", raw.decode(codec))
    except UnicodeDecodeError:
        return found


def _layout(command: str) -> str:
    word, digits = command[1:3], re.sub(r"\D", "", command[3:])
    if word == "br" or word == "ce":
        return "\n"
    if word == "sp":
        return "\n" * int(digits or 1)
    return " " * int(digits or 1) if word == "sk" else ""


def _translation(separators: Separators) -> dict[int, str]:
    e = separators.escape
    table = {n: f"{e}X{n:02X}{e}" for n in (*range(32), 127)}
    table[ord("\n")] = f"{e}.br{e}"
    names = zip("FSRET", separators.field + separators.encoding[:4], strict=True)
    return table | {ord(character): f"{e}{name}{e}" for name, character in names}


@lru_cache(maxsize=16)
def _writing(separators: Separators) -> tuple[re.Pattern[str], dict[int, str]]:
    """What finds a character to escape, and how each is written."""
    table = _translation(separators)
    return re.compile(f"[{re.escape(''.join(map(chr, table)))}]"), table


_STANDARD_WRITING = _writing(STANDARD)


def escaped(text: str, separators: Separators = STANDARD) -> str:
    """Escape exactly the delimiters in use, line breaks (``\\.br\\``) and control characters.

    A text that is ``""`` would be read as HL7 null: its quotes are written in hexadecimal.
    """
    if text == NULL:
        e = separators.escape
        return f"{e}X2222{e}"
    special, table = _STANDARD_WRITING if separators is STANDARD else _writing(separators)
    return text.translate(table) if special.search(text) else text
