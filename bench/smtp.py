"""Stage ``smtp.client_cpu`` against ``aiosmtplib.SMTP.sendmail``, both to a bare sink elsewhere.

The sink is a small asyncio protocol in another process that only looks for the final dot: a real
server would be what is measured. Both clients speak TLS over one kept connection.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import platform
import ssl
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from multiprocessing.connection import Connection
from pathlib import Path

import aiosmtplib

from connectors._smtp import Envelope, Server, Session
from dlx.testing.peers.smtp import server_context
from dlx.testing.pki import TestPki

GATE, GOAL = 4.0, 8.0
SIZE = 120_000
_EHLO = b"250-sink\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE 99999999\r\n"


class Sink(asyncio.Protocol):
    """Answers by the book and forgets."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._out, self._in_body, self._tail, self._line = transport, False, b"", b""
        transport.write(b"220 sink\r\n")

    def data_received(self, data: bytes) -> None:
        if self._in_body:
            self._tail = (self._tail + data)[-5:]
            if self._tail == b"\r\n.\r\n":
                self._in_body, self._tail = False, b""
                self._out.write(b"250 2.0.0 ok\r\n")
            return
        *lines, self._line = (self._line + data).split(b"\r\n")
        for line in lines:
            verb = line[:4].upper()
            self._in_body = verb == b"DATA"
            reply = {b"EHLO": _EHLO, b"DATA": b"354 go\r\n", b"QUIT": b"221 bye\r\n"}
            self._out.write(reply.get(verb, b"250 2.0.0 ok\r\n"))


def _serve(pem: Path, out: Connection) -> None:
    async def forever() -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Sink, "127.0.0.1", 0, ssl=context)
        out.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(forever())


async def _ours(port: int, tls: ssl.SSLContext, message: bytes, count: int) -> list[float]:
    server = Server(host="localhost", port=port, implicit_tls=True, tls=tls, helo="labo.test")
    session = await Session.open(server)
    envelope = Envelope(sender="a@labo.test", recipient="b@clinic.test", message=message)

    async def one() -> None:
        assert (await session.send(envelope, _agree)).code == 250

    try:
        return await _timed(one, count)
    finally:
        await session.quit()


async def _agree() -> None:
    """No ledger here: only the wire is measured."""


async def _sendmail(port: int, tls: ssl.SSLContext, message: bytes, count: int) -> list[float]:
    client = aiosmtplib.SMTP(hostname="localhost", port=port, use_tls=True, tls_context=tls)
    await client.connect()

    async def one() -> None:
        assert not (await client.sendmail("a@labo.test", ["b@clinic.test"], message))[0]

    try:
        return await _timed(one, count)
    finally:
        await client.quit()


async def _timed(one: Callable[[], Awaitable[None]], count: int) -> list[float]:
    times = []
    for _ in range(count):
        start = time.process_time()
        await one()
        times.append((time.process_time() - start) * 1000)
    return times


def run(quick: bool) -> list[dict[str, object]]:
    """Rows of performance.md §5."""
    rounds, count = (3, 40) if quick else (6, 200)
    line = b"A" * 76 + b"\r\n"
    message = b"Subject: x\r\n\r\n" + line * (SIZE // len(line))
    stage: list[float] = []
    reference: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        pki = TestPki(Path(folder))
        near, far = multiprocessing.get_context("spawn").Pipe()
        server = pki.server()
        server_context(server)  # fails here rather than in the child
        child = multiprocessing.get_context("spawn").Process(
            target=_serve, args=(server.pem, far), daemon=True
        )
        child.start()
        try:
            port = near.recv()
            tls = ssl.create_default_context(cafile=pki.root_pem)
            for _ in range(rounds):
                reference += asyncio.run(_sendmail(port, tls, message, count))
                stage += asyncio.run(_ours(port, tls, message, count))
        finally:
            child.terminate()
            child.join()
    return [_row(stage, reference, rounds)]


def _row(stage: list[float], reference: list[float], rounds: int) -> dict[str, object]:
    ratio = min(reference) / min(stage)
    return {
        "stage": "smtp.client_cpu",
        "n": len(stage),
        "rounds": rounds,
        "min_ms": round(min(stage), 3),
        "median_ms": round(statistics.median(stage), 3),
        "p99_ms": round(sorted(stage)[int(len(stage) * 0.99)], 3),
        "cpu_ms": round(min(stage), 3),
        "ref": "aiosmtplib.SMTP.sendmail",
        "ref_ms": round(min(reference), 3),
        "ratio": round(ratio, 1),
        "gate": GATE,
        "goal": GOAL,
        "pass": ratio >= GATE,
        "env": {
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "libs": {"aiosmtplib": version("aiosmtplib")},
        },
    }
