"""Cryptographic Message Syntax over ``cryptography``: sign, verify, encrypt, open, judge.

The library's own builders know neither OAEP, EC recipients, AES-GCM, signature verification nor
the signingCertificateV2 attribute, and they accept any certificate; hence this small layer. One
exception leaves it: ``CmsError``.
"""

from connectors._cms.certificates import (
    CertificateProblem,
    Judge,
    addresses,
    read_certificates,
)
from connectors._cms.der import CmsError
from connectors._cms.enveloped import Suite, decrypt, encrypt
from connectors._cms.signed import SigningKey, Verified, digest_name, sign, verify

__all__ = [
    "CertificateProblem",
    "CmsError",
    "Judge",
    "SigningKey",
    "Suite",
    "Verified",
    "addresses",
    "decrypt",
    "digest_name",
    "encrypt",
    "read_certificates",
    "sign",
    "verify",
]
