"""HPRIM Santé 2.0 to 2.5, the message as it is: header and logical segments, any context.

    message = H … L, one segment a line; ``A|`` lines continue the segment before

Errors ``HS-E…`` refuse the message in both modes; remarks ``HS-W…`` refuse it in strict mode only.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from dlx.contracts import Diagnostic
from dlx.errors import ParseError
from dlx.moment import Moment
from formats.hprim_medecin.decoding import Decoded, decoded
from formats.hprim_sante.syntax import Separators, Syntax, part, separators_of

MAX_BYTES = 20 * 1024 * 1024
MAX_SEGMENTS = 200_000
MAX_PHYSICAL = 220

CONTEXTS = ("ADM", "ORM", "ORA", "ORU", "FAC", "REG", "ERR")
_VERSIONS = ("H2.0", "H2.1", "H2.2", "H2.3", "H2.4", "H2.5")
_HEADER = re.compile(r"H[^0-9A-Za-z\s]")
_RADIX50 = re.compile(r"[A-Z0-9$.% ]*")
_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)", re.ASCII)
# Which open segment a segment needs (section 3); C and A go anywhere.
_PARENT = {"OBR": "P", "OBX": "OBR", "AP": "P", "AC": "AP", "FAC": "P", "ACT": "FAC", "REG": "P"}
_CLOSES = {"P": ("OBR", "OBX", "AP", "FAC"), "OBR": ("OBX",), "AP": (), "FAC": ()}
_KNOWN = frozenset(("H", "P", "OBR", "OBX", "AP", "AC", "FAC", "ACT", "REG", "ERR", "C", "L"))
_MANDATORY = {"H": (5, 7, 10, 13, 14), "OBR": (5,), "OBX": (3, 4)}
_LENGTHS = {"P": {3: 36, 4: 16, 5: 16}, "OBR": {3: 23, 4: 23}, "OBX": {4: 120, 5: 20, 7: 20}}

_NO_LENGTHS: dict[int, int] = {}

_MESSAGES = {
    "HS-W10": "segment de plus de 220 caractères",
    "HS-W11": "version inconnue (H2.0 à H2.5 attendu)",
    "HS-W12": "comptes du segment L différents du contenu",
    "HS-W13": "séparateurs dans l'ordre de HL7",
    "HS-W14": "jeu de caractères autre que ISO-8859-1",
    "HS-W15": "champ plus long que permis",
    "HS-W16": "séparateurs en fin de segment",
    "HS-W17": "nom de message hors RADIX 50 (7.3)",
    "HS-W18": "résultat de type NM non numérique",
    "HS-W19": "segment après L",
    "HS-W20": "rangs qui ne se suivent pas",
    "HS-W21": "fins de ligne LF seules",
    "HS-W22": "caractères de contrôle retirés",
    "HS-W23": "texte avant le segment H ignoré",
    "HS-W24": "segment inattendu gardé tel quel",
}


class Segment(NamedTuple):
    """A logical segment: ``fields[k - 1]`` is field k of the norm; ``line`` is 1-based."""

    name: str
    text: str
    fields: list[str]
    line: int


class Message(NamedTuple):
    """A whole message; the header split, separators and escapes of the segments untouched."""

    encoding: str
    newline: str
    separators: Separators
    context: str
    version: str
    link: str
    processing: str
    message_name: str
    sender: tuple[str, ...]
    receiver: tuple[str, ...]
    timestamp: str
    segments: tuple[Segment, ...]
    after: tuple[str, ...]
    diagnostics: tuple[Diagnostic, ...]
    syntax: Syntax

    @property
    def logical_segments(self) -> tuple[str, ...]:
        """The texts of the segments."""
        return tuple(segment.text for segment in self.segments)


def read(data: bytes, *, strict: bool = False) -> Message:
    """Read a message of any context.

    Raises ParseError HS-E01 to HS-E08 (see docs/formats/hprim-sante.md); in strict mode also with
    the code of the first remark.
    """
    if len(data) > MAX_BYTES:
        raise ParseError("HS-E08", "fichier de plus de 20 Mio")
    message = _Reader(decoded(data, "HS-E08")).message()
    if strict and message.diagnostics:
        first = message.diagnostics[0]
        raise ParseError(first.code, first.message, line=first.line)
    return message


class _Reader:
    """One pass over the lines of one message."""

    def __init__(self, source: Decoded) -> None:
        self._source = source
        self._found: dict[str, Diagnostic] = {}

    def message(self) -> Message:
        lines = self._from_header(self._source.text.split("\n"))
        separators = separators_of(lines[0][1])
        syntax = Syntax(separators)
        if separators[1:3] == ("^", "~"):
            self._tell("HS-W13", lines[0][0])
        segments, after, physical = self._segments(lines, syntax)
        head = [syntax.components(field) for field in segments[0].fields]
        context = part(_sub(head, 7), 1)
        if context not in CONTEXTS:
            raise ParseError("HS-E03", "contexte inconnu (7.7)", line=segments[0].line, column=7)
        self._check_end(segments, physical)
        self._check_hierarchy(segments)
        for segment in segments:
            self._check_fields(segment, syntax)
        version = part(_sub(head, 13), 1)
        self._check_header(version, part(_sub(head, 3), 1))
        moment = Moment.read(part(_sub(head, 14), 1))
        return Message(
            self._source.encoding,
            self._source.newline,
            separators,
            context,
            version,
            part(_sub(head, 13), 2),
            part(_sub(head, 12), 1),
            part(_sub(head, 3), 1),
            tuple(_sub(head, 5)),
            tuple(_sub(head, 10)),
            moment.iso if moment else "",
            tuple(segments),
            after,
            tuple(self._found.values()),
            syntax,
        )

    def _from_header(self, lines: list[str]) -> list[tuple[int, str]]:
        """Numbered lines that are not blank, from the first H on. Raises HS-E01."""
        numbered = [(n, line.lstrip()) for n, line in enumerate(lines, 1) if line.strip()]
        for index, (number, line) in enumerate(numbered):
            if _HEADER.match(line):
                if index:
                    self._tell("HS-W23", number)
                return numbered[index:]
        raise ParseError("HS-E01", "ce n'est pas de l'HPRIM Santé : segment H introuvable")

    def _segments(
        self, lines: list[tuple[int, str]], syntax: Syntax
    ) -> tuple[list[Segment], tuple[str, ...], int]:
        """Logical segments up to L, what follows L, and the number of physical segments."""
        more = f"A{syntax.separators.field}"
        room = MAX_PHYSICAL - (2 if self._source.newline == "crlf" else 1)
        joined: list[tuple[int, list[str]]] = []
        physical, closed = 0, False
        for index, (number, line) in enumerate(lines):
            if closed and not line.startswith(more):
                self._tell("HS-W19", number)
                after = tuple(text for _, text in lines[index:])
                return [self._segment(s, syntax) for s in joined], after, physical
            physical += 1
            if physical > MAX_SEGMENTS:
                raise ParseError("HS-E08", "plus de 200 000 segments")
            if len(line) > room:
                self._tell("HS-W10", number)
            if line.startswith(more):
                joined[-1][1].append(line[2:])
            else:
                joined.append((number, [line]))
                closed = line == "L" or line.startswith(f"L{syntax.separators.field}")
        return [self._segment(s, syntax) for s in joined], (), physical

    def _segment(self, source: tuple[int, list[str]], syntax: Syntax) -> Segment:
        number, pieces = source
        text = pieces[0] if len(pieces) == 1 else "".join(pieces)
        fields = syntax.fields(text)
        if len(fields) > 1 and not fields[-1]:
            self._tell("HS-W16", number)
        return Segment(fields[0].strip(), text, fields, number)

    def _check_end(self, segments: list[Segment], physical: int) -> None:
        last = segments[-1]
        if last.name != "L":
            raise ParseError("HS-E04", "segment L absent : le message est coupé", line=last.line)
        patients, count = part(last.fields, 4).strip(), part(last.fields, 5).strip()
        names = sum(segment.name == "P" for segment in segments)
        if (patients and patients != str(names)) or (
            count and count not in (str(len(segments)), str(physical))
        ):
            self._tell("HS-W12", last.line)

    def _check_hierarchy(self, segments: list[Segment]) -> None:
        opened: set[str] = set()
        ranks: dict[str, int] = {}
        for segment in segments[1:]:
            name = segment.name
            if name == "H":
                raise ParseError("HS-E05", "deux messages dans le fichier", line=segment.line)
            if name not in _KNOWN:
                self._tell("HS-W24", segment.line)
                continue
            parent = _PARENT.get(name)
            if parent and parent not in opened:
                raise ParseError("HS-E05", f"{name} sans {parent} avant lui", line=segment.line)
            for closed in _CLOSES.get(name, ()):
                opened.discard(closed)
                ranks.pop(closed, None)
            opened.add(name)
            self._check_rank(segment, ranks)

    def _check_rank(self, segment: Segment, ranks: dict[str, int]) -> None:
        if segment.name in ("C", "L"):
            return
        rank = part(segment.fields, 2).strip()
        number = int(rank) if rank.isascii() and rank.isdigit() and len(rank) < 10 else -1
        if number <= ranks.get(segment.name, 0) and segment.name in ("P", "OBR", "OBX"):
            self._tell("HS-W20", segment.line)
        ranks[segment.name] = number

    def _check_fields(self, segment: Segment, syntax: Syntax) -> None:
        name, fields = segment.name, segment.fields
        for number in _MANDATORY.get(name, ()):
            if not part(fields, number).strip():
                raise ParseError(
                    "HS-E07", f"champ obligatoire de {name} vide", line=segment.line, column=number
                )
        count = len(fields)
        for number, length in _LENGTHS.get(name, _NO_LENGTHS).items():
            if number <= count and len(fields[number - 1]) > length:
                self._tell("HS-W15", segment.line)
        if name == "OBX" and fields[2] == "NM":
            for value in syntax.repeats(part(fields, 6)):
                if not _NUMBER.fullmatch(value.strip()):
                    self._tell("HS-W18", segment.line)

    def _check_header(self, version: str, name: str) -> None:
        if version not in _VERSIONS:
            self._tell("HS-W11", None)
        if not _RADIX50.fullmatch(name):
            self._tell("HS-W17", None)
        source = self._source
        if source.marked or source.encoding != "iso-8859-1":
            self._tell("HS-W14", None)
        if source.newline == "lf" and "\n" in source.text:
            self._tell("HS-W21", None)
        if source.cleaned:
            self._tell("HS-W22", None)

    def _tell(self, code: str, line: int | None) -> None:
        """One remark per code: the first place is enough to find the habit of a sender."""
        if code not in self._found:
            self._found[code] = Diagnostic(code=code, message=_MESSAGES[code], line=line)


def _sub(head: list[list[str]], number: int) -> list[str]:
    return head[number - 1] if len(head) >= number else []
