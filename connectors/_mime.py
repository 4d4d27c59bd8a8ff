"""The bytes of a signed and encrypted mail (RFC 8551), built once and never parsed again.

    outer header, fixed Subject                     seen by every relay
      application/pkcs7-mime (enveloped)
        multipart/signed
          multipart/mixed; hp="cipher"              header protection, RFC 9788
            text/plain                              covering note, no medical data
            one part per rendition, base64
          application/pkcs7-signature

Everything signed is 7-bit with CRLF, lines of at most 76, no line beginning with ``From ``: a
relay that recodes 8-bit text, strips blanks or mends line ends would break the signature.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime

_LINE = 76
_MEDIA_TYPE = re.compile(r"""[\w.+-]+/[\w.+-]+(?:; ?[\w-]+=(?:[\w.+-]+|"[\w.+ -]+"))*""", re.ASCII)
_SUFFIX = re.compile(r"(?:\.[A-Za-z0-9]{1,12}){1,3}")
_NOT_IN_HEADER = re.compile(r"[\x00-\x1f\x7f\u0085\u2028\u2029]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One attachment: its media type, its name (safe characters only) and its bytes."""

    media_type: str
    name: str
    content: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """What a mail says, before it is sealed.

    Attributes:
        sender, to, reply_to: mail addresses, already judged; ``reply_to`` may be "".
        date: aware. message_id: with its angle brackets.
        subject: the inner one; outer_subject: the fixed text every relay may read.
        note: covering text, lines kept apart by "\\n". parts: the renditions.
    """

    sender: str
    to: str
    reply_to: str = ""
    date: datetime
    message_id: str
    subject: str
    outer_subject: str
    note: str
    parts: Sequence[Part] = field(default=())

    def fields(self, subject: str) -> list[tuple[str, str]]:
        """Header fields that travel both inside and outside."""
        fields = [
            ("From", f"<{self.sender}>"),
            ("To", f"<{self.to}>"),
            ("Date", format_datetime(self.date.astimezone(UTC))),
            ("Message-ID", self.message_id),
            ("Subject", encoded_words(subject)),
            ("Auto-Submitted", "auto-generated"),
        ]
        if self.reply_to:
            fields.append(("Reply-To", f"<{self.reply_to}>"))
        return fields


def header(name: str, value: str) -> bytes:
    """One header line. Raises ValueError for a value that would begin another line."""
    if _NOT_IN_HEADER.search(value.replace("\r\n ", " ")):
        raise ValueError(f"caractère interdit dans l'en-tête {name}")
    return f"{name}: {value}\r\n".encode("ascii")


def encoded_words(text: str) -> str:
    """A header text: as it is in ASCII, else encoded words of at most 75 characters (RFC 2047)."""
    if _NOT_IN_HEADER.search(text):
        raise ValueError("caractère interdit dans un en-tête")
    if text.isascii() and len(text) <= _LINE and "=?" not in text:
        return text
    words, chunk = [], b""
    for character in text:
        encoded = character.encode()
        if len(chunk) + len(encoded) > 45:  # 45 bytes are 60 of base64
            words.append(chunk)
            chunk = b""
        chunk += encoded
    words.append(chunk)
    return "\r\n ".join(
        f"=?utf-8?B?{binascii.b2a_base64(w, newline=False).decode()}?=" for w in words
    )


def base64_lines(content: bytes) -> bytes:
    """Base64 in lines of 76 characters (RFC 2045 section 6.8), each ended by CRLF.

    Column by column: 76 strided copies instead of one slice for each of thousands of lines.
    """
    text = binascii.b2a_base64(content, newline=False)
    full, rest = divmod(len(text), 76)
    lines = bytearray(b"\r\n" * (full * 39))
    body = text[: full * 76]
    for column in range(76):
        lines[column::78] = body[column::76]
    return bytes(lines) + (text[-rest:] + b"\r\n" if rest else b"")


def quoted_printable(text: str) -> bytes:
    """Quoted-printable with CRLF; a line that begins with ``From `` is disguised."""
    body = binascii.b2a_qp(text.rstrip("\n").encode() + b"\n", istext=True)
    body = re.sub(rb"(?m)^From ", b"=46rom ", body)
    return body.replace(b"\n", b"\r\n")


def media_type_of(media_type: str) -> str:
    """The media type as it may stand in a header; anything odd becomes octet-stream."""
    return media_type if _MEDIA_TYPE.fullmatch(media_type) else "application/octet-stream"


def suffix_of(suffix: str) -> str:
    """A file ending as it may stand in a header; anything odd becomes ``.bin``."""
    return suffix if _SUFFIX.fullmatch(suffix) else ".bin"


def payload(letter: Letter, boundary: str) -> bytes:
    """The entity that is signed: protected header, covering note, renditions."""
    inner = letter.fields(letter.subject)
    outer = letter.fields(letter.outer_subject)
    mark = f"--{boundary}\r\n".encode()
    pieces = [
        header("Content-Type", f'multipart/mixed; boundary="{boundary}";\r\n hp="cipher"'),
        *(header(name, value) for name, value in inner),
        *(header("HP-Outer", f"{name}: {value}") for name, value in outer),
        b"\r\n",
        mark,
        b"Content-Type: text/plain; charset=utf-8\r\n",
        b"Content-Transfer-Encoding: quoted-printable\r\n\r\n",
        quoted_printable(letter.note),
    ]
    for part in letter.parts:
        pieces += [
            b"\r\n",
            mark,
            header("Content-Type", f'{part.media_type};\r\n name="{part.name}"'),
            b"Content-Transfer-Encoding: base64\r\n",
            header("Content-Disposition", f'attachment; filename="{part.name}"'),
            b"\r\n",
            base64_lines(part.content),
        ]
    pieces.append(f"\r\n--{boundary}--\r\n".encode())
    return b"".join(pieces)


def signed_entity(content: bytes, signature: bytes, micalg: str, boundary: str) -> bytes:
    """multipart/signed (RFC 1847, RFC 8551 section 3.5.3) around exactly these bytes."""
    mark = f"--{boundary}\r\n".encode()
    return b"".join(
        (
            b'Content-Type: multipart/signed; protocol="application/pkcs7-signature";\r\n',
            f' micalg={micalg}; boundary="{boundary}"\r\n\r\n'.encode(),
            mark,
            content,
            b"\r\n",
            mark,
            b'Content-Type: application/pkcs7-signature; name="smime.p7s"\r\n',
            b"Content-Transfer-Encoding: base64\r\n",
            b'Content-Disposition: attachment; filename="smime.p7s"\r\n\r\n',
            base64_lines(signature),
            f"\r\n--{boundary}--\r\n".encode(),
        )
    )


def enveloped_message(letter: Letter, sealed: bytes, *, authenticated: bool) -> bytes:
    """The whole mail as it goes on the wire, before dot-stuffing."""
    kind = "authEnveloped-data" if authenticated else "enveloped-data"
    return b"".join(
        (
            *(header(name, value) for name, value in letter.fields(letter.outer_subject)),
            b"MIME-Version: 1.0\r\n",
            f"Content-Type: application/pkcs7-mime; smime-type={kind};\r\n".encode(),
            b' name="smime.p7m"\r\n',
            b"Content-Transfer-Encoding: base64\r\n",
            b'Content-Disposition: attachment; filename="smime.p7m"\r\n\r\n',
            base64_lines(sealed),
        )
    )
