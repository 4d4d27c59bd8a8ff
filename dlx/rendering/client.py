"""The station's end of the line to its render workers: a small pool, each killed when it hangs.

A worker that dies or exceeds its time on a batch is replaced and the batch is done again one file
at a time, so that only the file which kills it is refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pydantic import ValidationError

from dlx.rendering.wire import (
    ANSWER,
    REQUEST,
    Answer,
    FileToParse,
    Finding,
    Made,
    ParsedFile,
    ReportToRender,
    Request,
    WireError,
    blob_sizes,
    packed,
    sizes,
)

SECONDS_PER_JOB = 10.0
SECONDS_PER_BATCH = 60.0
START_SECONDS = 30.0


class RenderFailure(Exception):
    """The worker died or hung; what it held is lost (the files are still in ``claimed/``).

    ``hung``: it was killed by us, past its time.
    """

    def __init__(self, cause: str, *, hung: bool = False) -> None:
        super().__init__(cause)
        self.hung = hung


class RenderUnavailable(Exception):
    """No worker can be started at all: no file is to blame, everything waits."""


@dataclass(frozen=True, kw_only=True)
class WorkerCommand:
    """How to start a worker: ``argv(fd)`` for a child process, or the socket of a service."""

    argv: Callable[[int], Sequence[str]] | None = None
    service: Path | None = None


@dataclass(kw_only=True)
class _Line:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    process: asyncio.subprocess.Process | None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class RenderPool:
    """Parses and renders on ``size`` workers. Use from one event loop.

    A worker that needs more than ``seconds_per_job`` for a file is killed.
    """

    def __init__(
        self, command: WorkerCommand, size: int = 1, seconds_per_job: float = SECONDS_PER_JOB
    ) -> None:
        self._command = command
        self._seconds = seconds_per_job
        self._size = size
        self._lines: list[_Line | None] = [None] * size
        self._starting = [asyncio.Lock() for _ in range(size)]
        self.killed = 0

    async def parse(
        self, files: Sequence[tuple[FileToParse, bytes]]
    ) -> list[tuple[int, ParsedFile]]:
        """Parse files; each answer comes with the number of the worker that keeps its reports."""
        shares = [files[n :: self._size] for n in range(self._size)]
        answers = await asyncio.gather(
            *(self._parse_on(n, share) for n, share in enumerate(shares) if share)
        )
        result: list[tuple[int, ParsedFile]] = []
        for position in range(len(files)):
            worker = position % self._size
            result.append((worker, answers[worker][position // self._size]))
        return result

    async def _parse_on(
        self, worker: int, share: Sequence[tuple[FileToParse, bytes]], *, last: bool = False
    ) -> list[ParsedFile]:
        jobs = tuple(replace(job, blob=n) for n, (job, _) in enumerate(share))
        blobs = [data for _, data in share]
        try:
            answer, _ = await self._ask(worker, Request(parse=jobs), blobs)
            return list(answer.parsed)
        except RenderFailure as failure:
            alone = len(share) == 1
            if alone and (last or failure.hung):
                return [ParsedFile(refused=DIED)]
        # it may have died before it saw this file (memory of the machine): once more, by itself
        return [
            parsed for one in share for parsed in await self._parse_on(worker, [one], last=alone)
        ]

    async def render(
        self, jobs: Sequence[tuple[int, ReportToRender]]
    ) -> list[list[tuple[Made, bytes]]]:
        """Render reports where they were parsed. Raises RenderFailure: parse them again first."""
        by_worker: dict[int, list[int]] = {}
        for position, (worker, _) in enumerate(jobs):
            by_worker.setdefault(worker, []).append(position)
        result: list[list[tuple[Made, bytes]]] = [[] for _ in jobs]

        async def one(worker: int, positions: list[int]) -> None:
            request = Request(render=tuple(jobs[p][1] for p in positions))
            answer, blobs = await self._ask(worker, request, [])
            for position, made in zip(positions, answer.made, strict=True):
                result[position] = [(m, blobs[m.blob] if m.blob >= 0 else b"") for m in made]

        await asyncio.gather(*(one(w, positions) for w, positions in by_worker.items()))
        return result

    async def drop(self, tokens: Sequence[tuple[int, int]]) -> None:
        """Forget reports nobody will render: (worker, token)."""
        for worker in {worker for worker, _ in tokens}:
            mine = tuple(token for w, token in tokens if w == worker)
            with contextlib.suppress(RenderFailure):
                await self._ask(worker, Request(drop=mine), [])

    async def start(self) -> None:
        """Start every worker now, so that the first report does not wait."""
        await asyncio.gather(*(self._line(n) for n in range(self._size)))

    async def close(self) -> None:
        """End the workers."""
        for number in range(self._size):
            await self._kill(number)

    async def _ask(
        self, number: int, request: Request, blobs: Sequence[bytes]
    ) -> tuple[Answer, list[bytes]]:
        line = await self._line(number)
        jobs = len(request.parse) + len(request.render)
        limit = min(self._seconds * max(jobs, 1), max(SECONDS_PER_BATCH, self._seconds))
        try:
            async with line.lock, asyncio.timeout(limit):
                line.writer.writelines(packed(REQUEST.dump_json(request), blobs))
                await line.writer.drain()
                text, out = await _message(line.reader)
            answer = ANSWER.validate_json(text)
        except (OSError, EOFError, TimeoutError, WireError, ValidationError) as error:
            self.killed += 1
            await self._kill(number, line)
            hung = isinstance(error, TimeoutError)
            raise RenderFailure(type(error).__name__, hung=hung) from error
        if len(answer.parsed) != len(request.parse) or len(answer.made) != len(request.render):
            await self._kill(number, line)
            raise RenderFailure("réponse incomplète")
        return answer, out

    async def _line(self, number: int) -> _Line:
        async with self._starting[number]:
            line = self._lines[number]
            if line is None:
                line = await self._connect()
                await _greet(line)
                self._lines[number] = line
            return line

    async def _connect(self) -> _Line:
        if self._command.service is not None:
            try:
                reader, writer = await asyncio.open_unix_connection(self._command.service)
            except OSError as error:
                raise RenderUnavailable("dlx-render.service ne répond pas") from error
            return _Line(reader=reader, writer=writer, process=None)
        if self._command.argv is None:
            raise RenderUnavailable("aucun moteur de rendu configuré")
        ours, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *self._command.argv(theirs.fileno()),
                pass_fds=(theirs.fileno(),),
                stdin=asyncio.subprocess.DEVNULL,
                env={"PATH": os.defpath, "LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"},
            )
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        return _Line(reader=reader, writer=writer, process=process)

    async def _kill(self, number: int, only: _Line | None = None) -> None:
        line = self._lines[number]
        if line is None or (only is not None and line is not only):
            return
        self._lines[number] = None
        line.writer.close()
        if line.process is not None:
            with contextlib.suppress(ProcessLookupError):
                line.process.kill()
            await line.process.wait()


DIED = Finding(
    code="renderer_died",
    message="ce fichier a fait tomber le moteur de lecture, ou dépassé son temps ou sa mémoire",
)


async def _greet(line: _Line) -> None:
    """A new worker answers an empty request before it gets work: it can start at all."""
    try:
        async with asyncio.timeout(START_SECONDS):
            line.writer.writelines(packed(REQUEST.dump_json(Request()), []))
            await _message(line.reader)
    except (OSError, EOFError, TimeoutError, WireError) as error:
        line.writer.close()
        if line.process is not None:
            with contextlib.suppress(ProcessLookupError):
                line.process.kill()
            await line.process.wait()
        raise RenderUnavailable(
            f"un moteur de rendu ne démarre pas ({type(error).__name__})"
        ) from error


async def _message(reader: asyncio.StreamReader) -> tuple[bytes, list[bytes]]:
    text_size, count = sizes(await reader.readexactly(8))
    lengths = blob_sizes(await reader.readexactly(struct.calcsize(f">{count}I")))
    text = await reader.readexactly(text_size)
    return text, [await reader.readexactly(length) for length in lengths]
