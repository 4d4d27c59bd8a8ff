"""SignedData (RFC 5652 section 5): written detached, one signer; read detached or opaque."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from connectors._cms import oids
from connectors._cms.der import (
    GENERALIZED_TIME,
    OCTET_STRING,
    OID,
    SEQUENCE,
    SET,
    UTC_TIME,
    CmsError,
    Node,
    Reader,
    integer,
    normalised,
    octets,
    only,
    sequence,
    set_of,
    tlv,
)

SigningKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

_EXPLICIT_0 = 0xA0
_EXPLICIT_1 = 0xA1
_IMPLICIT_KEY_ID = 0x80

# What we can open, in order of preference (RFC 8551 section 2.5.2).
_CAPABILITIES = sequence(
    *(oids.algorithm(cipher) for cipher in (oids.AES256_GCM, oids.AES128_GCM)),
    *(oids.algorithm(cipher) for cipher in (oids.AES256_CBC, oids.AES128_CBC)),
)


@dataclass(frozen=True, kw_only=True)
class Verified:
    """A signature that holds. Whether the signer is trusted is asked apart.

    Attributes:
        content: the bytes that were signed. certificate: of the signer.
        certificates: all those that came along. signed_at: as the signer says, or None.
    """

    content: bytes
    certificate: x509.Certificate
    certificates: tuple[x509.Certificate, ...]
    signed_at: datetime | None


def digest_name(key: SigningKey) -> str:
    """Return the ``micalg`` word of the digest that ``sign`` uses with this key."""
    return "sha-384" if isinstance(key, ec.EllipticCurvePrivateKey) and _large(key) else "sha-256"


def sign(
    content: bytes,
    key: SigningKey,
    certificate: x509.Certificate,
    chain: Sequence[x509.Certificate] = (),
    *,
    at: datetime,
    detached: bool = True,
) -> bytes:
    """Sign ``content`` and return the DER of a ContentInfo holding SignedData.

    RSA PKCS #1 v1.5 or ECDSA, SHA-256 (SHA-384 on P-384 and larger). Signed attributes:
    contentType, messageDigest, signingTime, smimeCapabilities and signingCertificateV2 (RFC 5035),
    which binds the certificate. The leaf and ``chain`` are included.
    """
    digest_oid = oids.SHA384 if digest_name(key) == "sha-384" else oids.SHA256
    algorithm = oids.DIGESTS[digest_oid]
    attributes = _attributes(content, certificate, algorithm, at)
    to_sign = set_of(*attributes)
    if isinstance(key, rsa.RSAPrivateKey):
        signature = key.sign(to_sign, padding.PKCS1v15(), algorithm)
        signature_algorithm = oids.algorithm(oids.RSA_ENCRYPTION, oids.ABSENT)
    else:
        signature = key.sign(to_sign, ec.ECDSA(algorithm))
        wanted = oids.ECDSA_SHA384 if digest_oid == oids.SHA384 else oids.ECDSA_SHA256
        signature_algorithm = oids.algorithm(wanted)
    signer = sequence(
        integer(1),
        issuer_and_serial(certificate),
        oids.algorithm(digest_oid),
        bytes((_EXPLICIT_0,)) + to_sign[1:],
        signature_algorithm,
        octets(signature),
    )
    inside = [] if detached else [tlv(_EXPLICIT_0, octets(content))]
    signed = sequence(
        integer(1),
        set_of(oids.algorithm(digest_oid)),
        sequence(oids.DATA, *inside),
        tlv(_EXPLICIT_0, *sorted({c.public_bytes(Encoding.DER) for c in (certificate, *chain)})),
        set_of(signer),
    )
    return sequence(oids.SIGNED_DATA, tlv(_EXPLICIT_0, signed))


def issuer_and_serial(certificate: x509.Certificate) -> bytes:
    """Encode IssuerAndSerialNumber (RFC 5652 section 10.2.4)."""
    return sequence(certificate.issuer.public_bytes(), integer(certificate.serial_number))


def _large(key: ec.EllipticCurvePrivateKey) -> bool:
    return key.curve.key_size >= 384


def _attributes(
    content: bytes, certificate: x509.Certificate, algorithm: hashes.HashAlgorithm, at: datetime
) -> list[bytes]:
    # ESSCertIDv2: the default hash is SHA-256 and must then be left out (RFC 5035 section 4).
    bound = sequence(sequence(sequence(octets(certificate.fingerprint(hashes.SHA256())))))
    values = (
        (oids.CONTENT_TYPE, oids.DATA),
        (oids.MESSAGE_DIGEST, octets(digest_of(content, algorithm))),
        (oids.SIGNING_TIME, _time(at)),
        (oids.SMIME_CAPABILITIES, _CAPABILITIES),
        (oids.SIGNING_CERTIFICATE_V2, bound),
    )
    return [sequence(kind, set_of(value)) for kind, value in values]


def digest_of(content: bytes, algorithm: hashes.HashAlgorithm) -> bytes:
    """Return the digest of ``content``."""
    digest = hashes.Hash(algorithm)
    digest.update(content)
    return digest.finalize()


def _time(at: datetime) -> bytes:
    """Encode a Time: UTCTime until 2049, GeneralizedTime after (RFC 5652 section 11.3)."""
    at = at.astimezone(UTC)
    if at.year < 2050:
        return tlv(UTC_TIME, at.strftime("%y%m%d%H%M%SZ").encode())
    return tlv(GENERALIZED_TIME, at.strftime("%Y%m%d%H%M%SZ").encode())


def verify(data: bytes, content: bytes | None = None) -> Verified:
    """Check a SignedData; ``content`` when it is detached. Raises CmsError.

    The digest, the signature and, when it is there, signingCertificateV2 are checked. The message
    must have exactly one signer and carry its certificate; SHA-1 and MD5 are refused.
    """
    try:
        return _verify(normalised(data), content)
    except (ValueError, TypeError, IndexError, UnsupportedAlgorithm, InvalidSignature) as error:
        raise CmsError("signature non vérifiée") from error


def _verify(data: bytes, content: bytes | None) -> Verified:
    info = only(data, SEQUENCE)
    if info.next(OID).raw != oids.SIGNED_DATA:
        raise CmsError("ce n'est pas un message signé")
    outer = info.next(_EXPLICIT_0).children()
    info.end()
    signed = outer.next(SEQUENCE).children()
    outer.end()
    signed.next(0x02)
    signed.next(SET)
    content, content_type = _content(signed.next(SEQUENCE).children(), content)
    bag = signed.optional(_EXPLICIT_0)
    signed.optional(_EXPLICIT_1)
    signers = signed.next(SET).children().rest()
    signed.end()
    certificates = tuple(
        x509.load_der_x509_certificate(node.raw)
        for node in (bag.children().rest() if bag else [])
        if node.tag == SEQUENCE
    )
    if len(signers) != 1:
        raise CmsError("un seul signataire attendu")
    return _check_signer(signers[0].children(), content, content_type, certificates)


def _content(info: Reader, content: bytes | None) -> tuple[bytes, bytes]:
    kind = info.next(OID).raw
    if info.peek() != -1:
        holder = info.next(_EXPLICIT_0).children()
        content = holder.next(OCTET_STRING).content
        holder.end()
    info.end()
    if content is None:
        raise CmsError("le contenu signé manque")
    return content, kind


def _check_signer(
    signer: Reader, content: bytes, content_type: bytes, certificates: tuple[x509.Certificate, ...]
) -> Verified:
    signer.next(0x02)
    certificate = _named(signer.next(), certificates)
    digest_oid = signer.next(SEQUENCE).children().next(OID).raw
    algorithm = oids.DIGESTS.get(digest_oid)
    if algorithm is None:
        raise CmsError("algorithme d'empreinte refusé")
    attributes = signer.next(_EXPLICIT_0)
    signature_algorithm = signer.next(SEQUENCE).children()
    signature = signer.next(OCTET_STRING).content
    values = _values(attributes)
    if values.get(oids.CONTENT_TYPE) != content_type:
        raise CmsError("type de contenu incohérent")
    if values.get(oids.MESSAGE_DIGEST) != octets(digest_of(content, algorithm)):
        raise CmsError("le contenu ne correspond pas à la signature")
    _check_binding(values.get(oids.SIGNING_CERTIFICATE_V2), certificate)
    _check_signature(
        certificate, signature_algorithm, signature, b"\x31" + attributes.raw[1:], algorithm
    )
    return Verified(
        content=content,
        certificate=certificate,
        certificates=certificates,
        signed_at=_read_time(values.get(oids.SIGNING_TIME)),
    )


def _named(identifier: Node, certificates: tuple[x509.Certificate, ...]) -> x509.Certificate:
    for certificate in certificates:
        if identifier.tag == _IMPLICIT_KEY_ID and key_id(certificate) == identifier.content:
            return certificate
        if identifier.raw == issuer_and_serial(certificate):
            return certificate
    raise CmsError("le certificat du signataire manque")


def key_id(certificate: x509.Certificate) -> bytes | None:
    """Return the subject key identifier of a certificate, or None."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    except x509.ExtensionNotFound:
        return None
    return found.value.digest


def _values(attributes: Node) -> dict[bytes, bytes]:
    """Return each attribute's single value; a repeated attribute is refused."""
    values: dict[bytes, bytes] = {}
    for attribute in attributes.children().rest():
        fields = attribute.children()
        kind = fields.next(OID).raw
        inside = fields.next(SET).children().rest()
        fields.end()
        if kind in values or len(inside) != 1:
            raise CmsError("attribut signé répété")
        values[kind] = inside[0].raw
    return values


def _check_binding(value: bytes | None, certificate: x509.Certificate) -> None:
    if value is None:
        return
    first = only(value, SEQUENCE).next(SEQUENCE).children().next(SEQUENCE).children()
    algorithm: hashes.HashAlgorithm | None = hashes.SHA256()
    if (stated := first.optional(SEQUENCE)) is not None:
        algorithm = oids.DIGESTS.get(stated.children().next(OID).raw)
    if algorithm is None or first.next(OCTET_STRING).content != certificate.fingerprint(algorithm):
        raise CmsError("la signature désigne un autre certificat")


def _check_signature(
    certificate: x509.Certificate,
    signature_algorithm: Reader,
    signature: bytes,
    signed: bytes,
    digest: hashes.HashAlgorithm,
) -> None:
    key = certificate.public_key()
    kind = signature_algorithm.next(OID).raw
    if isinstance(key, ec.EllipticCurvePublicKey) and kind in oids.ECDSA_SIGNATURES:
        key.verify(signature, signed, ec.ECDSA(oids.ECDSA_SIGNATURES[kind] or digest))
    elif isinstance(key, rsa.RSAPublicKey) and kind in oids.RSA_SIGNATURES:
        key.verify(signature, signed, padding.PKCS1v15(), oids.RSA_SIGNATURES[kind] or digest)
    elif isinstance(key, rsa.RSAPublicKey) and kind == oids.RSASSA_PSS:
        pss = padding.PSS(padding.MGF1(digest), padding.PSS.AUTO)
        key.verify(signature, signed, pss, digest)
    else:
        raise CmsError("algorithme de signature refusé")


def _read_time(value: bytes | None) -> datetime | None:
    if value is None:
        return None
    node = Reader(value).next()
    form = "%y%m%d%H%M%SZ" if node.tag == UTC_TIME else "%Y%m%d%H%M%SZ"
    return datetime.strptime(node.content.decode("ascii"), form).replace(tzinfo=UTC)
