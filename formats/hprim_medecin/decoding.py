"""Bytes of an HPRIM file to text: which character set, which line ends, what had to be repaired.

HPRIM files never say how they are encoded. The order of the trials and the scores are those of the
reference sheet (HPRIM Médecin 3.0, section 5): byte order marks, ASCII, strict UTF-8 (once or
twice encoded), then the best of windows-1252, CP850 and MacRoman.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from dlx.errors import ParseError

_FRENCH = frozenset("éèêëàâäçîïôöùûüÉÈÀÇ°µ²³")
_ENCODED_TWICE = re.compile(r"[ÃÂ][\u0080-\u00bf\u0152-\u2122]")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufeff]")
_C1 = bytes(range(0x80, 0xA0))
_SUSPECT = bytes(b for b in range(0x20) if b not in b"\t\n\r") + b"\x7f" + _C1
_SINGLE_BYTE = (("cp1252", "windows-1252"), ("cp850", "cp850"), ("mac_roman", "mac-roman"))
_ASCII = bytes(range(0x80))


def _score(character: str) -> int:
    if character in _FRENCH:
        return 2
    return -1 if character.isalpha() else -3


_SCORES = {
    codec: [_score(bytes((byte,)).decode(codec, "replace")) for byte in range(0x100)]
    for codec, _ in _SINGLE_BYTE
}


class Decoded(NamedTuple):
    """The text of a file, lines ended by "\\n", and what was found on the way.

    Attributes:
        text: without byte order mark and control characters; a tab has become a blank.
        encoding: ``iso-8859-1`` (ASCII included), ``windows-1252``, ``utf-8``, ``utf-16-le``,
            ``utf-16-be``, ``cp850`` or ``mac-roman``.
        newline: ``crlf``, ``lf`` or ``cr``: the most frequent one.
        marked, twice, cleaned, uneven: a byte order mark was there; the UTF-8 was encoded twice;
            control characters were dropped; some line end was not CRLF.
    """

    text: str
    encoding: str
    newline: str
    marked: bool = False
    twice: bool = False
    cleaned: bool = False
    uneven: bool = False


def decoded(data: bytes, code: str) -> Decoded:
    """Decode a whole file.

    Raises ParseError with ``code`` when the bytes are in no known character set (binary files).
    """
    text, encoding, marked, twice = _text_of(data, code)
    crlf = text.count("\r\n")
    lf = text.count("\n") - crlf
    cr = text.count("\r") - crlf
    newline = max((("crlf", crlf), ("lf", lf), ("cr", cr)), key=lambda pair: pair[1])[0]
    if crlf or cr:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    cleaned = False
    # Counting bytes first costs a tenth of the search, and nearly every file has none.
    if (encoding[:3] == "utf" or _holds(data, _SUSPECT)) and _CONTROL.search(text):
        text, cleaned = _CONTROL.sub("", text), True
    if "\t" in text:
        text, cleaned = text.replace("\t", " "), True
    return Decoded(text, encoding, newline, marked, twice, cleaned, bool(lf or cr))


def _holds(data: bytes, some: bytes) -> bool:
    return len(data.translate(None, some)) != len(data)


def _text_of(data: bytes, code: str) -> tuple[str, str, bool, bool]:
    """Text, encoding, marked, twice."""
    for mark, name in ((b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be")):
        if data.startswith(mark):
            return _strictly(data[2:], name, code), name, True, False
    if data.startswith(b"\xef\xbb\xbf"):
        return _strictly(data[3:], "utf-8", code), "utf-8", True, False
    if b"\x00" in data:
        raise ParseError(code, "fichier binaire : ce n'est pas un texte")
    if data.isascii():
        return data.decode("ascii"), "iso-8859-1", False, False
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return *_best_guess(data), False, False
    once = _undone(text)
    return (text if once is None else once), "utf-8", False, once is not None


def _strictly(data: bytes, name: str, code: str) -> str:
    try:
        return data.decode(name)
    except UnicodeDecodeError as error:
        raise ParseError(
            code, f"octets indécodables malgré la marque {name}", offset=error.start
        ) from error


def _undone(text: str) -> str | None:
    """The text before a second UTF-8 encoding; None when there was none."""
    if not _ENCODED_TWICE.search(text):
        return None
    for name in ("cp1252", "latin-1"):
        try:
            return text.encode(name).decode("utf-8")
        except UnicodeError:
            continue
    return None


def _best_guess(data: bytes) -> tuple[str, str]:
    best = ("", "", float("-inf"))
    high = data.translate(None, _ASCII)
    counts = [(byte, high.count(byte)) for byte in set(high)]
    for codec, name in _SINGLE_BYTE:
        scores = _SCORES[codec]
        score = sum(scores[byte] * count for byte, count in counts)
        if score > best[2]:
            best = (codec, name, score)
    codec, name, _ = best
    if codec != "cp1252":
        return data.decode(codec, "replace"), name
    if not _holds(data, _C1):
        return data.decode("latin-1"), "iso-8859-1"
    # Five bytes have no meaning in windows-1252; ISO-8859-1 gives each of them a control character,
    # which is dropped later and reported.
    try:
        return data.decode("cp1252"), name
    except UnicodeDecodeError:
        return data.decode("latin-1"), "iso-8859-1"
