"""A scripted SMTP server on loopback, in a thread of its own.

It answers as told at each step of the dialogue, keeps what it accepted, and writes its truth log
**before** it replies: what the log holds was stored, whatever the client believes::

    with SmtpPeer(folder, tls=server_context(identity)) as peer:
        peer.next("rcpt", Answer("550 5.1.1 no such user"))
        peer.next("dot", Answer("451 4.3.0 later"), Answer("250 ok"))
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import socket
import ssl
import struct
import threading
from collections import defaultdict, deque
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from dlx.testing.pki import Identity

PHASES = ("banner", "ehlo", "starttls", "auth", "mail", "rcpt", "data", "body", "dot", "other")


@dataclass(frozen=True, slots=True)
class Answer:
    """What to say at one step, and what to do after.

    Attributes:
        text: the reply; "" keeps the usual one.
        then: ``go on``, ``close`` (FIN), ``reset`` (RST) or ``hang``; with ``say=False`` it is
            done instead of answering.
        say: False to say nothing at all.
        half: only the first half of the reply is written.
        store: at ``dot``: True or False whatever the reply says; None follows the reply.
        after_bytes: at ``body``: act once that many bytes of the mail came.
    """

    text: str = ""
    then: str = "go on"
    say: bool = True
    half: bool = False
    store: bool | None = None
    after_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """One accepted mail: its envelope as commanded, and the bytes (dots undoubled)."""

    mail: str
    rcpt: tuple[str, ...]
    message: bytes
    tls: str


def server_context(identity: Identity, client_ca: Path | None = None) -> ssl.SSLContext:
    """TLS context of a server; ``client_ca`` demands client certificates."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(identity.pem)
    if client_ca is not None:
        context.load_verify_locations(client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


class _Over(Exception):
    """The script ended this connection."""


class SmtpPeer:
    """The server; a context manager.

    Args:
        folder: the truth log ``truth.jsonl`` and the mails ``NNNN.eml`` are written here.
        tls: context; None speaks in clear.
        implicit: TLS from the first byte; otherwise STARTTLS is offered.
        known: recipients that exist; empty: all do.
        extensions: words of EHLO besides STARTTLS and AUTH.
        login: user and password to demand, or None.

    Attributes:
        port: kept over ``go_down`` and ``come_back``.
        commands: every command line, in order. connections: how many were made;
        most_at_once: the largest number open at the same time.
    """

    def __init__(
        self,
        folder: Path,
        *,
        tls: ssl.SSLContext | None = None,
        implicit: bool = True,
        known: tuple[str, ...] = (),
        extensions: tuple[str, ...] = ("PIPELINING", "SIZE 52428800", "8BITMIME", "DSN"),
        login: tuple[str, str] | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.known = tuple(address.lower() for address in known)
        self.extensions = extensions
        self.login = login
        self.tls, self.implicit = tls, implicit
        self.port = 0
        self.commands: list[str] = []
        self.connections = self.most_at_once = 0
        self._script: dict[str, deque[Answer]] = defaultdict(deque)
        self._stored: list[Stored] = []
        self._lock = threading.Lock()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def __enter__(self) -> Self:
        self._thread.start()
        self._run(self._listen())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._run(self._silence())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def next(self, phase: str, *answers: Answer) -> None:
        """Queue answers for the next passages at ``phase`` (one of PHASES)."""
        if phase not in PHASES:
            raise ValueError(phase)
        with self._lock:
            self._script[phase].extend(answers)

    @property
    def stored(self) -> list[Stored]:
        """The truth: every mail this server took responsibility for, in order."""
        with self._lock:
            return list(self._stored)

    def go_down(self) -> None:
        """Refuse new connections and cut the open ones."""
        self._run(self._silence())

    def come_back(self) -> None:
        """Listen again on the same port."""
        self._run(self._listen())

    def cut_idle(self) -> None:
        """Close every open connection, as a server does with idle ones; go on listening."""
        self._run(self._cut())

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _listen(self) -> None:
        context = self.tls if self.implicit else None
        self._server = await asyncio.start_server(
            self._accept, "127.0.0.1", self.port, ssl=context, limit=1 << 20
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def _silence(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        await self._cut()

    async def _cut(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("no task")
        self._tasks.add(task)
        with self._lock:
            self.connections += 1
            self.most_at_once = max(self.most_at_once, len(self._tasks))
        conversation = _Conversation(self, reader, writer)
        try:
            await conversation.run()
        except (_Over, OSError, EOFError, ValueError, asyncio.LimitOverrunError):
            pass  # the client's affair, or the script's
        except asyncio.CancelledError:
            writer.transport.abort()
        finally:
            self._tasks.discard(task)
            writer.close()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()
            writer.transport.abort()  # TLS may still be waiting for the other's farewell

    def answer_for(self, phase: str) -> Answer:
        """Take the next scripted answer of ``phase``, or the usual one."""
        with self._lock:
            waiting = self._script[phase]
            return waiting.popleft() if waiting else Answer()

    def note(self, command: str) -> None:
        """Remember a command line."""
        with self._lock:
            self.commands.append(command)

    def keep(self, mail: Stored) -> None:
        """Store a mail and write the truth log; called before the reply."""
        with self._lock:
            self._stored.append(mail)
            number = len(self._stored)
            name = f"{number:04d}.eml"
            (self.folder / name).write_bytes(mail.message)
            line = json.dumps({"file": name, "mail": mail.mail, "rcpt": mail.rcpt, "tls": mail.tls})
            with (self.folder / "truth.jsonl").open("a", encoding="utf-8") as log:
                log.write(line + "\n")


class _Conversation:
    def __init__(
        self, peer: SmtpPeer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._peer, self._reader, self._writer = peer, reader, writer
        self._protected = peer.implicit and peer.tls is not None
        self._mail, self._rcpt = "", list[str]()
        self._authenticated = peer.login is None

    async def run(self) -> None:
        await self._say("banner", "220 peer.test ESMTP")
        while line := await self._line():
            self._peer.note(line)
            verb = line.split(" ")[0].split(":")[0].upper()
            match verb:
                case "EHLO":
                    await self._say("ehlo", self._greeting())
                case "STARTTLS":
                    await self._protect()
                case "AUTH":
                    await self._login(line)
                case "MAIL":
                    await self._take_sender(line)
                case "RCPT":
                    await self._take_recipient(line)
                case "DATA":
                    await self._data()
                case "RSET" | "NOOP":
                    self._mail, self._rcpt = "", []
                    await self._say("other", "250 2.0.0 ok")
                case "QUIT":
                    await self._say("other", "221 2.0.0 bye")
                    return
                case _:
                    await self._say("other", "500 5.5.1 what?")

    async def _line(self) -> str:
        return (await self._reader.readline()).decode("latin-1").rstrip("\r\n")

    async def _say(self, phase: str, usual: str) -> Answer:
        """Answer as scripted; raises _Over when the script ends the connection here."""
        answer = self._peer.answer_for(phase)
        await self._act(answer, usual)
        return answer

    async def _act(self, answer: Answer, usual: str) -> None:
        reply = ((answer.text or usual) + "\r\n").encode("latin-1")
        if answer.say:
            self._writer.write(reply[: len(reply) // 2] if answer.half else reply)
            await self._writer.drain()
        match answer.then:
            case "hang":
                await asyncio.Event().wait()
            case "close":
                raise _Over
            case "reset":
                reset(self._writer)
                raise _Over

    def _greeting(self) -> str:
        words = ["peer.test", *self._peer.extensions]
        if self._peer.tls is not None and not self._protected:
            words.append("STARTTLS")
        if self._peer.login is not None and self._protected:
            words.append("AUTH PLAIN")
        return "\r\n".join(
            f"250{'-' if n < len(words) - 1 else ' '}{word}" for n, word in enumerate(words)
        )

    async def _protect(self) -> None:
        if self._peer.tls is None or self._protected:
            await self._say("starttls", "502 5.5.1 not offered")
            return
        answer = await self._say("starttls", "220 2.0.0 go ahead")
        if not answer.text.startswith(("4", "5")):
            await self._writer.start_tls(self._peer.tls)
            self._protected = True

    async def _login(self, line: str) -> None:
        words = line.split(" ")
        given = words[2] if len(words) > 2 else ""
        if not given:
            await self._say("other", "334 ")
            given = await self._line()
        wanted = b"\0" + "\0".join(self._peer.login or ("", "")).encode()
        self._authenticated = base64.b64decode(given) == wanted
        good = self._authenticated
        await self._say("auth", "235 2.7.0 welcome" if good else "535 5.7.8 bad credentials")

    async def _take_sender(self, line: str) -> None:
        if not self._authenticated:
            await self._say("mail", "530 5.7.0 authentication required")
            return
        answer = await self._say("mail", "250 2.1.0 ok")
        if not answer.text or answer.text.startswith("2"):
            self._mail, self._rcpt = line, []

    async def _take_recipient(self, line: str) -> None:
        address = line.partition("<")[2].partition(">")[0].lower()
        usual = "250 2.1.5 ok"
        if not self._mail:
            usual = "503 5.5.1 MAIL first"
        elif self._peer.known and address not in self._peer.known:
            usual = "550 5.1.1 no such user"
        answer = await self._say("rcpt", usual)
        if (answer.text or usual).startswith("2"):
            self._rcpt.append(line)

    async def _data(self) -> None:
        if not self._rcpt:
            await self._say("data", "554 5.5.1 no valid recipients")
            return
        answer = await self._say("data", "354 go on")
        if answer.text and not answer.text.startswith("354"):
            return
        message = await self._body()
        answer = self._peer.answer_for("dot")
        usual = f"250 2.0.0 queued as {len(self._peer.stored) + 1:04d}"
        store = answer.store
        if (answer.text or usual).startswith("2") if store is None else store:
            tls = self._writer.get_extra_info("cipher")
            mail = Stored(
                mail=self._mail, rcpt=tuple(self._rcpt), message=message, tls=str(tls or "")
            )
            self._peer.keep(mail)
        self._mail, self._rcpt = "", []
        await self._act(answer, usual)

    async def _body(self) -> bytes:
        """Read to the final dot, strictly CRLF.CRLF; undo the doubling of dots."""
        answer = self._peer.answer_for("body")
        lines: list[bytes] = []
        size = 0
        while (line := await self._reader.readuntil(b"\n")) != b".\r\n" or (
            lines and not lines[-1].endswith(b"\r\n")
        ):
            lines.append(line[1:] if line.startswith(b".") else line)
            size += len(line)
            if answer.after_bytes and size >= answer.after_bytes:
                await self._act(answer, "421 4.3.2 shutting down")
                answer = Answer()
        return b"".join(lines)


def reset(writer: asyncio.StreamWriter) -> None:
    """Hang up with RST: what a crash or a firewall does."""
    sock = writer.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
