"""A throw-away certificate authority: the laboratory, its doctors, bad certificates, a server.

Everything is made at call time and written as PEM files (keys 0600); nothing here is ever trusted
by a real station. RSA keys are 2048 bits: enough for tests, and fast.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from dlx.durable import replace_file

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

_DAY = timedelta(days=1)


@dataclass(frozen=True, kw_only=True)
class Identity:
    """A key with its certificate and the intermediates above it.

    Attributes:
        key, certificate, chain: as objects; the chain holds the issuing authority, not the root.
        pem: file with key, certificate and chain (0600). certificate_pem: certificate and chain.
    """

    key: PrivateKey
    certificate: x509.Certificate
    chain: tuple[x509.Certificate, ...]
    pem: Path
    certificate_pem: Path


class TestPki:
    """Root, issuing authority and whatever is asked for, in one folder.

    Args:
        folder: where the PEM files are written; made when missing.
        now: the moment around which certificates are valid.
    """

    __test__ = False  # not a test class, whatever pytest thinks of its name

    def __init__(self, folder: Path, now: datetime | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.now = now or datetime.now(UTC)
        self._root_key = ec.generate_private_key(ec.SECP256R1())
        self._ca_key = ec.generate_private_key(ec.SECP256R1())
        self.root = self._authority("DLX racine TEST", self._root_key, None)
        self.authority = self._authority("DLX emettrice TEST", self._ca_key, self.root)
        self.root_pem = folder / "root.pem"
        replace_file(self.root_pem, _pem(self.root), mode=0o644)

    def _authority(
        self, name: str, key: ec.EllipticCurvePrivateKey, issuer: x509.Certificate | None
    ) -> x509.Certificate:
        subject = _name(name)
        usage = _usage(digital_signature=False, key_cert_sign=True, crl_sign=True)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer.subject if issuer else subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(self.now - 800 * _DAY)
            .not_valid_after(self.now + 800 * _DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0 if issuer else 1), True)
            .add_extension(usage, True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
            .add_extension(_authority_key(self._root_key), False)
        )
        return builder.sign(self._root_key, hashes.SHA256())

    def person(
        self,
        address: str,
        *,
        curve: bool = False,
        expired: bool = False,
        signature_only: bool = False,
        tls_only: bool = False,
        bits: int = 2048,
        key: PrivateKey | None = None,
        days: int = 365,
    ) -> Identity:
        """Make a mail identity for ``address``; the flags make it unfit for encryption.

        Args:
            curve: P-256 instead of RSA. expired: ended yesterday. signature_only: no
                keyEncipherment nor keyAgreement. tls_only: EKU serverAuth only.
            key: use this key instead of a new one (RSA generation is the slow part).
        """
        key = key or (ec.generate_private_key(ec.SECP256R1()) if curve else _rsa(bits))
        purpose = ExtendedKeyUsageOID.SERVER_AUTH if tls_only else None
        end = self.now - _DAY if expired else self.now + days * _DAY
        usage = _usage(
            key_encipherment=not signature_only and isinstance(key, rsa.RSAPrivateKey),
            key_agreement=not signature_only and isinstance(key, ec.EllipticCurvePrivateKey),
        )
        builder = self._leaf(_name(address), key, end, usage).add_extension(
            x509.SubjectAlternativeName([x509.RFC822Name(address)]), False
        )
        builder = builder.add_extension(
            x509.ExtendedKeyUsage([purpose or ExtendedKeyUsageOID.EMAIL_PROTECTION]), False
        )
        return self._write(address, key, builder)

    def server(self, *hosts: str) -> Identity:
        """Make a TLS server identity for ``hosts`` (default ``localhost`` and ``127.0.0.1``)."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = [_host(host) for host in hosts or ("localhost", "127.0.0.1")]
        builder = (
            self._leaf(_name("serveur TEST"), key, self.now + 90 * _DAY, _usage())
            .add_extension(x509.SubjectAlternativeName(names), False)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)
        )
        return self._write(f"server-{hosts[0] if hosts else 'localhost'}", key, builder)

    def client(self, name: str) -> Identity:
        """Make a TLS client identity."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._leaf(_name(name), key, self.now + 90 * _DAY, _usage()).add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False
        )
        return self._write(f"client-{name}", key, builder)

    def revocations(self, revoked: Sequence[Identity], *, stale: bool = False) -> Path:
        """Write the issuing authority's CRL; ``stale``: its next update is already past."""
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.authority.subject)
            .last_update(self.now - 9 * _DAY)
            .next_update(self.now - 2 * _DAY if stale else self.now + 9 * _DAY)
        )
        for identity in revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(
                identity.certificate.serial_number
            )
            builder = builder.add_revoked_certificate(
                entry.revocation_date(self.now - 5 * _DAY).build()
            )
        path = self.folder / "revoked.crl.pem"
        crl = builder.sign(self._ca_key, hashes.SHA256())
        replace_file(path, crl.public_bytes(serialization.Encoding.PEM), mode=0o644)
        return path

    def _leaf(
        self, subject: x509.Name, key: PrivateKey, end: datetime, usage: x509.KeyUsage
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.authority.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(self.now - 30 * _DAY)
            .not_valid_after(end)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
            .add_extension(usage, True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
            .add_extension(_authority_key(self._ca_key), False)
        )

    def _write(self, stem: str, key: PrivateKey, builder: x509.CertificateBuilder) -> Identity:
        certificate = builder.sign(self._ca_key, hashes.SHA256())
        public = _pem(certificate) + _pem(self.authority)
        secret = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        pem = self.folder / f"{stem}.key.pem"
        certificate_pem = self.folder / f"{stem}.pem"
        replace_file(pem, secret + public, mode=0o600)
        replace_file(certificate_pem, public, mode=0o644)
        return Identity(
            key=key,
            certificate=certificate,
            chain=(self.authority,),
            pem=pem,
            certificate_pem=certificate_pem,
        )


def _rsa(bits: int) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common[:64])])


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _authority_key(key: ec.EllipticCurvePrivateKey) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())


def _usage(
    *,
    digital_signature: bool = True,
    key_encipherment: bool = False,
    key_agreement: bool = False,
    key_cert_sign: bool = False,
    crl_sign: bool = False,
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=key_encipherment,
        data_encipherment=False,
        key_agreement=key_agreement,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )
