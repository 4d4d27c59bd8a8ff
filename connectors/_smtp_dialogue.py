"""The wire of one SMTP session: bytes in, whole replies out, in order (RFC 5321 section 4.2)."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import deque

from connectors._smtp_errors import Reply

# A reply may have many lines (EHLO), never this many bytes.
_MAX_REPLY_BYTES = 32_768
_REPLY_LINE = re.compile(rb"([2-5]\d\d)([ -]?)(.*)", re.DOTALL)


class LinkBroken(Exception):
    """The connection ended, fell silent or spoke nonsense. ``silent``: it timed out."""

    def __init__(self, message: str, *, silent: bool = False) -> None:
        super().__init__(message)
        self.silent = silent


class Dialogue(asyncio.Protocol):
    """Replies in order of arrival; several may be awaited at once (PIPELINING, RFC 2920)."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._buffer = bytearray()
        self._replies: deque[Reply] = deque()
        self._lines: list[bytes] = []
        self._code = 0
        self._arrival: asyncio.Future[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._gone = asyncio.Event()
        self.broken: LinkBroken | None = None

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        try:
            while (end := self._buffer.find(b"\n")) >= 0:
                self._line(bytes(self._buffer[:end]).rstrip(b"\r"))
                del self._buffer[: end + 1]
            if len(self._buffer) + sum(map(len, self._lines)) > _MAX_REPLY_BYTES:
                raise LinkBroken("réponse trop longue")
        except LinkBroken as error:
            self._break(error)
            self._transport.abort()
        self._wake()

    def _line(self, line: bytes) -> None:
        found = _REPLY_LINE.fullmatch(line)
        if found is None or (self._lines and int(found[1]) != self._code):
            raise LinkBroken("réponse SMTP illisible")
        self._code = int(found[1])
        self._lines.append(found[3])
        if found[2] != b"-":
            self._replies.append(Reply.read(self._code, self._lines))
            self._lines = []

    def eof_received(self) -> bool:
        self._break(LinkBroken("connexion fermée par le serveur"))
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._break(LinkBroken("connexion coupée"))
        self._gone.set()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def _break(self, error: LinkBroken) -> None:
        self.broken = self.broken or error
        self._writable.set()
        self._wake()

    def _wake(self) -> None:
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)

    @property
    def unsolicited(self) -> bool:
        """True when something was said that nobody asked for (a 421 on an idle connection)."""
        return bool(self._replies or self._lines or self._buffer)

    def write(self, data: bytes | memoryview) -> None:
        if self.broken is not None:
            raise self.broken
        self._transport.write(data)

    async def drained(self, seconds: float) -> None:
        """Wait until the transport takes more, or the link breaks."""
        await asyncio.sleep(0)  # the loop must get a chance to see that the line was cut
        try:
            async with asyncio.timeout(seconds):
                await self._writable.wait()
        except TimeoutError as error:
            raise LinkBroken("le serveur ne lit plus", silent=True) from error
        if self.broken is not None:
            raise self.broken

    async def reply(self, seconds: float) -> Reply:
        """Take the next whole reply. Raises LinkBroken; one that came before a cut still counts."""
        try:
            async with asyncio.timeout(seconds):
                while not self._replies:
                    if self.broken is not None:
                        raise self.broken
                    self._arrival = asyncio.get_running_loop().create_future()
                    await self._arrival
        except TimeoutError as error:
            raise LinkBroken("pas de réponse du serveur", silent=True) from error
        finally:
            self._arrival = None
        return self._replies.popleft()

    async def gone(self, seconds: float) -> None:
        """Wait until the transport is closed (TLS says goodbye too), but not for long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._gone.wait()

    def early_reply(self) -> Reply | None:
        """A reply that came before the mail was whole: the server gave up."""
        return self._replies[0] if self._replies else None
