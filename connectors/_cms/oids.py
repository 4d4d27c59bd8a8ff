"""Object identifiers of CMS (RFC 5652), S/MIME 4.0 (RFC 8551) and their algorithms, encoded."""

from __future__ import annotations

from cryptography.hazmat.primitives import hashes

from connectors._cms.der import NULL, oid, sequence, tlv

DATA = oid("1.2.840.113549.1.7.1")
SIGNED_DATA = oid("1.2.840.113549.1.7.2")
ENVELOPED_DATA = oid("1.2.840.113549.1.7.3")
AUTH_ENVELOPED_DATA = oid("1.2.840.113549.1.9.16.1.23")

CONTENT_TYPE = oid("1.2.840.113549.1.9.3")
MESSAGE_DIGEST = oid("1.2.840.113549.1.9.4")
SIGNING_TIME = oid("1.2.840.113549.1.9.5")
SMIME_CAPABILITIES = oid("1.2.840.113549.1.9.15")
SIGNING_CERTIFICATE_V2 = oid("1.2.840.113549.1.9.16.2.47")

RSA_ENCRYPTION = oid("1.2.840.113549.1.1.1")
RSAES_OAEP = oid("1.2.840.113549.1.1.7")
MGF1 = oid("1.2.840.113549.1.1.8")
RSASSA_PSS = oid("1.2.840.113549.1.1.10")

AES128_CBC = oid("2.16.840.1.101.3.4.1.2")
AES192_CBC = oid("2.16.840.1.101.3.4.1.22")
AES256_CBC = oid("2.16.840.1.101.3.4.1.42")
AES128_GCM = oid("2.16.840.1.101.3.4.1.6")
AES256_GCM = oid("2.16.840.1.101.3.4.1.46")
AES128_WRAP = oid("2.16.840.1.101.3.4.1.5")
AES256_WRAP = oid("2.16.840.1.101.3.4.1.45")

EC_PUBLIC_KEY = oid("1.2.840.10045.2.1")
# Stand-alone ECDH with the X9.63 derivation (RFC 5753 section 7.1.4); SHA-1 only when reading:
# it is what OpenSSL writes by default, and a key derivation does not need collision resistance.
ECDH_SHA256 = oid("1.3.132.1.11.1")
ECDH_KDF: dict[bytes, hashes.HashAlgorithm] = {
    oid("1.3.133.16.840.63.0.2"): hashes.SHA1(),  # noqa: S303 - read only, see above
    ECDH_SHA256: hashes.SHA256(),
    oid("1.3.132.1.11.2"): hashes.SHA384(),
    oid("1.3.132.1.11.3"): hashes.SHA512(),
}

SHA1 = oid("1.3.14.3.2.26")
SHA256 = oid("2.16.840.1.101.3.4.2.1")
SHA384 = oid("2.16.840.1.101.3.4.2.2")
SHA512 = oid("2.16.840.1.101.3.4.2.3")
# Digests that a signature may use: never SHA-1 nor MD5 (RFC 8551 section 2.1).
DIGESTS: dict[bytes, hashes.HashAlgorithm] = {
    SHA256: hashes.SHA256(),
    SHA384: hashes.SHA384(),
    SHA512: hashes.SHA512(),
}
RSA_SIGNATURES: dict[bytes, hashes.HashAlgorithm | None] = {
    RSA_ENCRYPTION: None,  # the digest algorithm of the signer says which
    oid("1.2.840.113549.1.1.11"): hashes.SHA256(),
    oid("1.2.840.113549.1.1.12"): hashes.SHA384(),
    oid("1.2.840.113549.1.1.13"): hashes.SHA512(),
}
ECDSA_SHA256 = oid("1.2.840.10045.4.3.2")
ECDSA_SHA384 = oid("1.2.840.10045.4.3.3")
ECDSA_SIGNATURES: dict[bytes, hashes.HashAlgorithm | None] = {
    ECDSA_SHA256: hashes.SHA256(),
    ECDSA_SHA384: hashes.SHA384(),
    oid("1.2.840.10045.4.3.4"): hashes.SHA512(),
}


def algorithm(identifier: bytes, *parameters: bytes) -> bytes:
    """Encode an AlgorithmIdentifier from an encoded OID and its encoded parameters."""
    return sequence(identifier, *parameters)


ABSENT = tlv(NULL)
