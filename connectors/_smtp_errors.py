"""What an SMTP reply or a broken line means for a delivery (RFC 5321, RFC 3463)."""

from __future__ import annotations

import re
import ssl
from collections.abc import Sequence
from dataclasses import dataclass

import aiosmtplib

from dlx.delivery import Phase
from dlx.errors import DeliveryError, InDoubt, PermanentFailure, TemporaryFailure
from dlx.masking import printable

_ENHANCED = re.compile(r"([245])\.(\d{1,3})\.(\d{1,3})\b")

# Enhanced status (RFC 3463) without its class: what the operator reads.
_REASONS = {
    "1.1": "adresse inconnue",
    "1.2": "domaine inconnu",
    "1.3": "adresse mal formée",
    "1.6": "la boîte a déménagé",
    "1.10": "le destinataire ne reçoit pas de courriel",
    "2.1": "boîte désactivée",
    "2.2": "boîte pleine",
    "2.3": "message trop gros",
    "3.4": "message trop gros",
    "4.4": "domaine inconnu",
    "4.6": "boucle de courrier",
    "7.1": "refusé par le règlement du serveur",
}


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole reply: code and text, lines joined by blanks (raw, not yet fit for a terminal)."""

    code: int
    text: str

    @classmethod
    def read(cls, code: int, lines: Sequence[bytes]) -> Reply:
        """Decode as UTF-8, else as Latin-1: Postfix passes on what others said."""
        raw = b" ".join(line.strip() for line in lines)
        try:
            return cls(code, raw.decode())
        except UnicodeDecodeError:
            return cls(code, raw.decode("latin-1"))

    @property
    def positive(self) -> bool:
        """True for 2xx."""
        return 200 <= self.code < 300

    @property
    def words(self) -> str:
        """Code and text as they may go to a log or a terminal."""
        return printable(f"{self.code} {self.text}")

    @property
    def reason(self) -> str:
        """French reason drawn from the enhanced status, or ""."""
        found = _ENHANCED.search(self.text[:20])
        return _REASONS.get(f"{found[2]}.{found[3]}", "") if found else ""


def refusal(peer: str, reply: Reply, verb: str, *, phase: Phase = Phase.ENVELOPE) -> DeliveryError:
    """A negative reply before the final dot: nothing was accepted.

    Only RCPT TO, and what is said of one message's size or content, concern one delivery.
    """
    about_one = verb == "RCPT TO" or phase is Phase.DATA or reply.reason == "message trop gros"
    scope = "channel" if reply.code == 421 or not (about_one or verb == "DATA") else "delivery"
    return _failure(peer, reply, verb, scope, phase)


def dialogue_failure(peer: str, reply: Reply) -> DeliveryError:
    """A whole reply after the final dot that is not a yes: the server did not keep the mail."""
    if 300 <= reply.code < 400:
        return in_doubt(peer, ValueError("réponse inattendue"), reply.words)
    scope = "channel" if reply.code == 421 else "delivery"
    return _failure(peer, reply, "la fin du message", scope, Phase.REPLIED)


def _failure(peer: str, reply: Reply, verb: str, scope: str, phase: Phase) -> DeliveryError:
    kind = PermanentFailure if reply.code >= 500 else TemporaryFailure
    reason = f" : {reply.reason}" if reply.reason else ""
    said = "refuse" if kind is PermanentFailure else "diffère"
    return kind(
        f"{peer} {said} {verb}{reason}",
        code=f"smtp-{reply.code}",
        words=reply.words,
        cure=_cure(reply, scope),
        scope=scope,
        phase=phase.value,
    )


def _cure(reply: Reply, scope: str) -> str:
    if reply.code < 500:
        return ""
    if scope == "channel":
        return "vérifier le compte, l'expéditeur et le certificat client du canal"
    return "corriger l'adresse dans la fiche, puis : dlx reload, dlx replay --report … --apply"


def link_failure(peer: str, error: Exception, phase: Phase) -> TemporaryFailure:
    """The line broke before the final dot: nothing was accepted (RFC 5321 section 4.1.1.4)."""
    scope = "channel" if phase in (Phase.CONNECT, Phase.ENVELOPE) else "delivery"
    return TemporaryFailure(
        f"{peer} : {printable(str(error))}", code="smtp-link", scope=scope, phase=phase.value
    )


def in_doubt(peer: str, error: Exception, words: str = "") -> InDoubt:
    """The final dot was written and no whole reply came."""
    return InDoubt(
        f"{peer} : {printable(str(error))} après la fin du message",
        code="smtp-in-doubt",
        words=words,
        cure="demander au destinataire ou à son opérateur si le message est arrivé",
        phase=Phase.COMMITTED_TO.value,
    )


def tls_required(peer: str) -> aiosmtplib.SMTPNotSupported:
    """The server offers no STARTTLS: nothing is ever sent in clear."""
    return aiosmtplib.SMTPNotSupported(f"{peer} n'offre pas STARTTLS")


def opening_failure(peer: str, error: Exception) -> DeliveryError:
    """What went wrong between the first packet and the end of AUTH: always the channel's affair."""
    match error:
        case aiosmtplib.SMTPResponseException(code=int(code)) if 400 <= code < 600:
            return _opening_refusal(peer, Reply(code, error.message), error)
        case aiosmtplib.SMTPNotSupported():
            return PermanentFailure(
                f"{peer} n'offre pas STARTTLS",
                code="tls-required",
                cure="écrire smtps://… ou demander TLS à l'opérateur ; rien ne part en clair",
                scope="channel",
                phase=Phase.CONNECT.value,
            )
    if (reason := _certificate_reason(error)) is not None:
        return TemporaryFailure(
            f"{peer} : certificat TLS du serveur refusé",
            code="tls-certificate",
            words=printable(reason),
            cure="vérifier smtp: et ca: du canal ; un certificat inconnu n'est jamais accepté",
            scope="channel",
            phase=Phase.CONNECT.value,
        )
    return TemporaryFailure(
        f"{peer} : connexion impossible",
        code="smtp-connect",
        words=printable(str(error)),
        scope="channel",
        phase=Phase.CONNECT.value,
    )


def _opening_refusal(peer: str, reply: Reply, error: Exception) -> DeliveryError:
    kind = PermanentFailure if reply.code >= 500 else TemporaryFailure
    login = isinstance(error, aiosmtplib.SMTPAuthenticationError)
    return kind(
        f"{peer} refuse {'le compte ou le mot de passe' if login else 'la connexion'}",
        code=f"smtp-{reply.code}",
        words=reply.words,
        cure="vérifier user:, password: et client_certificate: du canal",
        scope="channel",
        phase=Phase.CONNECT.value,
    )


def _certificate_reason(error: BaseException | None) -> str | None:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return error.verify_message or str(error)
        error = error.__cause__ or error.__context__
    return None
