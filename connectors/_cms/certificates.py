"""Is this certificate fit to encrypt a result for this address, now?

The cryptographic libraries and most mail programs accept expired, revoked, signature-only and
TLS-server certificates without a word; here each of them is refused with its reason and its cure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import (
    ExtensionPolicy,
    PolicyBuilder,
    Store,
    VerificationError,
)

from connectors._cms.der import CmsError

_MAIL_PURPOSES = {ExtendedKeyUsageOID.EMAIL_PROTECTION, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}


@dataclass(frozen=True, kw_only=True)
class CertificateProblem:
    """Why a certificate is refused: stable ``code``, French ``message`` and ``cure``."""

    code: str
    message: str
    cure: str


def read_certificates(data: bytes) -> list[x509.Certificate]:
    """Read PEM (several, leaf first) or DER. Raises CmsError."""
    try:
        if b"-----BEGIN" in data:
            return x509.load_pem_x509_certificates(data)
        return [x509.load_der_x509_certificate(data)]
    except ValueError as error:
        raise CmsError("certificat illisible (PEM ou DER attendu)") from error


def fingerprint(certificate: x509.Certificate) -> str:
    """Return the SHA-256 of the certificate in lower-case hexadecimal, without separators."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def addresses(certificate: x509.Certificate) -> set[str]:
    """Return the mail addresses of subjectAltName, in lower case."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set()
    return {name.lower() for name in names.get_values_for_type(x509.RFC822Name)}


_PATHS_KEPT = 4096


@dataclass(frozen=True, kw_only=True)
class Judge:
    """What a station trusts.

    Attributes:
        anchors: roots. revocations: CRLs. require_revocation: a certificate without a fresh CRL of
            its issuer is refused (``revocation: require``); otherwise only a known revocation is.
        check_revocation: False for ``revocation: off``.
    """

    anchors: Sequence[x509.Certificate] = ()
    revocations: Sequence[x509.CertificateRevocationList] = ()
    check_revocation: bool = True
    require_revocation: bool = False
    _store: list[Store] = field(default_factory=list, repr=False, compare=False)
    _paths: dict[tuple[str, ...], list[x509.Certificate]] = field(
        default_factory=dict, repr=False, compare=False
    )

    def problem(
        self,
        certificates: Sequence[x509.Certificate],
        address: str,
        now: datetime,
        *,
        pinned: str = "",
    ) -> CertificateProblem | None:
        """Return the first reason not to encrypt for ``address``, or None.

        Args:
            certificates: the leaf, then its intermediates.
            pinned: SHA-256 fingerprint written in the recipient's profile; it stands for the
                address, and for the chain when the channel has no anchors. It never stands for
                dates, usage or revocation.
        """
        leaf = certificates[0]
        pin = pinned.replace(":", "").replace(" ", "").lower().removeprefix("sha256")
        try:
            return (
                _pin_problem(leaf, pin)
                or _date_problem(leaf, now)
                or _usage_problem(leaf)
                or (None if pin else _address_problem(leaf, address))
                or self._chain_problem(certificates, now, bool(pin))
            )
        except (ValueError, UnsupportedAlgorithm, x509.DuplicateExtension) as error:
            message = f"certificat de {address} illisible : {error}"
            return CertificateProblem(code="cert-untrusted", message=message, cure=_ASK_NEW)

    def _chain_problem(
        self, certificates: Sequence[x509.Certificate], now: datetime, pinned: bool
    ) -> CertificateProblem | None:
        if not self.anchors and pinned:
            return self._revocation_problem(certificates, now)
        try:
            chain = self.chain(certificates, now)
        except CmsError as error:
            return CertificateProblem(
                code="cert-untrusted",
                message=f"certificat du destinataire non reconnu : {error}",
                cure="ajoutez l'autorité émettrice à trust: du canal, ou écrivez l'empreinte "
                "fingerprint: dans la fiche après l'avoir vérifiée avec le destinataire",
            )
        return self._revocation_problem(chain, now)

    def chain(
        self, certificates: Sequence[x509.Certificate], now: datetime
    ) -> list[x509.Certificate]:
        """Return the path from the leaf to an anchor (RFC 5280 section 6). Raises CmsError.

        The leaf's own extensions are judged apart: the default policies want TLS certificates.
        """
        if not self.anchors:
            raise CmsError("aucune autorité de confiance n'est configurée (trust:)")
        key = tuple(fingerprint(certificate) for certificate in certificates)
        known = self._paths.get(key)
        if known is not None and all(_date_problem(c, now) is None for c in known):
            return known  # its signatures hold for ever; only its dates had to be looked at again
        if not self._store:
            self._store.append(Store(list(self.anchors)))
        policy = (
            PolicyBuilder()
            .store(self._store[0])
            .time(now)
            .extension_policies(
                ca_policy=ExtensionPolicy.webpki_defaults_ca(),
                ee_policy=ExtensionPolicy.permit_all(),
            )
        )
        try:
            found = policy.build_client_verifier().verify(certificates[0], list(certificates[1:]))
        except (VerificationError, ValueError) as error:
            raise CmsError("aucun chemin vers une autorité de confiance") from error
        if len(self._paths) >= _PATHS_KEPT:
            self._paths.clear()
        self._paths[key] = list(found.chain)
        return self._paths[key]

    def _revocation_problem(
        self, chain: Sequence[x509.Certificate], now: datetime
    ) -> CertificateProblem | None:
        if not self.check_revocation:
            return None
        leaf, issuers = chain[0], chain[1:]
        fresh = False
        for crl in self.revocations:
            if crl.issuer != leaf.issuer or not any(_signed_by(crl, issuer) for issuer in issuers):
                continue
            if crl.get_revoked_certificate_by_serial_number(leaf.serial_number) is not None:
                return CertificateProblem(
                    code="cert-revoked",
                    message="le certificat du destinataire est révoqué",
                    cure=_ASK_NEW,
                )
            fresh = fresh or (crl.next_update_utc is not None and crl.next_update_utc >= now)
        if self.require_revocation and not fresh:
            return CertificateProblem(
                code="cert-revocation-unknown",
                message="aucune liste de révocation à jour pour ce certificat",
                cure="rafraîchissez les fichiers crl: du canal, puis « dlx resend »",
            )
        return None


_ASK_NEW = (
    "demandez au destinataire son nouveau certificat, enregistrez-le puis lancez « dlx resend »"
)


def _pin_problem(leaf: x509.Certificate, pin: str) -> CertificateProblem | None:
    if not pin or pin == fingerprint(leaf):
        return None
    return CertificateProblem(
        code="cert-address",
        message="le certificat n'est pas celui que la fiche désigne par son empreinte",
        cure="vérifiez le nouveau certificat avec le destinataire, puis corrigez fingerprint:",
    )


def _date_problem(leaf: x509.Certificate, now: datetime) -> CertificateProblem | None:
    if leaf.not_valid_before_utc <= now <= leaf.not_valid_after_utc:
        return None
    end = leaf.not_valid_after_utc.strftime("%d/%m/%Y")
    begin = leaf.not_valid_before_utc.strftime("%d/%m/%Y")
    what = (
        f"a expiré le {end}" if now > leaf.not_valid_after_utc else f"n'est valable que le {begin}"
    )
    return CertificateProblem(
        code="cert-expired", message=f"le certificat du destinataire {what}", cure=_ASK_NEW
    )


def _usage_problem(leaf: x509.Certificate) -> CertificateProblem | None:
    """KeyUsage and extendedKeyUsage, when they are there, must allow what we do (RFC 8550 4.4)."""
    try:
        usage = leaf.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        usage = None
    key = leaf.public_key()
    if isinstance(key, ec.EllipticCurvePublicKey):
        allowed = usage is None or usage.key_agreement
    else:
        allowed = isinstance(key, rsa.RSAPublicKey) and (usage is None or usage.key_encipherment)
    try:
        purposes = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        allowed = allowed and bool(_MAIL_PURPOSES & set(purposes))
    except x509.ExtensionNotFound:
        pass  # no restriction
    if allowed:
        return None
    return CertificateProblem(
        code="cert-usage",
        message="le certificat du destinataire n'est pas prévu pour chiffrer du courriel",
        cure="demandez au destinataire son certificat de chiffrement S/MIME "
        "(et non de signature ou de serveur)",
    )


def _address_problem(leaf: x509.Certificate, address: str) -> CertificateProblem | None:
    if address.lower() in addresses(leaf):
        return None
    return CertificateProblem(
        code="cert-address",
        message=f"le certificat n'est pas au nom de l'adresse {address}",
        cure="corrigez to: ou certificate:, ou écrivez l'empreinte fingerprint: dans la fiche "
        "après l'avoir vérifiée avec le destinataire",
    )


def _signed_by(crl: x509.CertificateRevocationList, issuer: x509.Certificate) -> bool:
    key = issuer.public_key()
    if not isinstance(
        key,
        rsa.RSAPublicKey
        | ec.EllipticCurvePublicKey
        | dsa.DSAPublicKey
        | ed25519.Ed25519PublicKey
        | ed448.Ed448PublicKey,
    ):
        return False
    try:
        return crl.is_signature_valid(key)
    except (InvalidSignature, UnsupportedAlgorithm):
        return False
