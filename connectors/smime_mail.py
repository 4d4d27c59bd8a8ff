"""`smime-mail`: signed, encrypted mail to prescribers, one recipient per message.

    judge the certificate ─▶ build once, sign, encrypt ─▶ MAIL, RCPT, DATA ─▶ committing ─▶ body

The far side cannot be asked whether a mail arrived, so a cut after the final dot is InDoubt; a
repeat carries the same Message-ID, Date and ENVID (the sealed envelope is made anew).
"""

from __future__ import annotations

import asyncio
import secrets
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import ClassVar
from urllib.parse import SplitResult, urlsplit

from cryptography import x509

from connectors import _cms, _mime
from connectors._smime_keys import Keyring, Signer, is_address, load_signer
from connectors._smime_settings import SmimeMailAddress, SmimeMailSettings
from connectors._smtp import Envelope, Server, Timeouts
from connectors._smtp_pool import Pool
from dlx.contracts import Committing, Connector, Expiry, Options
from dlx.delivery import Accepted, Delivery, Rendition
from dlx.errors import PermanentFailure

_SCHEMES = {"smtps": 465, "smtp+starttls": 587}


class SmimeMailConnector(Connector):
    """Signs, encrypts and submits; see the module for the order and ``Connector`` for the promises.

    Keys are read at first use; signing and encrypting run in a thread so that RSA does not hold
    the event loop.
    """

    name: ClassVar[str] = "smime-mail"
    Settings: ClassVar[type[SmimeMailSettings]] = SmimeMailSettings
    Address: ClassVar[type[SmimeMailAddress] | None] = SmimeMailAddress

    def __init__(self, settings: SmimeMailSettings) -> None:
        self._settings = settings
        self._pool: Pool | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._keys = Keyring(
            load=lambda: load_signer(settings.identity, settings.identity_password),
            judge=lambda anchors, lists: _cms.Judge(
                anchors=anchors,
                revocations=lists,
                check_revocation=settings.revocation != "off",
                require_revocation=settings.revocation == "require",
            ),
            trust=settings.trust,
            crl=settings.crl,
            folder=settings.certificates,
        )

    async def deliver(
        self, delivery: Delivery, renditions: Sequence[Rendition], committing: Committing
    ) -> Accepted:
        """Send one message; see ``Connector.deliver``. ``remote_id`` is the Message-ID."""
        message_id = _message_id(delivery, self._settings.sender)
        message = await asyncio.to_thread(self._sealed, delivery, renditions, message_id)
        envelope = Envelope(
            sender=self._settings.sender,
            recipient=delivery.address,
            message=message,
            token=delivery.id if self._settings.receipts else "",
        )
        pool = await self._open_pool()
        reply, session = await pool.send(envelope, committing)
        return Accepted(remote_id=message_id, words=reply.words, peer=session.peer, tls=session.tls)

    async def probe(self) -> None:
        """Connect, protect and authenticate; send nothing."""
        pool = await self._open_pool()
        await pool.probe()

    async def close(self) -> None:
        """Close idle sessions; keys stay loaded."""
        pool, self._pool = self._pool, None
        if pool is not None and self._loop is asyncio.get_running_loop():
            await pool.close()

    def check(self) -> Sequence[str]:
        """What is wrong with the settings, the keys and the trusted files."""
        settings = self._settings
        problems = [*_mode_problems(settings), *_smtp_problems(settings)]
        for word, address in (("sender", settings.sender), ("reply_to", settings.reply_to)):
            if (address or word == "sender") and not is_address(address):
                problems.append(f"{word} : « {address} » n'est pas une adresse de courriel")
        try:
            _mime.encoded_words(settings.subject)
        except ValueError:
            problems.append("subject : retour à la ligne ou caractère de commande interdit")
        return [*problems, *self._key_problems(datetime.now(UTC))]

    def check_address(self, address: str, options: Options) -> Sequence[str]:
        """Is ``to:`` an address, and its certificate there and fit for use today?"""
        if not is_address(address):
            return [f"to: « {address} » n'est pas une adresse de courriel"]
        if options.get("cms") and options["cms"] not in {suite.value for suite in _cms.Suite}:
            return [f"cms: « {options['cms']} » inconnu"]
        try:
            self._recipient(address, options, datetime.now(UTC))
        except PermanentFailure as failure:
            return [f"attention : {failure.message} ; {failure.cure}"]
        return ()

    def expiries(self) -> Sequence[Expiry]:
        """Our own certificates and those of the recipients' folder."""
        found = []
        own = {"identité S/MIME": self._settings.identity}
        if self._settings.client_certificate is not None:
            own["certificat TLS client"] = self._settings.client_certificate
        for name, secret in own.items():
            try:
                certificate = _cms.read_certificates(secret.read_secret())[0]
            except (OSError, _cms.CmsError, IndexError):
                continue  # told by check()
            found.append(Expiry(name=name, ends_at=certificate.not_valid_after_utc))
        for address, certificate in self._keys.known():
            name = f"certificat de {address}"
            found.append(Expiry(name=name, ends_at=certificate.not_valid_after_utc))
        return found

    def _sealed(
        self, delivery: Delivery, renditions: Sequence[Rendition], message_id: str
    ) -> bytes:
        """The whole message, ready for the wire. Raises PermanentFailure."""
        settings, options = self._settings, delivery.options
        if problems := _mode_problems(settings):
            raise _channel_failure("config", problems[0], "corriger le canal, puis « dlx reload »")
        if not is_address(delivery.address):
            raise PermanentFailure(
                f"« {delivery.address[:80]!r} » n'est pas une adresse de courriel",
                code="bad-address",
                cure="corriger to: dans la fiche, puis : dlx reload, dlx replay --report … --apply",
            )
        now = datetime.now(UTC)
        signer = self._usable_signer(now)
        recipient = self._recipient(delivery.address, options, now)[0]
        readers = [recipient, *([signer.certificate] if settings.encrypt_to_self else [])]
        letter = self._letter(delivery, renditions, message_id)
        boundary = secrets.token_hex(12)
        content = _mime.payload(letter, f"=_p{boundary}")
        signature = _cms.sign(content, signer.key, signer.certificate, signer.chain, at=now)
        micalg = _cms.digest_name(signer.key)
        entity = _mime.signed_entity(content, signature, micalg, f"=_s{boundary}")
        suite = _cms.Suite(options.get("cms") or _cms.Suite.CBC.value)
        sealed = _cms.encrypt(entity, readers, suite)
        return _mime.enveloped_message(letter, sealed, authenticated=suite.authenticated)

    def _letter(
        self, delivery: Delivery, renditions: Sequence[Rendition], message_id: str
    ) -> _mime.Letter:
        settings = self._settings
        return _mime.Letter(
            sender=settings.sender,
            to=delivery.address,
            reply_to=settings.reply_to,
            date=delivery.created_at,
            message_id=message_id,
            subject=f"{settings.subject} (envoi {delivery.id})",
            outer_subject=settings.subject,
            note=_note(delivery),
            parts=_parts(delivery, renditions),
        )

    def _usable_signer(self, now: datetime) -> Signer:
        try:
            signer = self._keys.signer()
        except (OSError, _cms.CmsError) as error:
            raise _channel_failure(
                "identity", f"identité S/MIME inutilisable : {error}", "lancer « dlx check »"
            ) from error
        if not _valid(signer.certificate, now):
            raise _channel_failure(
                "identity-expired",
                "notre certificat de signature a expiré",
                "installer le nouveau certificat, puis « dlx reload »",
            )
        return signer

    def _recipient(self, address: str, options: Options, now: datetime) -> list[x509.Certificate]:
        stated, pinned = options.get("certificate", ""), options.get("fingerprint", "")
        try:
            return self._keys.recipient(address, stated, pinned, now)
        except (OSError, _cms.CmsError) as error:
            raise _channel_failure(
                "trust", f"trust: ou crl: illisible : {error}", "lancer « dlx check »"
            ) from error

    def _key_problems(self, now: datetime) -> list[str]:
        problems = []
        try:
            signer = self._keys.signer()
            if not _valid(signer.certificate, now):
                problems.append("identity : le certificat de signature n'est pas valable")
            if self._settings.sender.lower() not in _cms.addresses(signer.certificate):
                problems.append(
                    f"identity : le certificat n'est pas au nom de {self._settings.sender} ;"
                    " les logiciels des médecins signaleront une signature douteuse"
                )
        except (OSError, _cms.CmsError) as error:
            problems.append(f"identity : {error}")
        try:
            self._keys.judge()
        except (OSError, _cms.CmsError) as error:
            problems.append(f"trust ou crl : {error}")
        folder = self._settings.certificates
        if folder is not None and not folder.is_dir():
            problems.append(f"certificates : le dossier {folder} n'existe pas ; créez-le")
        return problems

    async def _open_pool(self) -> Pool:
        loop = asyncio.get_running_loop()
        if self._pool is None or self._loop is not loop:
            if self._pool is not None:
                self._pool.abandon()
            settings = self._settings
            server = await asyncio.to_thread(_server_of, settings)
            if self._pool is None or self._loop is not loop:  # nobody was faster
                self._loop = loop
                self._pool = Pool(
                    server,
                    size=settings.connections,
                    idle_seconds=settings.idle,
                    mails_each=settings.mails_per_connection,
                )
        return self._pool


def _server_of(settings: SmimeMailSettings) -> Server:
    """Where to connect. Raises PermanentFailure when the settings do not allow it."""
    if problems := _smtp_problems(settings):
        raise _channel_failure("config", problems[0], "corriger le canal, puis « dlx reload »")
    url = _url(settings)
    return Server(
        host=url.hostname or "",
        port=url.port or _SCHEMES[url.scheme],
        implicit_tls=url.scheme == "smtps",
        tls=_tls(settings),
        helo=settings.sender.rpartition("@")[2],
        login=lambda: _login(settings),
        timeouts=Timeouts(
            connect=settings.connect_timeout,
            command=settings.command_timeout,
            data=settings.data_timeout,
            block=settings.block_timeout,
            reply=settings.reply_timeout,
        ),
    )


def _tls(settings: SmimeMailSettings) -> ssl.SSLContext:
    """Names and chains are always verified; TLS 1.2 at least."""
    try:
        context = ssl.create_default_context(cafile=settings.ca)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if (client := settings.client_certificate) is not None:
            client.read_secret()  # refuses open rights
            context.load_cert_chain(client.path)
    except OSError as error:  # also ssl.SSLError
        raise _channel_failure(
            "tls-files", f"ca: ou client_certificate: illisible : {error}", "lancer « dlx check »"
        ) from error
    return context


def _login(settings: SmimeMailSettings) -> tuple[str, str] | None:
    if not settings.user:
        return None
    try:
        secret = settings.password.read_secret() if settings.password else b""
        return settings.user, secret.decode().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise _channel_failure(
            "password", f"mot de passe illisible : {error}", "lancer « dlx check »"
        ) from error


def _url(settings: SmimeMailSettings) -> SplitResult:
    return urlsplit(settings.smtp)


def _mode_problems(settings: SmimeMailSettings) -> list[str]:
    problems = []
    if settings.smime != "sign+encrypt":
        problems.append(
            f"smime: {settings.smime} n'est permis que sur une route MSSanté, que cette version"
            " ne sait pas encore vérifier ; écrivez smime: sign+encrypt"
        )
    if settings.form != "neutral":
        problems.append(
            f"form: {settings.form} n'est permis que sur une route MSSanté, que cette version"
            " ne sait pas encore vérifier ; écrivez form: neutral"
        )
    return problems


def _smtp_problems(settings: SmimeMailSettings) -> list[str]:
    try:
        url = _url(settings)
        port = url.port
    except ValueError:
        return [f"smtp : « {settings.smtp} » n'est pas une adresse ; smtps://hôte:465"]
    if url.scheme not in _SCHEMES:
        return ["smtp : écrivez smtps://hôte:port ou smtp+starttls://hôte:port ; jamais en clair"]
    if not url.hostname or port == 0 or url.path.strip("/") or "@" in url.netloc:
        return [f"smtp : « {settings.smtp} » n'est pas une adresse ; smtps://hôte:465"]
    return []


def _channel_failure(code: str, message: str, cure: str) -> PermanentFailure:
    return PermanentFailure(message, code=code, cure=cure, scope="channel")


def _valid(certificate: x509.Certificate, now: datetime) -> bool:
    return certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc


def _message_id(delivery: Delivery, sender: str) -> str:
    """The same at every attempt; opaque."""
    return f"<{delivery.id}.{delivery.version}@{sender.rpartition('@')[2]}>"


def _note(delivery: Delivery) -> str:
    """Covering text: what this is and whom to ask; no medical data, no patient."""
    lines = ["Bonjour,", "", "Vous trouverez ci-joint un compte rendu de biologie médicale."]
    if delivery.replaces:
        lines.append("Il annule et remplace la version que nous vous avons déjà adressée.")
    if delivery.number:
        lines.append("Duplicata : cet envoi répète un envoi précédent.")
    lines += [
        "",
        "Si vous n'en êtes pas le destinataire, merci de le détruire et de nous prévenir",
        f"en répondant à ce message (référence {delivery.id}).",
    ]
    return "\n".join(lines) + "\n"


def _parts(delivery: Delivery, renditions: Sequence[Rendition]) -> list[_mime.Part]:
    """Name each rendition after the delivery; a second one with the same ending gets a number."""
    parts: list[_mime.Part] = []
    taken: set[str] = set()
    for rendition in renditions:
        suffix, rank = _mime.suffix_of(rendition.suffix), 1
        while (name := f"{delivery.id}{f'-{rank}' if rank > 1 else ''}{suffix}") in taken:
            rank += 1
        taken.add(name)
        media_type = _mime.media_type_of(rendition.media_type)
        parts.append(_mime.Part(media_type=media_type, name=name, content=rendition.content))
    return parts
