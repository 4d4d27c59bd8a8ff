"""The keys and certificates of a mail channel: loaded once, judged at each delivery."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from connectors._cms import CertificateProblem, CmsError, Judge, SigningKey, read_certificates
from dlx.contracts import SecretFile
from dlx.errors import PermanentFailure

_ATOM = r"[A-Za-z0-9!#$%&'*+=?^_`{|}~-]+"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
# RFC 5321 section 4.1.2 without quoted strings, literals and « / »: what a mailbox really looks
# like, and nothing that could end an envelope command or leave a folder.
_ADDRESS = re.compile(rf"{_ATOM}(?:\.{_ATOM})*@{_LABEL}(?:\.{_LABEL})+")


def is_address(text: str) -> bool:
    """True for a plain ASCII mail address that may stand in an envelope and in a header."""
    local = text.partition("@")[0]
    return len(text) <= 254 and len(local) <= 64 and _ADDRESS.fullmatch(text) is not None


@dataclass(frozen=True, kw_only=True)
class Signer:
    """Our own identity: key, certificate, intermediates (without the root)."""

    key: SigningKey
    certificate: x509.Certificate
    chain: tuple[x509.Certificate, ...]


def load_signer(identity: SecretFile, password: SecretFile | None) -> Signer:
    """Read a PEM file holding the private key and its certificate chain, leaf first.

    Raises CmsError with a French sentence; OSError when a file cannot be read or has open rights.
    """
    data = identity.read_secret()
    secret = password.read_secret().rstrip(b"\r\n") if password else None
    try:
        key = load_pem_private_key(data, secret)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        # The library's words may quote the file: ours do not.
        raise CmsError(f"{identity.reference} : clé privée illisible") from error
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise CmsError(f"{identity.reference} : clé RSA ou EC attendue")
    certificates = read_certificates(data)
    if not certificates or certificates[0].public_key() != key.public_key():
        raise CmsError(f"{identity.reference} : le premier certificat n'est pas celui de la clé")
    chain = tuple(c for c in certificates[1:] if c.issuer != c.subject)
    return Signer(key=key, certificate=certificates[0], chain=chain)


def load_anchors(files: Sequence[Path]) -> list[x509.Certificate]:
    """Read every certificate of every file. Raises CmsError or OSError."""
    return [certificate for file in files for certificate in read_certificates(file.read_bytes())]


def load_revocations(files: Sequence[Path]) -> list[x509.CertificateRevocationList]:
    """Read CRLs, PEM or DER. Raises CmsError or OSError."""
    lists = []
    for file in files:
        data = file.read_bytes()
        pem = data.lstrip().startswith(b"-----BEGIN")
        try:
            lists.append(x509.load_pem_x509_crl(data) if pem else x509.load_der_x509_crl(data))
        except ValueError as error:
            raise CmsError(f"{file.name} : liste de révocation illisible") from error
    return lists


class Keyring:
    """The signer is loaded once (87 ms for RSA-2048); trust and CRL files when they change.

    Args:
        load: makes the signer. judge: makes a Judge from anchors and CRLs.
        trust, crl: files. folder: ``<address>.pem`` of the recipients, or None.
    """

    def __init__(
        self,
        *,
        load: Callable[[], Signer],
        judge: Callable[
            [Sequence[x509.Certificate], Sequence[x509.CertificateRevocationList]], Judge
        ],
        trust: Sequence[Path],
        crl: Sequence[Path],
        folder: Path | None,
    ) -> None:
        self._load = load
        self._make_judge = judge
        self._trust, self._crl, self._folder = tuple(trust), tuple(crl), folder
        self._lock = threading.Lock()
        self._signer: Signer | None = None
        self._judge: tuple[tuple[int, ...], Judge] | None = None

    def signer(self) -> Signer:
        """Our identity. Raises CmsError, OSError."""
        with self._lock:
            if self._signer is None:
                self._signer = self._load()
            return self._signer

    def judge(self) -> Judge:
        """What is trusted, as the files say now. Raises CmsError, OSError."""
        stamp = tuple(file.stat().st_mtime_ns for file in (*self._trust, *self._crl))
        with self._lock:
            if self._judge is None or self._judge[0] != stamp:
                made = self._make_judge(load_anchors(self._trust), load_revocations(self._crl))
                self._judge = stamp, made
            return self._judge[1]

    def certificate_file(self, address: str, stated: str) -> Path | None:
        """Where the recipient's certificate should be; None when nothing says so."""
        if stated:
            file = Path(stated.removeprefix("file:"))
            return file if file.is_absolute() or self._folder is None else self._folder / file
        return self._folder / f"{address.lower()}.pem" if self._folder else None

    def recipient(
        self, address: str, stated: str, pinned: str, now: datetime
    ) -> list[x509.Certificate]:
        """The recipient's certificate, fit for use. Raises PermanentFailure with its cure."""
        file = self.certificate_file(address, stated)
        if file is None or not file.is_file():
            where = f"sous le nom {file.name}" if file else "dans certificates:"
            raise PermanentFailure(
                f"aucun certificat pour {address}",
                code="cert-missing",
                cure=f"enregistrez son certificat S/MIME {where}, puis « dlx resend »",
            )
        problem = self.problem(file, address, pinned, now)
        if isinstance(problem, CertificateProblem):
            raise PermanentFailure(
                f"{address} : {problem.message}", code=problem.code, cure=problem.cure
            )
        return problem

    def problem(
        self, file: Path, address: str, pinned: str, now: datetime
    ) -> CertificateProblem | list[x509.Certificate]:
        """Read and judge one file: its certificates, or what is wrong with them."""
        try:
            certificates = read_certificates(file.read_bytes())
        except (OSError, CmsError):
            certificates = []
        if not certificates:
            return CertificateProblem(
                code="cert-untrusted",
                message=f"certificat illisible ({file.name})",
                cure="enregistrez-le en PEM, puis « dlx resend »",
            )
        return self.judge().problem(certificates, address, now, pinned=pinned) or certificates

    def known(self) -> list[tuple[str, x509.Certificate]]:
        """Certificates of the recipients' folder, by file name; unreadable ones are left out."""
        found = []
        for file in sorted(self._folder.glob("*.pem")) if self._folder else ():
            try:
                found.append((file.stem, read_certificates(file.read_bytes())[0]))
            except (OSError, CmsError, IndexError):
                continue  # told by check_address of whoever uses it
        return found
