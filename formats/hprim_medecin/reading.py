"""HPRIM Médecin 3.0, the file as it is: dossiers, header, text, coded lines; nothing interpreted.

    file    = dossier *(dossier) "****FINFICHIER****"
    dossier = 12 header lines, text lines, [ "****LAB****" coded lines ], "****FIN****"

``read`` is lenient: it repairs what real files get wrong and tells each repair with a stable code
(``HM-W…``, see docs/formats/hprim.md). In strict mode the first repair is an error.
"""

from __future__ import annotations

import html
import re
from typing import NamedTuple

from dlx.contracts import Diagnostic
from dlx.errors import ParseError
from formats.hprim_medecin.decoding import Decoded, decoded
from formats.hprim_medecin.header import Header, HeaderLines, aligned, header_of

MAX_BYTES = 20 * 1024 * 1024
MAX_LINE = 10_000
MAX_DOSSIERS = 1_000

_TAG = re.compile(r"(\*{3,})(LAB|FINFICHIER|FIN)(\*{3,})[ ]*\Z")
_BREAKS = ("<br", "<BR", "<Br", "<bR")  # looked for first: lowering a whole file costs more
_BREAK = re.compile(r"<br ?/?>", re.IGNORECASE)
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_NUMERIC = re.compile(r"(<=|>=|<|>|≤|≥)?\s*([+-]?\d(?:[\d \u00a0]*\d)?(?:[.,]\d+)?)", re.ASCII)
_PLAIN = re.compile(r"\d+(?:\.\d+)?", re.ASCII)
_PACKED = re.compile(r"[+-]?\d[\d.,]*\s*-\s*[+-]?\d[\d.,]*", re.ASCII)

_MESSAGES = {
    "HM-W20": "****FIN**** manque : le compte rendu est peut-être coupé",
    "HM-W21": "****FINFICHIER**** manque : le fichier est peut-être coupé",
    "HM-W22": "du texte suit ****FINFICHIER****",
    "HM-W23": "balise écrite avec un autre nombre d'astérisques",
    "HM-W30": "ligne RES de moins de 10 champs",
    "HM-W31": "ligne RES de plus de 14 champs",
    "HM-W32": "type de résultat inconnu (attendu N, A ou C)",
    "HM-W33": "virgule décimale dans un résultat numérique",
    "HM-W34": "signe de comparaison dans un résultat numérique",
    "HM-W35": "blanc dans un résultat numérique",
    "HM-W36": "les deux bornes sont dans le même champ",
    "HM-W37": "drapeau de normalité inconnu",
    "HM-W38": "statut de résultat inconnu",
    "HM-W39": "ligne RES sans libellé ni résultat",
    "HM-W40": "ligne codée d'un genre inconnu, gardée telle quelle",
    "HM-W50": "jeu de caractères autre que ISO-8859-1",
    "HM-W51": "marque d'ordre des octets en tête",
    "HM-W52": "fins de ligne autres que CRLF",
    "HM-W53": "entités ou balises HTML dans le texte",
    "HM-W54": "UTF-8 encodé deux fois",
    "HM-W55": "caractères de contrôle retirés",
}


class Tex(NamedTuple):
    """A line of the printable report repeated in the coded part. ``line``: 1-based, in the file."""

    text: str
    line: int


class Res(NamedTuple):
    """One coded result; fields trimmed, as in the file (HPRIM Médecin 3.0, RES).

    Attributes:
        numeric, comparator: normalised copies of ``value``, or None; the value itself is raw.
        surplus: what stood beyond the fourteenth field.
    """

    label: str
    code: str
    type: str
    value: str
    unit: str
    low: str
    high: str
    flag: str
    status: str
    value2: str
    unit2: str
    low2: str
    high2: str
    numeric: str | None
    comparator: str | None
    surplus: tuple[str, ...]
    line: int


class Unknown(NamedTuple):
    """A coded line that is neither TEX nor RES, verbatim."""

    text: str
    line: int


Record = Tex | Res | Unknown


class Dossier(NamedTuple):
    """One patient, one report.

    Attributes:
        lab: coded lines; None without a ``****LAB****`` part.
        end: the dossier had its ``****FIN****``.
        dropped: header lines that the realignment left out (not blank).
    """

    header: Header
    text: tuple[str, ...]
    lab: tuple[Record, ...] | None
    end: bool
    dropped: tuple[str, ...] = ()


class HprimFile(NamedTuple):
    """A whole file; ``complete`` is False when ``****FINFICHIER****`` is missing."""

    encoding: str
    newline: str
    dossiers: tuple[Dossier, ...]
    trailer: tuple[str, ...]
    complete: bool
    diagnostics: tuple[Diagnostic, ...]


def read(data: bytes, *, strict: bool = False) -> HprimFile:
    """Read a file.

    Raises ParseError with HM-E01 (no header), HM-E02 (a further dossier is cut inside its header),
    HM-E03 (name, given name or birth date missing), HM-E04 (undecodable), HM-E05 (beyond the
    limits); in strict mode also with the code of the first repair.
    """
    if len(data) > MAX_BYTES:
        raise ParseError("HM-E05", "fichier de plus de 20 Mio")
    source = decoded(data, "HM-E04")
    file = _Reader(source).file()
    if strict and file.diagnostics:
        first = file.diagnostics[0]
        raise ParseError(first.code, first.message, line=first.line)
    return file


class _Reader:
    """One pass over the lines of one file."""

    def __init__(self, source: Decoded) -> None:
        self._source = source
        self._lines = source.text.split("\n")
        self._found: list[Diagnostic] = []
        self._told: set[str] = set()
        text = source.text
        self._markup = any(tag in text for tag in _BREAKS) or bool(_ENTITY.search(text))

    def file(self) -> HprimFile:
        dossiers: list[Dossier] = []
        tags = self._tags()
        trailer: tuple[str, ...] = ()
        start, complete = 0, False
        while True:
            end_name, end = self._end(tags, start)
            if end_name == "FINFICHIER" and not self._filled(start, end):
                complete, trailer = True, self._trailer(end + 1, tags)
                break
            if end_name == "" and not self._filled(start, end) and dossiers:
                break
            dossiers.append(self._dossier(start, end, tags, first=not dossiers))
            if len(dossiers) > MAX_DOSSIERS:
                raise ParseError("HM-E05", f"plus de {MAX_DOSSIERS} dossiers dans un fichier")
            if end_name != "FIN":
                self._tell("HM-W20", end)
                dossiers[-1] = dossiers[-1]._replace(end=False)
            if end_name == "":
                break
            # A dossier without FIN may still be followed by FINFICHIER: read that tag next.
            start = end if end_name == "FINFICHIER" else end + 1
        if not complete:
            self._tell("HM-W21", len(self._lines))
        self._tell_source()
        return HprimFile(
            self._source.encoding,
            self._source.newline,
            tuple(dossiers),
            trailer,
            complete,
            tuple(self._found),
        )

    def _tags(self) -> list[tuple[str, int]]:
        """Tag lines in order: name and 0-based index."""
        if max(map(len, self._lines)) > MAX_LINE:
            raise ParseError("HM-E05", "ligne de plus de 10 000 caractères")
        tags = []
        for index, line in enumerate(self._lines):
            if line[:3] == "***" and (tag := _TAG.match(line)):
                tags.append((tag[2], index))
                if len(tag[1]) != 4 or len(tag[3]) != 4:
                    self._tell("HM-W23", index + 1)
        return tags

    def _end(self, tags: list[tuple[str, int]], start: int) -> tuple[str, int]:
        for name, index in tags:
            if index >= start and name != "LAB":
                return name, index
        return "", len(self._lines)

    def _filled(self, start: int, end: int) -> bool:
        return any(line.strip() for line in self._lines[start:end])

    def _trailer(self, start: int, tags: list[tuple[str, int]]) -> tuple[str, ...]:
        if any(index >= start and name == "FIN" for name, index in tags):
            raise ParseError(
                "HM-E02",
                "un second fichier suit ****FINFICHIER**** : le déposer séparément",
                line=start + 1,
            )
        trailer = tuple(line.rstrip() for line in self._lines[start:] if line.strip())
        if trailer:
            self._tell("HM-W22", start + 1)
        return trailer

    def _dossier(
        self, start: int, end: int, tags: list[tuple[str, int]], *, first: bool
    ) -> Dossier:
        lab = next((i for name, i in tags if name == "LAB" and start <= i < end), None)
        body = self._lines[start : end if lab is None else lab]
        lines = self._header_lines(body, start, first=first)
        text = [part.rstrip() for part in self._text(body[lines.used :], start + lines.used)]
        while text and not text[0]:
            del text[0]
        while text and not text[-1]:
            del text[-1]
        records = None if lab is None else self._records(lab + 1, end)
        header = header_of(lines, start, self._tell_as)
        return Dossier(header, tuple(text), records, True, lines.dropped)

    def _header_lines(self, body: list[str], start: int, *, first: bool) -> HeaderLines:
        lines = aligned(body)
        if lines is None and first:
            raise ParseError(
                "HM-E01", "ce n'est pas de l'HPRIM Médecin : en-tête de 12 lignes introuvable"
            )
        if lines is None:
            raise ParseError(
                "HM-E02", "un autre dossier commence mais son en-tête est coupé", line=start + 1
            )
        if lines.repair:
            self._tell_as(lines.repair, "en-tête qui n'a pas 12 lignes, réaligné", start + 1)
        if self._markup:
            mended = tuple(self._mended(line, start + 1, " ") for line in lines.lines)
            lines = lines._replace(lines=mended)
        return lines

    def _text(self, body: list[str], start: int) -> list[str]:
        if not self._markup:
            return body
        kept: list[str] = []
        for offset, line in enumerate(body):
            kept += self._mended(line, start + offset + 1, "\n").split("\n")
        return kept

    def _mended(self, line: str, number: int, line_break: str) -> str:
        """Undo HTML entities and <br /> in one line (HM-W53)."""
        mended = _ENTITY.sub(_character, _BREAK.sub(line_break, line))
        if mended != line:
            self._tell("HM-W53", number)
        return mended

    def _records(self, start: int, end: int) -> tuple[Record, ...]:
        records: list[Record] = []
        for number, raw in enumerate(self._lines[start:end], start + 1):
            line = self._mended(raw, number, " ") if self._markup else raw
            kind = line[:4]
            if kind == "RES|":
                records.append(self._res(line, number))
            elif kind == "TEX|":
                records.append(Tex(line[4:].rstrip(), number))
            elif kind.rstrip() == "TEX" and not line[3:].strip():
                records.append(Tex("", number))
            elif line.strip() and not _TAG.match(line):
                self._tell("HM-W40", number)
                records.append(Unknown(line.rstrip(), number))
        return tuple(records)

    def _res(self, line: str, number: int) -> Res:
        fields = line.split("|")
        if " |" in line or "| " in line or line[-1] == " " or not line.isprintable():
            fields = [field.strip() for field in fields]
        count = len(fields)
        surplus: tuple[str, ...] = ()
        if count < 14:
            if count < 10:
                self._tell("HM-W30", number)
            fields += [""] * (14 - count)
        elif count > 14:
            surplus = tuple(fields[14:])
            if any(surplus):
                self._tell("HM-W31", number)
            else:
                surplus = ()
        label, code, kind, value, unit, low, high, flag, status, *second = fields[1:14]
        numeric = comparator = None
        if _PLAIN.fullmatch(value):  # nearly always
            numeric = value
        elif value and (found := _NUMERIC.match(value)):
            comparator = found[1]
            numeric = found[2].replace(" ", "").replace("\u00a0", "").replace(",", ".")
        value2, unit2, low2, high2 = second
        res = Res(
            label, code, kind, value, unit, low, high, flag, status,
            value2, unit2, low2, high2, numeric, comparator, surplus, number,
        )  # fmt: skip
        self._judge(res)
        return res

    def _judge(self, res: Res) -> None:
        """Tell what is odd in one result; nothing is changed."""
        if res.type == "N":
            if res.value and res.value != res.numeric:
                self._judge_number(res)
        elif res.type not in ("A", "C"):
            self._tell("HM-W32", res.line)
        if res.low and not res.high and _PACKED.fullmatch(res.low):
            self._tell("HM-W36", res.line)
        if res.flag not in ("", "N", "L", "H", "LL", "HH"):
            self._tell("HM-W37", res.line)
        if res.status not in ("", "F", "C", "R"):
            self._tell("HM-W38", res.line)
        if not res.label and not res.value:
            self._tell("HM-W39", res.line)

    def _judge_number(self, res: Res) -> None:
        if res.comparator:
            self._tell("HM-W34", res.line)
        if "," in res.value:
            self._tell("HM-W33", res.line)
        if " " in res.value.removeprefix(res.comparator or "").strip():
            self._tell("HM-W35", res.line)

    def _tell(self, code: str, line: int | None) -> None:
        self._tell_as(code, _MESSAGES[code], line)

    def _tell_as(self, code: str, message: str, line: int | None) -> None:
        """Keep one remark per code: the first place is enough to find the habit of a sender."""
        if code not in self._told:
            self._told.add(code)
            self._found.append(Diagnostic(code=code, message=message, line=line))

    def _tell_source(self) -> None:
        source = self._source
        for code, true in (
            ("HM-W50", source.encoding != "iso-8859-1"),
            ("HM-W51", source.marked),
            ("HM-W52", source.uneven),
            ("HM-W54", source.twice),
            ("HM-W55", source.cleaned),
        ):
            if true:
                self._tell(code, None)


def _character(entity: re.Match[str]) -> str:
    """One HTML entity; those that would change the structure of the file stay as they are."""
    character = html.unescape(entity[0])
    kept = len(character) == 1 and character != "|" and (character.isprintable())
    return character if kept or character == "\u00a0" else entity[0]
