"""Open a mail as its recipient would, to see what arrived: decrypt, verify, list the parts.

A judge that shares no code with the connector: the recipient's key is used through
``cryptography``'s own reader, the signature is checked by the ``openssl`` program.
"""

from __future__ import annotations

import email
import email.message
import email.policy
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from dlx.testing.pki import Identity


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """What the recipient sees.

    Attributes:
        outer: header fields every relay saw. inner: the protected ones, by lower-case name.
        note: the covering text. attachments: (file name, media type, bytes) in order.
        payload: the signed bytes.
    """

    outer: email.message.EmailMessage
    inner: email.message.EmailMessage
    note: str
    attachments: tuple[tuple[str, str, bytes], ...]
    payload: bytes


def open_mail(message: bytes, reader: Identity, anchor: Path) -> Opened:
    """Decrypt with ``reader``, verify up to ``anchor`` (PEM of the root), take apart.

    Raises ValueError with openssl's words when it cannot be opened or the signature does not hold.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sealed, signed = folder / "sealed", folder / "signed"
        sealed.write_bytes(message)
        recipient: list[str | Path] = ["-recip", reader.certificate_pem, "-inkey", reader.pem]
        _openssl("-decrypt", "-binary", "-in", sealed, *recipient, "-out", signed)
        payload = _openssl("-verify", "-in", signed, "-CAfile", anchor, "-purpose", "smimesign")
    inner = _message(payload)
    parts = list(inner.iter_parts())
    note = parts[0].get_content() if parts else ""
    attachments = tuple(
        (part.get_filename() or "", part.get_content_type(), _bytes(part)) for part in parts[1:]
    )
    return Opened(
        outer=_message(message), inner=inner, note=note, attachments=attachments, payload=payload
    )


def _openssl(*arguments: str | Path) -> bytes:
    run = subprocess.run(
        ["openssl", "cms", *map(str, arguments)], capture_output=True, check=False, timeout=30
    )
    if run.returncode:
        raise ValueError(run.stderr.decode(errors="replace"))
    return run.stdout


def _message(content: bytes) -> email.message.EmailMessage:
    return email.message_from_bytes(content, policy=email.policy.SMTP)


def _bytes(part: email.message.Message) -> bytes:
    content = part.get_payload(decode=True)
    return content if isinstance(content, bytes) else b""
