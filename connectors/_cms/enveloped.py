"""EnvelopedData (RFC 5652 section 6) and AuthEnvelopedData (RFC 5083), written and read.

Recipients: RSA PKCS #1 v1.5 or OAEP, ECDH on NIST curves (RFC 5753). Contents: AES in CBC or GCM
mode. RSA PKCS #1 v1.5 with AES-256-CBC is the default: two of the four common readers know nothing
newer; the signature inside makes CBC tolerable, so nothing is ever sent encrypted only.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from enum import Enum

from cryptography import x509
from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.x963kdf import X963KDF
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from connectors._cms import oids
from connectors._cms.der import (
    BIT_STRING,
    INTEGER,
    OCTET_STRING,
    OID,
    SEQUENCE,
    SET,
    CmsError,
    Node,
    Reader,
    integer,
    joined,
    normalised,
    octets,
    only,
    sequence,
    set_of,
    tlv,
)
from connectors._cms.signed import SigningKey, issuer_and_serial, key_id

_BLOCK = 16
_TAG_BYTES = 16  # RFC 5084 recommends 12 at least; every reader takes 16
_CBC = {oids.AES128_CBC: 16, oids.AES192_CBC: 24, oids.AES256_CBC: 32}
_GCM = {oids.AES128_GCM: 16, oids.AES256_GCM: 32}
_WRAPS = {oids.AES128_WRAP: 16, oids.AES256_WRAP: 32}


class Suite(Enum):
    """How one recipient's message is encrypted; the values are the words of ``cms:``."""

    CBC = "aes-cbc"
    GCM = "aes-gcm"
    OAEP_CBC = "oaep-aes-cbc"
    OAEP_GCM = "oaep-aes-gcm"

    @property
    def oaep(self) -> bool:
        """True when an RSA recipient gets the key by OAEP."""
        return self in (Suite.OAEP_CBC, Suite.OAEP_GCM)

    @property
    def authenticated(self) -> bool:
        """True for AuthEnvelopedData."""
        return self in (Suite.GCM, Suite.OAEP_GCM)


def encrypt(
    content: bytes, certificates: Sequence[x509.Certificate], suite: Suite = Suite.CBC
) -> bytes:
    """Encrypt for the holders of ``certificates`` and return the DER of a ContentInfo.

    A new key and a new nonce are drawn at each call. The certificates are not judged here: see
    ``certificates.recipient_problem``. Raises CmsError for a key type that is neither RSA nor EC.
    """
    key = os.urandom(32)
    recipients = set_of(*(_recipient(key, certificate, suite) for certificate in certificates))
    curved = any(isinstance(c.public_key(), ec.EllipticCurvePublicKey) for c in certificates)
    if suite.authenticated:
        nonce = os.urandom(12)
        sealed = AESGCM(key).encrypt(nonce, content, None)
        how = oids.algorithm(oids.AES256_GCM, sequence(octets(nonce), integer(_TAG_BYTES)))
        info = sequence(oids.DATA, how, tlv(0x80, sealed[:-_TAG_BYTES]))
        body = sequence(integer(0), recipients, info, octets(sealed[-_TAG_BYTES:]))
        return sequence(oids.AUTH_ENVELOPED_DATA, tlv(0xA0, body))
    vector = os.urandom(_BLOCK)
    encryptor = Cipher(algorithms.AES(key), modes.CBC(vector)).encryptor()
    pad = _BLOCK - len(content) % _BLOCK
    sealed = encryptor.update(content) + encryptor.update(bytes((pad,)) * pad)
    info = sequence(oids.DATA, oids.algorithm(oids.AES256_CBC, octets(vector)), tlv(0x80, sealed))
    body = sequence(integer(2 if curved else 0), recipients, info)
    return sequence(oids.ENVELOPED_DATA, tlv(0xA0, body))


def _recipient(key: bytes, certificate: x509.Certificate, suite: Suite) -> bytes:
    public = certificate.public_key()
    if isinstance(public, ec.EllipticCurvePublicKey):
        return _agreed(key, certificate, public)
    if not isinstance(public, rsa.RSAPublicKey):
        raise CmsError("type de clé du destinataire non pris en charge")
    if suite.oaep:
        how, sealed = _OAEP_SHA256, public.encrypt(key, _oaep(hashes.SHA256(), hashes.SHA256()))
    else:
        how = oids.algorithm(oids.RSA_ENCRYPTION, oids.ABSENT)
        sealed = public.encrypt(key, padding.PKCS1v15())
    return sequence(integer(0), issuer_and_serial(certificate), how, octets(sealed))


_SHA256_ID = oids.algorithm(oids.SHA256)
_OAEP_SHA256 = oids.algorithm(
    oids.RSAES_OAEP,
    sequence(tlv(0xA0, _SHA256_ID), tlv(0xA1, oids.algorithm(oids.MGF1, _SHA256_ID))),
)


def _oaep(digest: hashes.HashAlgorithm, mask: hashes.HashAlgorithm) -> padding.OAEP:
    return padding.OAEP(mgf=padding.MGF1(mask), algorithm=digest, label=None)


def _agreed(key: bytes, certificate: x509.Certificate, public: ec.EllipticCurvePublicKey) -> bytes:
    """KeyAgreeRecipientInfo with an ephemeral key (RFC 5753 section 3.1.1)."""
    ephemeral = ec.generate_private_key(public.curve)
    wrap = oids.algorithm(oids.AES256_WRAP)
    shared = ephemeral.exchange(ec.ECDH(), public)
    wrapped = aes_key_wrap(_derived(shared, wrap, 32, hashes.SHA256(), None), key)
    point = ephemeral.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    origin = tlv(0xA1, oids.algorithm(oids.EC_PUBLIC_KEY), tlv(BIT_STRING, b"\0", point))
    return tlv(
        0xA1,
        integer(3),
        tlv(0xA0, origin),
        oids.algorithm(oids.ECDH_SHA256, wrap),
        sequence(sequence(issuer_and_serial(certificate), octets(wrapped))),
    )


def _derived(
    shared: bytes, wrap: bytes, size: int, digest: hashes.HashAlgorithm, ukm: Node | None
) -> bytes:
    """Key-encryption key by X9.63 over ECC-CMS-SharedInfo (RFC 5753 section 7.2)."""
    entity = [tlv(0xA0, ukm.raw)] if ukm else []
    info = sequence(wrap, *entity, tlv(0xA2, octets((size * 8).to_bytes(4, "big"))))
    return X963KDF(algorithm=digest, length=size, sharedinfo=info).derive(shared)


def decrypt(data: bytes, key: SigningKey, certificate: x509.Certificate) -> bytes:
    """Open an EnvelopedData or AuthEnvelopedData addressed to ``certificate``.

    Raises CmsError with always the same words, whatever went wrong: the reason must not help
    somebody who guesses. What CBC yields is only trusted after the signature inside is verified.
    """
    try:
        return _decrypt(normalised(data), key, certificate)
    except (ValueError, TypeError, IndexError, UnsupportedAlgorithm) as error:
        raise CmsError("le message ne peut pas être ouvert") from error
    except (InvalidTag, InvalidUnwrap, CmsError) as error:
        raise CmsError("le message ne peut pas être ouvert") from error


def _decrypt(data: bytes, key: SigningKey, certificate: x509.Certificate) -> bytes:
    info = only(data, SEQUENCE)
    kind = info.next(OID).raw
    if kind not in (oids.ENVELOPED_DATA, oids.AUTH_ENVELOPED_DATA):
        raise CmsError("ce n'est pas un message chiffré")
    outer = info.next(0xA0).children()
    info.end()
    body = outer.next(SEQUENCE).children()
    outer.end()
    body.next(INTEGER)
    body.optional(0xA0)
    recipients = body.next(SET).children().rest()
    encrypted = body.next(SEQUENCE).children()
    secret = _content_key(recipients, key, certificate)
    if kind == oids.ENVELOPED_DATA:
        return _open_cbc(encrypted, secret)
    if body.peek() != OCTET_STRING:
        raise CmsError("attributs authentifiés non pris en charge")
    return _open_gcm(encrypted, secret, body.next(OCTET_STRING).content)


def _content_key(recipients: list[Node], key: SigningKey, certificate: x509.Certificate) -> bytes:
    for recipient in recipients:
        found = None
        if recipient.tag == SEQUENCE and isinstance(key, rsa.RSAPrivateKey):
            found = _transported(recipient.children(), key, certificate)
        elif recipient.tag == 0xA1 and isinstance(key, ec.EllipticCurvePrivateKey):
            found = _agreed_key(recipient.children(), key, certificate)
        if found is not None:
            return found
    raise CmsError("ce message n'est pas pour cette clé")


def _is_for(identifier: Node, certificate: x509.Certificate) -> bool:
    if identifier.tag == 0x80:
        return identifier.content == key_id(certificate)
    if identifier.tag == 0xA0:  # rKeyId: RecipientKeyIdentifier
        return identifier.children().next(OCTET_STRING).content == key_id(certificate)
    return identifier.raw == issuer_and_serial(certificate)


def _transported(
    fields: Reader, key: rsa.RSAPrivateKey, certificate: x509.Certificate
) -> bytes | None:
    fields.next(INTEGER)
    if not _is_for(fields.next(), certificate):
        return None
    how = fields.next(SEQUENCE).children()
    sealed = fields.next(OCTET_STRING).content
    if (kind := how.next(OID).raw) == oids.RSA_ENCRYPTION:
        return key.decrypt(sealed, padding.PKCS1v15())
    if kind == oids.RSAES_OAEP:
        return key.decrypt(sealed, _read_oaep(how.next(SEQUENCE).children()))
    raise CmsError("transport de clé non pris en charge")


def _read_oaep(parameters: Reader) -> padding.OAEP:
    """RSAES-OAEP-params (RFC 4055): both digests default to SHA-1."""
    known: dict[bytes, hashes.HashAlgorithm] = {
        oids.SHA1: hashes.SHA1(),  # noqa: S303 - OAEP does not rest on collision resistance
        **oids.DIGESTS,
    }
    digest = mask = known[oids.SHA1]
    if (stated := parameters.optional(0xA0)) is not None:
        digest = _known(known, stated.children().next(SEQUENCE).children().next(OID).raw)
    if (stated := parameters.optional(0xA1)) is not None:
        generator = stated.children().next(SEQUENCE).children()
        generator.next(OID)
        mask = _known(known, generator.next(SEQUENCE).children().next(OID).raw)
    return _oaep(digest, mask)


def _known(table: dict[bytes, hashes.HashAlgorithm], identifier: bytes) -> hashes.HashAlgorithm:
    if identifier not in table:
        raise CmsError("algorithme non pris en charge")
    return table[identifier]


def _agreed_key(
    fields: Reader, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate
) -> bytes | None:
    fields.next(INTEGER)
    origin = fields.next(0xA0).children().next(0xA1).children()
    origin.next(SEQUENCE)
    point = origin.next(BIT_STRING).content
    ukm = fields.optional(0xA1)
    how = fields.next(SEQUENCE).children()
    digest = _known(oids.ECDH_KDF, how.next(OID).raw)
    wrap = how.next(SEQUENCE)
    size = _WRAPS[_in(_WRAPS, wrap.children().next(OID).raw)]
    for entry in fields.next(SEQUENCE).children().rest():
        parts = entry.children()
        if _is_for(parts.next(), certificate):
            peer = ec.EllipticCurvePublicKey.from_encoded_point(key.curve, point[1:])
            shared = key.exchange(ec.ECDH(), peer)
            entity = Reader(ukm.content).next(OCTET_STRING) if ukm else None
            secret = _derived(shared, wrap.raw, size, digest, entity)
            return aes_key_unwrap(secret, parts.next(OCTET_STRING).content)
    return None


def _in(table: dict[bytes, int], identifier: bytes) -> bytes:
    if identifier not in table:
        raise CmsError("algorithme non pris en charge")
    return identifier


def _sealed(encrypted: Reader) -> tuple[Reader, bytes]:
    """Return the algorithm and the ciphertext, joined when it came in pieces."""
    encrypted.next(OID)
    how = encrypted.next(SEQUENCE).children()
    node = encrypted.next()
    encrypted.end()
    if node.tag == 0x80:
        return how, node.content
    if node.tag != 0xA0:
        raise CmsError("le contenu chiffré manque")
    return how, joined([piece.raw for piece in node.children().rest()])


def _open_cbc(encrypted: Reader, secret: bytes) -> bytes:
    how, sealed = _sealed(encrypted)
    if _CBC[_in(_CBC, how.next(OID).raw)] != len(secret):
        raise CmsError("clé de mauvaise longueur")
    vector = how.next(OCTET_STRING).content
    decryptor = Cipher(algorithms.AES(secret), modes.CBC(vector)).decryptor()
    padded = decryptor.update(sealed) + decryptor.finalize()
    pad = padded[-1] if padded else 0
    if not 1 <= pad <= _BLOCK or padded[-pad:] != bytes((pad,)) * pad:
        raise CmsError("remplissage incorrect")
    return padded[:-pad]


def _open_gcm(encrypted: Reader, secret: bytes, tag: bytes) -> bytes:
    how, sealed = _sealed(encrypted)
    if _GCM[_in(_GCM, how.next(OID).raw)] != len(secret) or not 12 <= len(tag) <= 16:
        raise CmsError("clé de mauvaise longueur")
    nonce = how.next(SEQUENCE).children().next(OCTET_STRING).content
    mode = modes.GCM(nonce, tag, min_tag_length=12)
    decryptor = Cipher(algorithms.AES(secret), mode).decryptor()
    return decryptor.update(sealed) + decryptor.finalize()
