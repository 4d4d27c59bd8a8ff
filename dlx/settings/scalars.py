"""Texts of the configuration → typed values; each refusal has its code, its words and its cure."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, time
from typing import Annotated, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BeforeValidator
from pydantic_core import PydanticCustomError

from dlx.settings.words import closest

_YES = frozenset({"true", "yes", "on", "oui"})
_NO = frozenset({"false", "no", "off", "non"})
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800, "y": 31_557_600}
_SIZES = {"B": 1, "KB": 1000, "MB": 1_000_000, "GB": 1_000_000_000}
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})+")
# The dot-atom of RFC 5321 §4.1.2; quoted local parts are legal there and never wanted here.
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LOCAL = re.compile(rf"{_ATOM}(?:\.{_ATOM})*")


def wrong(code: str, message: str, cure: str = "") -> PydanticCustomError:
    """A refusal with its stable code; braces in ``message`` are kept."""
    # The template is a constant, so that the operator's braces are never read as fields.
    return PydanticCustomError(code, "{words}", {"words": message, "cure": cure})


def boolean(text: str) -> bool:
    """``true yes on oui`` or ``false no off non``."""
    word = text.strip().lower()
    if word in _YES:
        return True
    if word in _NO:
        return False
    raise wrong("C042", f"« {text} » : attendu oui ou non", "écrivez yes ou no")


def duration(text: str) -> float:
    """Seconds of ``30s 15m 4h 3d 2w 5y``."""
    found = re.fullmatch(r"(\d{1,6})\s?([smhdwy])", text)
    if found is None:
        cure = "écrivez par exemple 30s, 15m, 4h ou 3d"
        raise wrong(
            "C043", f"durée « {text} » : attendu un nombre suivi de s, m, h, d, w ou y", cure
        )
    return float(int(found[1]) * _SECONDS[found[2]])


def size(text: str) -> int:
    """Bytes of ``500KB 20MB 1GB`` (powers of ten; ``Mo`` is understood)."""
    found = re.fullmatch(r"(\d{1,9})\s?([kKmMgG]?[bBoO])", text)
    if found is None:
        raise wrong("C044", f"taille « {text} » : attendu par exemple 20MB", "écrivez 20MB")
    return (
        int(found[1])
        * _SIZES[found[2].upper().replace("O", "O") if found[2].upper() != "O" else "B"]
    )


def hour(text: str) -> time:
    """``HH:MM``, in the laboratory's zone."""
    found = re.fullmatch(r"([01]\d|2[0-3]):([0-5]\d)", text)
    if found is None:
        raise wrong("C041", f"heure « {text} » : attendu HH:MM, de 00:00 à 23:59", "écrivez 07:30")
    return time(int(found[1]), int(found[2]))


def hours(text: str) -> tuple[time, time]:
    """``HH:MM-HH:MM``; ``always`` is 00:00-00:00."""
    if text in ("always", "toujours"):
        return time(0), time(0)
    start, dash, end = text.partition("-")
    if not dash:
        raise wrong(
            "C041", f"plage « {text} » : attendu HH:MM-HH:MM ou always", "écrivez 07:00-20:00"
        )
    return hour(start.strip()), hour(end.strip())


def day(text: str) -> date:
    """``YYYY-MM-DD``."""
    if re.fullmatch(r"\d{4}-\d\d-\d\d", text):
        try:
            return date.fromisoformat(text)
        except ValueError:
            pass
    raise wrong("C045", f"date « {text} » : attendu AAAA-MM-JJ", "écrivez par exemple 2026-08-01")


def whole(low: int, high: int) -> Callable[[str], int]:
    """A converter of whole numbers from ``low`` to ``high``."""

    def number(text: str) -> int:
        if not re.fullmatch(r"\d{1,12}", text) or not low <= int(text) <= high:
            raise wrong("C046", f"« {text} » : attendu un nombre entier de {low} à {high}")
        return int(text)

    return number


def factor(text: str) -> float:
    """A number from 1 to 10, with a dot."""
    if not re.fullmatch(r"\d{1,2}(\.\d{1,3})?", text) or not 1 <= float(text) <= 10:
        raise wrong("C046", f"« {text} » : attendu un nombre de 1 à 10")
    return float(text)


def one_of(*words: str) -> Callable[[str], str]:
    """A converter that accepts these words only, and suggests the nearest."""

    def word(text: str) -> str:
        if text in words:
            return text
        raise wrong("C015", f"« {text} » : valeur inconnue", closest(text, words))

    return word


def luhn_ok(digits: str) -> bool:
    """True when the last digit is the Luhn key of the others (RPPS: ANS, key of order 11)."""
    total = 0
    for position, digit in enumerate(reversed(digits)):
        value = int(digit) * (2 if position % 2 else 1)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def rpps(text: str) -> str:
    """Eleven digits with their Luhn key; fictitious numbers, which start with 997, need no key."""
    if not re.fullmatch(r"[0-9]+", text):
        raise wrong(
            "C021", f"numéro RPPS « {text} » : 11 chiffres attendus", "ôtez lettres et blancs"
        )
    if len(text) != 11:
        cure = "vérifiez le zéro ou le chiffre manquant ; la clé de contrôle sera vérifiée"
        raise wrong("C021", f"numéro RPPS « {text} » : {len(text)} chiffres au lieu de 11", cure)
    if not text.startswith("997") and not luhn_ok(text):
        cure = "recopiez le numéro depuis l'annuaire santé"
        raise wrong("C021", f"numéro RPPS « {text} » : la clé de contrôle est fausse", cure)
    return text


def finess(text: str) -> str:
    """Nine characters: a department (2A, 2B for Corsica) and digits."""
    if not re.fullmatch(r"[0-9][0-9AB][0-9]{7}", text):
        cure = "vérifiez le zéro du début ou le caractère manquant"
        raise wrong("C022", f"numéro FINESS « {text} » : 9 caractères attendus", cure)
    return text


def adeli(text: str) -> str:
    """Nine characters: a department and digits."""
    if not re.fullmatch(r"[0-9][0-9AB][0-9]{7}", text):
        raise wrong("C023", f"numéro ADELI « {text} » : 9 caractères attendus")
    return text


def mailbox(text: str) -> str:
    """``local@domain``: one address, no display name, no quotes, ASCII."""
    local, _, domain = text.rpartition("@")
    if (
        len(text) > 254
        or len(local) > 64
        or not _LOCAL.fullmatch(local)
        or not DOMAIN.fullmatch(domain)
    ):
        cure = "écrivez une seule adresse, de la forme nom@domaine.fr"
        raise wrong("C032", f"adresse « {text} » : ce n'est pas une adresse de messagerie", cure)
    return text


def word(text: str) -> str:
    """An identifier of ours: small letters, digits, ``-``, ``_`` and ``.``, 64 at most."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,63}", text):
        cure = "petites lettres, chiffres, tirets ; par exemple dr-lefevre"
        raise wrong("C047", f"nom « {text} » : ce n'est pas un identifiant", cure)
    return text


def filled(text: str) -> str:
    """Any text but an empty one."""
    if not text.strip():
        raise wrong("C048", "valeur vide", "écrivez une valeur, ou ôtez la clé")
    return text


def zone(text: str) -> str:
    """An IANA time zone that this machine knows."""
    try:
        ZoneInfo(text)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        cure = "écrivez par exemple Europe/Paris"
        raise wrong("C049", f"fuseau horaire « {text} » inconnu", cure) from None
    return text


def web_address(text: str) -> str:
    """An https address without user name or password."""
    if not re.fullmatch(r"https://[A-Za-z0-9.-]+(:\d{1,5})?(/[^\s@]*)?", text):
        raise wrong("C033", f"« {text} » : attendu une adresse https://…")
    return text


def rate(text: str) -> tuple[int, float]:
    """``60/min`` → (60, 60 seconds); per ``s``, ``min``, ``h`` or ``d``."""
    found = re.fullmatch(r"([1-9]\d{0,5})/(s|min|h|d)", text)
    if found is None:
        raise wrong("C050", f"débit « {text} » : attendu par exemple 60/min", "écrivez 60/min")
    return int(found[1]), float({"s": 1, "min": 60, "h": 3600, "d": 86_400}[found[2]])


def _textual(value: object) -> object:
    if not isinstance(value, str):
        raise wrong("C014", "attendu une valeur simple, pas un bloc ni une liste")
    return value


def _listed(value: object) -> object:
    return [value] if not isinstance(value, list) else value


def typed(convert: Callable[[str], Any]) -> BeforeValidator:
    """The pydantic validator that makes a value of one text."""
    return BeforeValidator(lambda value: convert(filled(str(_textual(value)))))


Text = Annotated[str, BeforeValidator(_textual), AfterValidator(filled)]
Bool = Annotated[bool, typed(boolean)]
Duration = Annotated[float, typed(duration)]
Size = Annotated[int, typed(size)]
Hour = Annotated[time, typed(hour)]
Hours = Annotated[tuple[time, time], typed(hours)]
Day = Annotated[date, typed(day)]
Rpps = Annotated[str, typed(rpps)]
Finess = Annotated[str, typed(finess)]
Adeli = Annotated[str, typed(adeli)]
Mailbox = Annotated[str, typed(mailbox)]
Word = Annotated[str, typed(word)]
Zone = Annotated[str, typed(zone)]
AsList = BeforeValidator(_listed)
