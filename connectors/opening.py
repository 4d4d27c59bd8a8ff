"""Open a mail of ours as its recipient would: decrypt, verify, say who signed, list the parts.

Used by the demo and, later, by ``dlx mail open``; nothing here sends.
"""

from __future__ import annotations

import email
import email.policy
from dataclasses import dataclass
from datetime import datetime
from email.message import EmailMessage
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from connectors import _cms


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedMail:
    """What the recipient sees.

    Attributes:
        subject: the one every relay saw. signer: address in the verified signer's certificate.
        note: covering text. attachments: (file name, media type, bytes), in order.
    """

    subject: str
    signer: str
    note: str
    attachments: tuple[tuple[str, str, bytes], ...]


def open_mail(message: bytes, identity: Path, anchor: Path, now: datetime) -> OpenedMail:
    """Decrypt with the key and certificate in ``identity``, verify the signature up to ``anchor``.

    Both files are PEM. Raises ValueError when it cannot be opened, was changed, or was signed by
    somebody the anchor does not know.
    """
    outer = _read(message)
    pem = identity.read_bytes()
    key = load_pem_private_key(pem, password=None)
    mine = x509.load_pem_x509_certificate(pem[pem.index(b"-----BEGIN CERTIFICATE") :])
    body = outer.get_payload(decode=True)
    try:
        signed = _cms.decrypt(body if isinstance(body, bytes) else b"", key, mine)  # type: ignore[arg-type]
        content, signature = _parts(signed)
        verified = _cms.verify(signature, content)
        anchors = tuple(_cms.read_certificates(anchor.read_bytes()))
        judge = _cms.Judge(anchors=anchors, check_revocation=False)
        judge.chain([verified.certificate, *verified.certificates], now)
    except _cms.CmsError as error:
        raise ValueError(str(error)) from error
    inner = _read(content)
    parts = [part for part in inner.walk() if not part.is_multipart()]
    text = next((p for p in parts if p.get_content_type() == "text/plain"), None)
    return OpenedMail(
        subject=str(outer["Subject"]),
        signer=", ".join(sorted(_cms.addresses(verified.certificate))),
        note=text.get_content() if text is not None else "",
        attachments=tuple(
            (p.get_filename() or "", p.get_content_type(), _bytes(p))
            for p in parts
            if p is not text
        ),
    )


def _read(content: bytes) -> EmailMessage:
    return email.message_from_bytes(content, policy=email.policy.SMTP)


def _parts(signed: bytes) -> tuple[bytes, bytes]:
    """The signed entity, byte for byte, and the detached signature of a multipart/signed."""
    message = _read(signed)
    boundary = message.get_boundary()
    if message.get_content_type() != "multipart/signed" or not boundary:
        raise ValueError("le contenu déchiffré n'est pas signé")
    mark = b"--" + boundary.encode("ascii")
    start = signed.index(mark) + len(mark) + 2
    content = signed[start : signed.index(b"\r\n" + mark, start)]
    signature = list(message.iter_parts())[1].get_payload(decode=True)
    return content, signature if isinstance(signature, bytes) else b""


def _bytes(part: EmailMessage) -> bytes:
    content = part.get_payload(decode=True)
    return content if isinstance(content, bytes) else b""
