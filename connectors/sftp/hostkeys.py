"""Keys of servers, pinned by the operator: exactly these, between these dates, never learnt.

A pin is ``SHA256:…`` (RFC 4648 base 64 of the digest of the RFC 4253 §6.6 key blob, as OpenSSH
prints it) or a whole public key (``ssh-ed25519 AAAA…``), with optional words ``from=2025-01-01``
and ``until=2025-12-31``.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import paramiko

_FINGERPRINT = re.compile(r"SHA256:[A-Za-z0-9+/]{43}=?")
_TYPES = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "rsa-sha2-512",
    "rsa-sha2-256",
)


class PinError(ValueError):
    """A pin that cannot be read; the message is a French sentence for the operator."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """One accepted key.

    Attributes:
        fingerprint: ``SHA256:…`` without padding.
        type: ``ssh-ed25519``… when the whole key was given, else "".
        begins, ends: first and last day it counts, or None.
    """

    fingerprint: str
    type: str = ""
    begins: date | None = None
    ends: date | None = None

    def counts_on(self, day: date) -> bool:
        """True when ``day`` lies within its dates."""
        return (self.begins is None or self.begins <= day) and (
            self.ends is None or day <= self.ends
        )


def pin_of(text: str) -> Pin:
    """Read one entry of ``host_key:``. Raises PinError."""
    words = text.split()
    dates = {
        name: _day(value)
        for name, mark, value in (word.partition("=") for word in words)
        if mark and name in ("from", "until")
    }
    key = [word for word in words if not word.startswith(("from=", "until="))]
    begins, ends = dates.get("from"), dates.get("until")
    if len(key) == 1 and _FINGERPRINT.fullmatch(key[0]):
        return Pin(fingerprint=key[0].rstrip("="), begins=begins, ends=ends)
    if len(key) >= 2:
        return Pin(fingerprint=_digest(key[1]), type=key[0], begins=begins, ends=ends)
    raise PinError(f"« {text[:80]} » n'est ni une empreinte SHA256:… ni une clé publique")


def fingerprint_of(key: paramiko.PKey) -> str:
    """``SHA256:…`` of a key, as OpenSSH prints it."""
    return _printed(key.asbytes())


def wanted_types(pins: Sequence[Pin]) -> Sequence[str]:
    """Signature algorithms to ask for: a server with several keys must show the pinned one.

    A bare fingerprint does not tell its type; then every type is asked for, best first, and the
    connection is tried once per type (see ``connection``).
    """
    types: list[str] = []
    for pin in pins:
        if not pin.type:
            return _TYPES
        if pin.type == "ssh-rsa":
            types += ["rsa-sha2-512", "rsa-sha2-256"]
        else:
            types.append(pin.type)
    return tuple(dict.fromkeys(types))


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise PinError(f"« {text} » n'est pas une date AAAA-MM-JJ") from None


def _digest(encoded: str) -> str:
    try:
        return _printed(base64.b64decode(encoded, validate=True))
    except binascii.Error:
        raise PinError("clé publique illisible (base 64)") from None


def _printed(blob: bytes) -> str:
    digest = base64.b64encode(hashlib.sha256(blob).digest()).decode("ascii")
    return f"SHA256:{digest.rstrip('=')}"
