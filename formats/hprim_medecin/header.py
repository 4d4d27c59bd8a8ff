"""The twelve header lines of a HPRIM Médecin dossier (version 3.0): found, realigned, split."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from dlx.errors import ParseError
from dlx.moment import Moment

Tell = Callable[[str, str, int | None], None]

_SLASHED = re.compile(r"(\d{1,2})[/.-](\d{1,2})[/.-](\d{4}|\d{2})", re.ASCII)
_ISO = re.compile(r"(\d{4})-(\d\d)-(\d\d)", re.ASCII)
_INSIDE = re.compile(
    r"(?<!\d)(?:\d{4}-\d\d-\d\d|\d{1,2}[/.]\d{1,2}[/.](?:\d{4}|\d{2}))(?!\d)", re.ASCII
)
_EXACT = re.compile(r"\d\d/\d\d/\d{4}", re.ASCII)
_NIR = re.compile(r"(\d{5}(?:\d\d|2[AB])\d{6})(\d\d)?", re.ASCII)
_SEARCHED = 40


class Header(NamedTuple):
    """The header, split.

    Attributes:
        birth_date, record_date: ISO, or "" when there is none.
        birth_text: line 7 as written. address_wide: what line 1 held beyond the patient code.
    """

    patient_id: str
    family_name: str
    given_name: str
    address1: str
    address2: str
    postal_code: str
    city: str
    birth_date: str
    nir: str
    nir_key: str
    record_number: str
    record_date: str
    sender_code: str
    sender_name: str
    receiver_code: str
    receiver_name: str
    birth_text: str
    first_line_rest: str


class HeaderLines(NamedTuple):
    """Twelve lines, how many lines of the file they used, which repair was needed, and the rest."""

    lines: tuple[str, ...]
    used: int
    repair: str
    dropped: tuple[str, ...]


def aligned(body: Sequence[str]) -> HeaderLines | None:
    """Find the header at the start of ``body``; None when there is none.

    Birth date and record date are always three lines apart: the pair tells how many lines are
    missing or too many before it.
    """
    head = list(body[:_SEARCHED])
    for at in (7, 6, 5, 4, *range(8, _SEARCHED - 3)):
        if at + 3 <= len(head) and _birth(head[at - 1]) and _INSIDE.search(head[at + 2]):
            if at > 11 and any(line.strip() for line in head[: at - 11]):
                return None
            return _shifted(head, at)
    # One of the two dates is missing: only the unshifted place can be trusted.
    if len(head) >= 11 and (_birth(head[6]) or _EXACT.fullmatch(head[9].strip())):
        return _shifted(head, 7)
    return None


def _birth(line: str) -> bool:
    line = line.strip()
    return bool(_SLASHED.fullmatch(line) or _ISO.fullmatch(line))


def _shifted(head: list[str], at: int) -> HeaderLines | None:
    """The twelve lines when the birth date is on the 1-based line ``at`` instead of 7."""
    if len(head) < at + 4:
        return None  # the file ends before the sender's line
    lines = head + [""] * 8
    if at <= 7:
        missing = 7 - at
        town = 3 if at == 4 else at - 2  # with four lines there is no town either
        whole = [*lines[:town], *[""] * missing, *lines[town:]]
        return HeaderLines(
            tuple(whole[:12]), min(12 - missing, len(head)), "HM-W10" if missing else "", ()
        )
    extra = at - 7
    dropped = tuple(line.strip() for line in head[:extra] if line.strip())
    return HeaderLines(tuple(lines[extra : extra + 12]), extra + 12, "HM-W11", dropped)


def header_of(found: HeaderLines, start: int, tell: Tell) -> Header:
    """Split the twelve lines. Raises ParseError HM-E03 when the identity is not complete."""
    line = [text.strip() for text in found.lines]
    first, rest = _first_line(found.lines[0], start, tell)
    record_date = _record_date(line[9], start, tell)
    birth_date = _birth_date(line[6], record_date, start, tell)
    _require_identity(line, birth_date, found, start)
    postal, _, city = line[5].partition(" ")
    nir, key = _nir(line[7], start, tell)
    sender_code, sender_name = _coded_name(found.lines[10])
    receiver_code, receiver_name = _coded_name(found.lines[11])
    return Header(
        first, line[1], line[2], line[3], line[4],
        postal, city.strip(), birth_date, nir, key, line[8], record_date,
        sender_code, sender_name, receiver_code, receiver_name, line[6], rest,
    )  # fmt: skip


def _require_identity(line: list[str], birth_date: str, found: HeaderLines, start: int) -> None:
    for index, what in ((1, "nom"), (2, "prénom"), (6, "date de naissance")):
        if not line[index] or (index == 6 and not birth_date):
            raise ParseError(
                "HM-E03", f"{what} du patient absent ou illisible", line=start + index + 1
            )
    if found.dropped and any(c.isdigit() for c in line[1] + line[2]):
        # The surplus line stood between the name and the dates: the names cannot be told.
        raise ParseError(
            "HM-E03", "en-tête trop long : nom et prénom du patient incertains", line=start + 2
        )


def _first_line(line: str, start: int, tell: Tell) -> tuple[str, str]:
    code = line.strip()
    if len(code) > 10 and "  " in code:
        tell("HM-W16", "ligne 1 plus large que le code patient", start + 1)
        code, _, rest = code.partition("  ")
        return code, rest.strip()
    return code, ""


def _century(year: str, latest: int) -> int:
    """A year of two digits is the last one not after ``latest``."""
    if len(year) == 4:
        return int(year)
    full = latest - latest % 100 + int(year)
    return full if full <= latest else full - 100


def _iso(text: str, latest: int) -> str:
    """ISO form of a whole date text; "" when it is none. The month is not judged here."""
    if found := _ISO.fullmatch(text):
        return text
    if found := _SLASHED.fullmatch(text):
        return f"{_century(found[3], latest):04d}-{int(found[2]):02d}-{int(found[1]):02d}"
    return ""


def _real(iso: str) -> bool:
    return Moment.read(iso.replace("-", "")) is not None


def _record_date(text: str, start: int, tell: Tell) -> str:
    found = _INSIDE.search(text)
    # No patient file of this format is older than the format itself (1990s) nor from after 2069.
    iso = _iso(found[0], 2069) if found else ""
    if not iso or not _EXACT.fullmatch(text):
        tell("HM-W14", "ligne 10 : la date du dossier n'est pas seule (JJ/MM/AAAA)", start + 10)
    return iso if iso and _real(iso) else ""


def _birth_date(text: str, record_date: str, start: int, tell: Tell) -> str:
    iso = _iso(text, int(record_date[:4] or 2069))
    if iso and not _EXACT.fullmatch(text):
        tell("HM-W12", "date de naissance sous une autre forme que JJ/MM/AAAA", start + 7)
    if iso and not _real(iso):
        month = int(iso[5:7])
        if month == 20 or 30 <= month <= 42 or 50 <= month <= 99:
            # Months used by the social security when the true one is unknown (EPI does the same).
            tell("HM-W13", "mois de naissance fictif, lu comme janvier", start + 7)
            iso = f"{iso[:5]}01{iso[7:]}"
        return iso if _real(iso) else ""
    return iso


def nir_key(nir: str) -> str:
    """Control key of a 13 character NIR: 97 − N mod 97, with 2A → 19 and 2B → 18."""
    return f"{97 - int(nir.replace('2A', '19').replace('2B', '18')) % 97:02d}"


def _nir(text: str, start: int, tell: Tell) -> tuple[str, str]:
    plain = text.replace(" ", "").upper()
    if not plain:
        return "", ""
    found = _NIR.fullmatch(plain)
    if found is None:
        tell("HM-W15", "numéro de sécurité sociale mal formé", start + 8)
        return text, ""
    if found[2] != nir_key(found[1]):
        tell("HM-W15", "clé du numéro de sécurité sociale absente ou fausse", start + 8)
    return found[1], found[2] or ""


def _coded_name(line: str) -> tuple[str, str]:
    """Code and name of lines 11 and 12: cut at column 10, else at the first blank."""
    code, name = line[:10].strip(), line[10:]
    if not (name.startswith(" ") and " " not in code and not line.startswith(" ")):
        text = line.strip()
        code, _, name = text.partition(" ")
        if not name and len(code) > 10:
            code, name = "", code
    return ("" if code == "." else code), name.strip()
