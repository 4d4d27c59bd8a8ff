"""A TCP proxy on loopback that cuts the line at a chosen place (fault tests F7).

Either it passes bytes through unseen (SFTP, STARTTLS), or it ends TLS itself, so that it can count
the replies of the dialogue behind it::

    with CuttingProxy(peer.port, tls=context) as proxy:
        proxy.cut(Cut(direction="replies", lines=3, how="half"))
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import Coroutine
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from dlx.testing.peers.smtp import reset

_RECEIVE_BUFFER = 32_768


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """Where and how to cut the next connection; used once.

    Attributes:
        direction: ``replies`` (server to client) or ``requests`` (client to server).
        lines: cut at the N-th line (1 is the first) when the direction is line-oriented.
        size: cut after so many bytes of this direction; used when ``lines`` is 0.
        how: ``reset`` and ``close`` before the N-th line passes, ``half`` after half of it,
            ``after`` once it passed whole (RST), ``hang``: it never passes, nor anything after.
    """

    direction: str = "replies"
    lines: int = 0
    size: int = 0
    how: str = "reset"


class CuttingProxy:
    """The proxy; a context manager in a thread of its own.

    Args:
        target: port on 127.0.0.1. tls: context to end TLS with; None passes everything through.

    Attributes:
        port: where clients connect. cuts: how many cuts were made.
    """

    def __init__(self, target: int, *, tls: ssl.SSLContext | None = None) -> None:
        self._target, self._tls = target, tls
        self._cut: Cut | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0
        self.cuts = 0

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
        self._run(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def cut(self, cut: Cut) -> None:
        """Arm: the next connection is cut there, those after it are not."""
        self._cut = cut

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _listen(self) -> None:
        # The kernel of a loopback holds megabytes: with its usual buffers a client has written all
        # of a large mail before the first byte is refused, and no cut is in the middle for it.
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        listener.bind(("127.0.0.1", self.port))
        self._server = await asyncio.start_server(self._accept, sock=listener, ssl=self._tls)
        self.port = listener.getsockname()[1]

    async def _stop(self) -> None:
        if self._server is not None:
            self._server.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("no task")
        self._tasks.add(task)
        cut, self._cut = self._cut, None
        far_writer: asyncio.StreamWriter | None = None
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
            line = _Line(self, cut, writer, far_writer)
            await line.carry(reader, far_reader)
        except (OSError, asyncio.CancelledError):
            writer.transport.abort()
        finally:
            self._tasks.discard(task)
            for end in (writer, far_writer):
                if end is not None:
                    end.close()
                    with contextlib.suppress(OSError, asyncio.CancelledError):
                        await end.wait_closed()
                    end.transport.abort()  # TLS may still be waiting for the other's farewell


class _Line:
    """One connection through the proxy."""

    def __init__(
        self,
        proxy: CuttingProxy,
        cut: Cut | None,
        near: asyncio.StreamWriter,
        far: asyncio.StreamWriter,
    ) -> None:
        self._proxy, self._cut, self._near, self._far = proxy, cut, near, far
        self._seen_lines = self._seen_bytes = 0

    async def carry(self, near: asyncio.StreamReader, far: asyncio.StreamReader) -> None:
        """Copy both ways until one side ends or the cut is made."""
        ways = [
            asyncio.ensure_future(self._copy(near, self._far, "requests")),
            asyncio.ensure_future(self._copy(far, self._near, "replies")),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _copy(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, direction: str
    ) -> None:
        armed = self._cut if self._cut and self._cut.direction == direction else None
        pending = b""
        while data := await source.read(65536):
            if armed is None:
                target.write(data)
            elif armed.lines:
                pending += data
                while b"\n" in pending:
                    line, _, pending = pending.partition(b"\n")
                    await self._line(armed, target, line + b"\n")
            else:
                await self._bytes(armed, target, data)
            await target.drain()

    async def _line(self, cut: Cut, target: asyncio.StreamWriter, line: bytes) -> None:
        self._seen_lines += 1
        if self._seen_lines != cut.lines:
            target.write(line)
            return
        if cut.how in ("half", "after"):
            target.write(line[: len(line) // 2] if cut.how == "half" else line)
            await target.drain()
        await self._end(cut)

    async def _bytes(self, cut: Cut, target: asyncio.StreamWriter, data: bytes) -> None:
        left = cut.size - self._seen_bytes
        self._seen_bytes += len(data)
        target.write(data[: max(left, 0)])
        if len(data) >= left:
            await target.drain()
            await self._end(cut)

    async def _end(self, cut: Cut) -> None:
        self._proxy.cuts += 1
        if cut.how == "hang":
            await asyncio.Event().wait()
        if cut.how in ("close", "half", "after"):
            # FIN after what was written: with RST the client could lose the half it should see.
            self._near.close()
            self._far.close()
        else:
            reset(self._near)
            reset(self._far)
        raise ConnectionResetError
