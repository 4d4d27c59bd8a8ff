"""One authenticated SFTP session: socket, host key, our key, channel. Blocking; one thread each."""

from __future__ import annotations

import io
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import paramiko
from paramiko.ssh_exception import (
    AuthenticationException,
    IncompatiblePeer,
    SSHException,
)

from connectors.sftp.hostkeys import Pin, PinError, fingerprint_of, pin_of, wanted_types
from connectors.sftp.settings import SftpSettings
from connectors.sftp.wire import Broken, Wire
from dlx.contracts import SecretFile
from dlx.delivery import Phase
from dlx.errors import DeliveryError, PermanentFailure, TemporaryFailure
from dlx.masking import printable

# AES-GCM first: twice the speed of CTR with a separate MAC; no CBC, 3DES, MD5 or SHA-1 MAC.
_CIPHERS = (
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "aes128-ctr",
    "aes192-ctr",
    "aes256-ctr",
)
_MACS = (
    "hmac-sha2-256-etm@openssh.com",
    "hmac-sha2-512-etm@openssh.com",
    "hmac-sha2-256",
    "hmac-sha2-512",
)
_KEY_CLASSES: tuple[type[paramiko.PKey], ...] = (
    paramiko.Ed25519Key,
    paramiko.ECDSAKey,
    paramiko.RSAKey,
)
RSA_BITS_AT_LEAST = 3072


@dataclass(frozen=True)
class Session:
    """An open session. ``wire`` speaks SFTP; ``tls`` is how the line is protected."""

    transport: paramiko.Transport
    wire: Wire
    peer: str
    tls: str

    @property
    def alive(self) -> bool:
        """False when the far side or a time-out has ended it."""
        return self.transport.is_active()

    def close(self) -> None:
        """End it; a transfer in another thread stops at once."""
        self.transport.close()


class Opener:
    """Opens sessions with one server; remembers our key and the key type the server answered."""

    def __init__(self, settings: SftpSettings) -> None:
        self._settings = settings
        self._key: paramiko.PKey | None = None
        self._good_type = ""

    def open(self) -> Session:
        """Connect, check the server's key, log in, start SFTP. Raises DeliveryError."""
        today = date.today()  # noqa: DTZ011 - dates of pins are the operator's calendar
        try:
            pins = [pin for pin in map(pin_of, self._settings.host_key) if pin.counts_on(today)]
        except PinError as error:
            raise _host_key_failure(
                self._settings, str(error), cure="corriger host_key:"
            ) from error
        if not pins:
            raise _host_key_failure(
                self._settings, "aucune clé acceptée à cette date", cure="mettre à jour host_key:"
            )
        key = self.own_key()
        transport = self._trusted_transport(pins)
        try:
            self._log_in(transport, key)
            return self._started(transport)
        except (DeliveryError, SSHException, OSError, EOFError, Broken) as error:
            transport.close()
            if isinstance(error, DeliveryError):
                raise
            raise _down(self._settings, error) from error

    def own_key(self) -> paramiko.PKey | None:
        """Our private key, read once. Raises TemporaryFailure ``own-key``."""
        settings = self._settings
        if self._key is None and settings.identity is not None:
            try:
                self._key = read_key(settings.identity, settings.passphrase)
            except (OSError, ValueError) as error:
                raise TemporaryFailure(
                    f"Notre clé {settings.identity.reference} ne s'ouvre pas",
                    code="own-key",
                    words=str(error),
                    cure="vérifier le fichier, ses droits et sa phrase secrète",
                    scope="channel",
                    phase=Phase.CONNECT.value,
                ) from error
        return self._key

    def _trusted_transport(self, pins: Sequence[Pin]) -> paramiko.Transport:
        """A connection to a server that proved a pinned key.

        A bare fingerprint does not tell the type of its key, and a server with several keys shows
        one of the type asked for: so each type is asked for in turn before the key is refused.
        """
        types = [self._good_type] if self._good_type else wanted_types(pins)
        shown: list[str] = []
        for type_ in types:
            try:
                transport = self._negotiated(type_)
            except IncompatiblePeer:
                continue  # the server has no key of this type
            except (SSHException, OSError, EOFError) as error:
                raise _down(self._settings, error) from error
            fingerprint = fingerprint_of(transport.get_remote_server_key())
            if any(pin.fingerprint == fingerprint for pin in pins):
                self._good_type = type_
                return transport
            transport.close()
            shown.append(fingerprint)
        self._good_type = ""
        words = f"clé montrée : {', '.join(shown)}" if shown else "aucune clé du type attendu"
        raise _host_key_failure(
            self._settings,
            words,
            cure="appeler le responsable du serveur ; ne changer host_key: qu'après lecture de la"
            " nouvelle empreinte au téléphone",
        )

    def _negotiated(self, key_type: str) -> paramiko.Transport:
        settings = self._settings
        sock = socket.create_connection((settings.host, settings.port), timeout=settings.timeout)
        try:
            # Without it each file waits about 40 ms for a delayed acknowledgement.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            transport = paramiko.Transport(sock)
        except BaseException:
            sock.close()
            raise
        try:
            transport.banner_timeout = settings.timeout
            transport.handshake_timeout = settings.timeout
            transport.auth_timeout = settings.timeout
            options = transport.get_security_options()
            options.ciphers = [c for c in _CIPHERS if c in options.ciphers]
            options.digests = [m for m in _MACS if m in options.digests]
            options.key_types = [key_type]
            transport.start_client(timeout=settings.timeout)
        except BaseException:
            transport.close()
            raise
        return transport

    def _log_in(self, transport: paramiko.Transport, key: paramiko.PKey | None) -> None:
        settings = self._settings
        try:
            if key is not None:
                transport.auth_publickey(settings.user, key)
            elif settings.password is not None:
                password = settings.password.read_secret().decode().rstrip("\r\n")
                transport.auth_password(settings.user, password, fallback=False)
        except AuthenticationException as error:
            raise TemporaryFailure(
                f"{settings.host} refuse notre clé ou notre compte {settings.user}",
                code="auth",
                words=printable(str(error)),
                cure="faire vérifier notre clé publique sur leur serveur",
                scope="channel",
                phase=Phase.CONNECT.value,
            ) from error

    def _started(self, transport: paramiko.Transport) -> Session:
        settings = self._settings
        channel = transport.open_session(timeout=settings.timeout)
        channel.settimeout(settings.timeout)
        channel.invoke_subsystem("sftp")
        transport.set_keepalive(int(settings.keepalive))
        return Session(
            transport=transport,
            wire=Wire(channel),
            peer=f"{settings.host}:{settings.port}",
            tls=f"SSH {getattr(transport, 'remote_cipher', '')}".strip(),
        )


def read_key(secret: SecretFile, passphrase: SecretFile | None) -> paramiko.PKey:
    """Open a private key file. Raises OSError, PermissionError, ValueError (with a French text)."""
    text = secret.read_secret().decode("ascii", "replace")
    phrase = passphrase.read_secret().decode().rstrip("\r\n") if passphrase else None
    for kind in _KEY_CLASSES:
        try:
            return kind.from_private_key(io.StringIO(text), phrase)
        except paramiko.PasswordRequiredException:
            raise ValueError(f"{secret.reference} : phrase secrète nécessaire") from None
        except (SSHException, ValueError, IndexError, UnicodeError):
            continue  # another type of key, or a wrong passphrase
    raise ValueError(f"{secret.reference} : clé illisible (type inconnu ou phrase secrète fausse)")


def _host_key_failure(settings: SftpSettings, words: str, *, cure: str) -> PermanentFailure:
    return PermanentFailure(
        f"La clé du serveur {settings.host} n'est pas celle qui est configurée",
        code="host-key",
        words=words,
        cure=cure,
        scope="channel",
        phase=Phase.CONNECT.value,
    )


def _down(settings: SftpSettings, error: BaseException) -> TemporaryFailure:
    return TemporaryFailure(
        f"Le serveur {settings.host}:{settings.port} ne répond pas",
        code="route-down",
        words=printable(str(error) or type(error).__name__),
        cure="vérifier le réseau, puis appeler le responsable du serveur",
        scope="channel",
        phase=Phase.CONNECT.value,
    )
