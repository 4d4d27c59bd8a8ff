"""Separators and escapes of HPRIM Santé (version 2.4, sections 5.1 and 5.2).

The five characters after ``H`` are, in order: field, sub-field, repeater, escape, sub-sub-field.
Usual is ``|~^\\&``; real messages declare others, so the declared ones are always used.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from dlx.errors import ParseError


class Separators(NamedTuple):
    """The declared separators; names as in the corpus."""

    field: str
    component: str
    repeat: str
    escape: str
    subcomponent: str


class Syntax:
    """Splits and unescapes with the separators of one message."""

    def __init__(self, separators: Separators) -> None:
        self.separators = separators
        self._escape, self._component = separators.escape, separators.component
        self._repeat = separators.repeat
        escape = re.escape(separators.escape)
        self._escaped = re.compile(f"{escape}(?:([FSTRE]){escape}|(.))", re.DOTALL)
        # Roles of the letters: field, sub-field, sub-sub-field, repeater, escape.
        self._letters = {
            "F": separators.field,
            "S": separators.component,
            "T": separators.subcomponent,
            "R": separators.repeat,
            "E": separators.escape,
        }
        self._pieces = {
            separator: re.compile(
                f"(?:{escape}[FSTRE]{escape}|{escape}.|[^{re.escape(separator)}])*", re.DOTALL
            )
            for separator in separators
            if separator != separators.escape
        }

    def split(self, text: str, separator: str) -> list[str]:
        """Split at ``separator`` where it is not escaped; escapes stay."""
        if self._escape not in text:
            return text.split(separator)
        pieces, start, pattern = [], 0, self._pieces[separator]
        while True:
            found = pattern.match(text, start)
            end = found.end() if found else start
            pieces.append(text[start:end])
            if end >= len(text):
                return pieces
            start = end + 1

    def fields(self, segment: str) -> list[str]:
        """Fields of a logical segment; the name is the first."""
        return self.split(segment, self.separators.field)

    def repeats(self, field: str) -> list[str]:
        """Repetitions of a field; none of an empty one."""
        return self.split(field, self._repeat) if field else []

    def components(self, field: str) -> list[str]:
        """Unescaped sub-fields of one repetition."""
        if self._escape not in field:
            return [piece.strip() for piece in field.split(self._component)]
        return [self.plain(piece) for piece in self.split(field, self._component)]

    def plain(self, text: str) -> str:
        """Unescape: ``\\F\\`` and the like are separators; escape + character is that character."""
        if self._escape not in text:
            return text.strip()
        return self.plain_line(text).strip()

    def plain_line(self, text: str) -> str:
        """Unescape, keeping the blanks at both ends: lines of a text may be indented."""
        if self._escape not in text:
            return text.rstrip()
        return self._escaped.sub(self._meant, text).rstrip()

    def _meant(self, found: re.Match[str]) -> str:
        return self._letters[found[1]] if found[1] else found[2]


def separators_of(line: str) -> Separators:
    """Read the separators of an H segment. Raises ParseError HS-E02."""
    signs = line[1:6]
    if (
        len(signs) != 5
        or len(set(signs)) != 5
        or any(c.isalnum() or c.isspace() for c in signs)
        or line[6:7] not in ("", line[1:2])
    ):
        raise ParseError("HS-E02", "séparateurs du segment H absents ou inutilisables", line=1)
    return Separators(*signs)


def part(parts: list[str], number: int) -> str:
    """The 1-based ``number`` of a list of parts, or ""."""
    return parts[number - 1] if len(parts) >= number else ""
