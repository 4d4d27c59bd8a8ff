"""DER as CMS needs it: a writer, a strict reader, and a normaliser for the BER that others send.

X.690 sections 8 (BER), 10 and 11 (DER). Only low tag numbers (below 31) exist in CMS.
"""

from __future__ import annotations

from dataclasses import dataclass

INTEGER = 0x02
BIT_STRING = 0x03
OCTET_STRING = 0x04
NULL = 0x05
OID = 0x06
UTC_TIME = 0x17
GENERALIZED_TIME = 0x18
SEQUENCE = 0x30
SET = 0x31

_CONSTRUCTED = 0x20
# NSS nests ten levels for a signed message inside an enveloped one; beyond is an attack.
_MAX_DEPTH = 32
# OpenSSL cuts streamed content into 4 kB strings: 20 MB is 5,000 of them.
_MAX_ELEMENTS = 100_000


class CmsError(Exception):
    """The only exception of the CMS layer: the message cannot be opened, verified or made."""


def tlv(tag: int, *parts: bytes) -> bytes:
    """Encode one element: tag, definite minimal length, concatenated parts."""
    content = b"".join(parts)
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + content


def sequence(*parts: bytes) -> bytes:
    """Encode a SEQUENCE."""
    return tlv(SEQUENCE, *parts)


def set_of(*parts: bytes) -> bytes:
    """Encode a SET OF: the elements in ascending order of their encodings (X.690 section 11.6)."""
    return tlv(SET, *sorted(parts))


def octets(content: bytes) -> bytes:
    """Encode an OCTET STRING."""
    return tlv(OCTET_STRING, content)


def integer(value: int) -> bytes:
    """Encode a non-negative INTEGER."""
    return tlv(INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def oid(dotted: str) -> bytes:
    """Encode an OBJECT IDENTIFIER from its dotted form."""
    first, second, *others = (int(part) for part in dotted.split("."))
    encoded = bytearray()
    for arc in (first * 40 + second, *others):
        digits = [arc & 0x7F]
        while arc := arc >> 7:
            digits.append(0x80 | (arc & 0x7F))
        encoded += bytes(reversed(digits))
    return tlv(OID, bytes(encoded))


@dataclass(frozen=True, slots=True)
class Node:
    """One decoded element. ``raw`` holds tag and length too."""

    tag: int
    content: bytes
    raw: bytes

    def children(self) -> Reader:
        """Read what is inside a constructed element."""
        if not self.tag & _CONSTRUCTED:
            raise CmsError("structure ASN.1 inattendue")
        return Reader(self.content)

    def number(self) -> int:
        """Return the value of an INTEGER."""
        if self.tag != INTEGER or not self.content:
            raise CmsError("entier ASN.1 attendu")
        return int.from_bytes(self.content, "big", signed=True)


class Reader:
    """Strict DER: definite minimal lengths, no trailing bytes, nothing beyond the end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def peek(self) -> int:
        """Return the tag of the next element, or -1 at the end."""
        return self._data[self._at] if self._at < len(self._data) else -1

    def next(self, tag: int | None = None) -> Node:
        """Read one element; raises CmsError when it is not ``tag`` or not DER."""
        found, header, size = _header(self._data, self._at)
        if size < 0 or (tag is not None and found != tag):
            raise CmsError("structure ASN.1 inattendue")
        start, self._at = self._at, self._at + header + size
        minimal = 2 if size < 0x80 else 2 + (size.bit_length() + 7) // 8
        if self._at > len(self._data) or header != minimal:
            raise CmsError("longueur ASN.1 incorrecte")
        return Node(found, self._data[start + header : self._at], self._data[start : self._at])

    def optional(self, tag: int) -> Node | None:
        """Read the next element when it has this tag."""
        return self.next() if self.peek() == tag else None

    def rest(self) -> list[Node]:
        """Read all that is left."""
        nodes = []
        while self.peek() != -1:
            nodes.append(self.next())
        return nodes

    def end(self) -> None:
        """Raise CmsError when something is left."""
        if self.peek() != -1:
            raise CmsError("octets en trop dans la structure ASN.1")


def only(data: bytes, tag: int) -> Reader:
    """Read ``data`` as exactly one constructed element and return a reader of its inside."""
    reader = Reader(data)
    node = reader.next(tag)
    reader.end()
    return node.children()


def _header(data: bytes, at: int) -> tuple[int, int, int]:
    """Return tag, length of the header, and size of the content (-1: indefinite)."""
    if at + 2 > len(data):
        raise CmsError("structure ASN.1 tronquée")
    tag, first = data[at], data[at + 1]
    if tag & 0x1F == 0x1F:
        raise CmsError("étiquette ASN.1 inconnue")
    if first < 0x80:
        return tag, 2, first
    if first == 0x80:
        return tag, 2, -1
    count = first & 0x7F
    if count > 4 or at + 2 + count > len(data):
        raise CmsError("longueur ASN.1 incorrecte")
    return tag, 2 + count, int.from_bytes(data[at + 2 : at + 2 + count], "big")


class _Normaliser:
    """One pass over BER; counts elements so that a hostile input cannot make it work for long."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._elements = 0

    def element(self, at: int, end: int, depth: int) -> tuple[bytes, int]:
        """Return the DER form of the element at ``at`` and where the next one begins."""
        self._elements += 1
        if depth > _MAX_DEPTH or self._elements > _MAX_ELEMENTS:
            raise CmsError("structure ASN.1 trop profonde")
        tag, header, size = _header(self._data, at)
        start = at + header
        if size >= 0 and start + size > end:
            raise CmsError("structure ASN.1 tronquée")
        if not tag & _CONSTRUCTED:
            if size < 0:
                raise CmsError("longueur ASN.1 incorrecte")
            return tlv(tag, self._data[start : start + size]), start + size
        parts, after = self._inside(start, end if size < 0 else start + size, size < 0, depth)
        if tag == OCTET_STRING | _CONSTRUCTED:
            return octets(joined(parts)), after
        return tlv(tag, *parts), after

    def _inside(self, at: int, end: int, indefinite: bool, depth: int) -> tuple[list[bytes], int]:
        parts: list[bytes] = []
        while at < end:
            if indefinite and self._data[at : at + 2] == b"\0\0":
                return parts, at + 2
            part, at = self.element(at, end, depth + 1)
            parts.append(part)
        if indefinite:
            raise CmsError("structure ASN.1 tronquée")
        return parts, at


def joined(pieces: list[bytes]) -> bytes:
    """Concatenate the OCTET STRINGs of a constructed string; ``pieces`` are their encodings."""
    return b"".join(Reader(piece).next(OCTET_STRING).content for piece in pieces)


def normalised(data: bytes) -> bytes:
    """Turn BER (indefinite lengths, constructed strings) into DER; the order of sets is kept.

    NSS and ``openssl cms -stream`` write such messages. Raises CmsError.
    """
    element, after = _Normaliser(data).element(0, len(data), 0)
    if data[after:].strip(b"\0\r\n"):
        raise CmsError("octets en trop dans la structure ASN.1")
    return element
