"""One SMTP submission, verb by verb (RFC 5321), so that we always know what may have arrived.

aiosmtplib opens the connection, TLS and AUTH; then its transport gets our own protocol, because
its ``data()`` joins both halves of DATA and the same exception follows a cut before and after the
final dot. Here ``DATA`` is two steps: the intent is written between 354 and the first byte.

    failure before the final dot        nothing was accepted: TemporaryFailure, PermanentFailure
    final dot written, no whole reply   unknown: InDoubt
    reply read                          what it says
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

import aiosmtplib

from connectors._smtp_dialogue import Dialogue, LinkBroken
from connectors._smtp_errors import (
    Reply,
    dialogue_failure,
    in_doubt,
    link_failure,
    opening_failure,
    refusal,
    tls_required,
)
from dlx.contracts import Committing
from dlx.delivery import Phase
from dlx.errors import PermanentFailure
from dlx.failpoints import failpoint

# A TLS transport hides what the one below it still holds, unless it is fed in small blocks.
_BLOCK_BYTES = 65_536
_FAREWELL_SECONDS = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """Seconds to wait, at least those of RFC 5321 section 4.5.3.2: shorter makes duplicates."""

    connect: float = 30.0
    command: float = 300.0
    data: float = 120.0
    block: float = 180.0
    reply: float = 600.0


@dataclass(frozen=True, kw_only=True)
class Server:
    """Where and how to connect.

    Attributes:
        host, port: of the relay. implicit_tls: TLS from the first byte; else STARTTLS is demanded.
        tls: verified context, TLS 1.2 or later. helo: our name in EHLO.
        login: called when a connection opens; returns user and password, or None.
    """

    host: str
    port: int
    implicit_tls: bool
    tls: ssl.SSLContext
    helo: str
    login: Callable[[], tuple[str, str] | None] = field(default=lambda: None)
    timeouts: Timeouts = Timeouts()


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """One recipient's mail: canonical bytes (CRLF, dots not yet doubled) and its envelope."""

    sender: str
    recipient: str
    message: bytes
    token: str = ""

    @property
    def stuffed(self) -> bytes:
        """The bytes for DATA, without the final dot (RFC 5321 section 4.5.2).

        Raises ValueError for a lone CR or LF: the far side might see another end of mail there
        (SMTP smuggling), and mending it would break the signature.
        """
        body = self.message
        # Counting is a hundred times faster than a regular expression, and says the same.
        if not body.count(b"\r\n") == body.count(b"\r") == body.count(b"\n"):
            raise ValueError("CR ou LF isolé dans le message")
        if not body.endswith(b"\r\n"):
            body += b"\r\n"
        if body.startswith(b"."):
            body = b"." + body
        return body.replace(b"\r\n.", b"\r\n..") if b"\n." in body else body


class Session:
    """One open, protected and authenticated connection; one mail at a time.

    Attributes:
        peer: host and port. tls: version and cipher. carried: mails since it was opened.
    """

    def __init__(self, server: Server, dialogue: Dialogue, client: aiosmtplib.SMTP) -> None:
        transport = cast(asyncio.Transport, client.transport)
        self._transport = transport
        transport.set_write_buffer_limits(high=_BLOCK_BYTES)
        self._dialogue = dialogue
        self._timeouts = server.timeouts
        self._extensions = {k.upper(): v for k, v in client.esmtp_extensions.items()}
        self.peer = f"{server.host}:{server.port}"
        cipher = transport.get_extra_info("cipher")
        self.tls = f"{cipher[1]} {cipher[0]}" if cipher else ""
        self.carried = 0

    @classmethod
    async def open(cls, server: Server) -> Session:
        """Connect, protect, authenticate.

        Raises TemporaryFailure or PermanentFailure, scope ``channel``: nothing was sent.
        """
        client = aiosmtplib.SMTP(
            hostname=server.host,
            port=server.port,
            use_tls=server.implicit_tls,
            start_tls=False,  # done below by hand: never « if supported »
            tls_context=server.tls,
            local_hostname=server.helo,
            timeout=server.timeouts.connect,
        )
        try:
            await _introduce(client, server)
        except (aiosmtplib.SMTPException, OSError, ValueError) as error:
            _hang_up(client)
            raise opening_failure(f"{server.host}:{server.port}", error) from error
        except BaseException:
            _hang_up(client)
            raise
        transport = cast(asyncio.Transport, client.transport)
        dialogue = Dialogue(transport)
        transport.set_protocol(dialogue)
        return cls(server, dialogue, client)

    @property
    def usable(self) -> bool:
        """True when the next mail may go this way."""
        dialogue = self._dialogue
        return not (dialogue.broken or dialogue.unsolicited or self._transport.is_closing())

    async def send(self, envelope: Envelope, committing: Committing) -> Reply:
        """Carry one mail; awaits ``committing`` after 354, before the first byte of the body.

        Returns the 2xx reply. Raises LinkBroken when a reused connection turns out to be dead
        before its first reply (open another one), else a DeliveryError.
        """
        body = envelope.stuffed
        await self._envelope(envelope, len(body))
        await self._start_data()
        try:
            await committing()
        except BaseException:
            self.abort()  # inside DATA there is no other way back: no dot, no mail
            raise
        try:
            await self._write_body(body)
            return await self._finish()
        except BaseException:
            self.abort()
            raise

    async def _envelope(self, envelope: Envelope, size: int) -> None:
        limit = self._extensions.get("SIZE", "")
        if limit.isdigit() and 0 < int(limit) < size:
            raise PermanentFailure(
                f"message trop gros pour {self.peer} ({size} octets, {limit} permis)",
                code="too-large",
                cure="envoyer sans zip, ou par le portail",
                phase=Phase.ENVELOPE.value,
            )
        mail, rcpt = self._commands(envelope, size)
        together = "PIPELINING" in self._extensions
        answered = False
        try:
            self._dialogue.write(mail + rcpt if together else mail)
            answer = await self._dialogue.reply(self._timeouts.command)
            if answer.code == 421 and self.carried:
                raise LinkBroken("connexion fermée par le serveur")
            answered = True
            if not answer.positive:
                raise await self._refused(answer, "MAIL FROM", together)
            if not together:
                self._dialogue.write(rcpt)
            answer = await self._dialogue.reply(self._timeouts.command)
            if not answer.positive:
                raise await self._refused(answer, "RCPT TO", False)
        except LinkBroken as error:
            self.abort()
            if self.carried and not answered:
                raise
            raise link_failure(self.peer, error, Phase.ENVELOPE) from error

    def _commands(self, envelope: Envelope, size: int) -> tuple[bytes, bytes]:
        sender, recipient = envelope.sender, envelope.recipient
        mail, rcpt = f"MAIL FROM:<{sender}>", f"RCPT TO:<{recipient}>"
        if "SIZE" in self._extensions:
            mail += f" SIZE={size}"
        if "DSN" in self._extensions and envelope.token:
            original = recipient.replace("+", "+2B").replace(
                "=", "+3D"
            )  # xtext, RFC 3461 section 4
            mail += f" RET=HDRS ENVID={envelope.token}"
            rcpt += f" NOTIFY=SUCCESS,FAILURE,DELAY ORCPT=rfc822;{original}"
        return f"{mail}\r\n".encode("ascii"), f"{rcpt}\r\n".encode("ascii")

    async def _refused(self, answer: Reply, verb: str, pending: bool) -> Exception:
        """Leave the session clean after a refusal, then say what it means."""
        try:
            if pending:
                await self._dialogue.reply(self._timeouts.command)
            await self._reset()
        except LinkBroken:
            self.abort()  # it refused, then hung up: the refusal is what counts
        return refusal(self.peer, answer, verb)

    async def _reset(self) -> None:
        """RSET, so that the next mail begins anew; a session that will not is given up."""
        try:
            self._dialogue.write(b"RSET\r\n")
            if not (await self._dialogue.reply(self._timeouts.connect)).positive:
                self.abort()
        except LinkBroken:
            self.abort()

    async def _start_data(self) -> None:
        try:
            self._dialogue.write(b"DATA\r\n")
            answer = await self._dialogue.reply(self._timeouts.data)
        except LinkBroken as error:
            self.abort()
            raise link_failure(self.peer, error, Phase.ENVELOPE) from error
        if answer.code != 354:
            await self._reset()
            raise refusal(self.peer, answer, "DATA")

    async def _write_body(self, body: bytes) -> None:
        try:
            view = memoryview(body)
            for at in range(0, len(body), _BLOCK_BYTES):
                self._dialogue.write(view[at : at + _BLOCK_BYTES])
                await self._dialogue.drained(self._timeouts.block)
            # Until the last byte of the body has left our buffer, the dot cannot have.
            await self._flushed()
        except LinkBroken as error:
            if (early := self._dialogue.early_reply()) is not None:
                raise refusal(self.peer, early, "DATA", phase=Phase.DATA) from error
            raise link_failure(self.peer, error, Phase.DATA) from error
        if (early := self._dialogue.early_reply()) is not None:
            raise refusal(self.peer, early, "DATA", phase=Phase.DATA)
        failpoint("smtp.body_written")

    async def _flushed(self) -> None:
        """Wait until the transport's buffer is empty (limit 0: it wakes us when it is)."""
        if self._transport.get_write_buffer_size():
            self._transport.set_write_buffer_limits(high=0)
            while self._transport.get_write_buffer_size():
                await self._dialogue.drained(self._timeouts.block)
            self._transport.set_write_buffer_limits(high=_BLOCK_BYTES)
        if self._dialogue.broken is not None:
            raise self._dialogue.broken

    async def _finish(self) -> Reply:
        """Write the final dot and read what the server makes of it."""
        try:
            self._dialogue.write(b".\r\n")
        except LinkBroken as error:  # known to be broken before the dot was handed over
            raise link_failure(self.peer, error, Phase.DATA) from error
        failpoint("smtp.dot_written")
        try:
            answer = await self._dialogue.reply(self._timeouts.reply)
        except LinkBroken as error:
            raise in_doubt(self.peer, error) from error
        failpoint("smtp.replied")
        self.carried += 1
        if answer.positive:
            return answer
        raise dialogue_failure(self.peer, answer)

    async def quit(self) -> None:
        """Say goodbye and hang up; a server that does not answer changes nothing."""
        try:
            if self.usable:
                self._dialogue.write(b"QUIT\r\n")
                await self._dialogue.reply(_FAREWELL_SECONDS)
                self._transport.close()
                await self._dialogue.gone(_FAREWELL_SECONDS)
        except LinkBroken:
            pass  # the mails were answered for; only the farewell is missing
        finally:
            self._transport.abort()

    def abort(self) -> None:
        """Hang up at once."""
        self._transport.abort()


def _hang_up(client: aiosmtplib.SMTP) -> None:
    """Drop the connection now: closing TLS politely would outlive the attempt."""
    transport = client.transport
    client.close()
    if isinstance(transport, asyncio.WriteTransport):
        transport.abort()


async def _introduce(client: aiosmtplib.SMTP, server: Server) -> None:
    timeout = server.timeouts.command
    await client.connect()
    await client.ehlo(timeout=timeout)
    if not server.implicit_tls:
        if not client.supports_extension("starttls"):
            raise tls_required(f"{server.host}:{server.port}")
        await client.starttls(timeout=timeout, tls_context=server.tls)
        await client.ehlo(timeout=timeout)
    login = server.login()
    if login is not None:
        await client.login(*login, timeout=timeout)
