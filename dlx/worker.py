"""The render worker: hostile bytes in, facts and renditions out; no network, no keys, no files.

One process, one line to the station, one request at a time. It limits itself before it reads a
byte: address space, no file writing, no core dump; systemd or bubblewrap take the rest away.
"""

from __future__ import annotations

import gc
import os
import resource
import signal
import socket
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from dlx.contracts import Format
from dlx.errors import DlxError, ParseError, RenderError
from dlx.facts import facts_of
from dlx.rendering import content_key_of, parse_file, renditions_for
from dlx.rendering.wire import (
    ANSWER,
    REQUEST,
    Answer,
    FileToParse,
    Finding,
    Made,
    ParsedFile,
    ParsedReport,
    ReportToRender,
    blob_sizes,
    packed,
    sizes,
)
from dlx.report import Report

MEMORY_BYTES = 768 << 20
REPORTS_KEPT = 20_000
BATCH_SECONDS = 90


def limit_self(memory_bytes: int = MEMORY_BYTES) -> None:
    """Give up what a renderer never needs: more memory, writing files, core dumps, children."""
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


class Worker:
    """Parses and renders; keeps parsed reports between the two by token."""

    def __init__(self, formats: Mapping[str, Format]) -> None:
        self._formats = formats
        self._reports: dict[int, Report] = {}
        self._next = 0

    def answer(self, text: bytes, blobs: Sequence[bytes]) -> tuple[bytes, list[bytes]]:
        """Answer one request. A bug in a format refuses its file and harms no other."""
        request = REQUEST.validate_json(text)
        for token in request.drop:
            self._reports.pop(token, None)
        parsed = tuple(self._parse(job, blobs[job.blob]) for job in request.parse)
        out: list[bytes] = []
        made = tuple(self._render(job, out) for job in request.render)
        return ANSWER.dump_json(Answer(parsed=parsed, made=made)), out

    def _parse(self, job: FileToParse, data: bytes) -> ParsedFile:
        try:
            parsed = parse_file(data, self._formats, only=job.only, reading=job.reading)
        except ParseError as error:
            return ParsedFile(refused=_finding(error))
        except MemoryError:
            return ParsedFile(refused=Finding(code="memory", message="trop de mémoire demandée"))
        except Exception as error:
            return ParsedFile(refused=_bug(error))
        if len(self._reports) > REPORTS_KEPT:
            self._reports.clear()
        codes = tuple(dict.fromkeys(d.code for d in parsed.diagnostics))
        alone = len(parsed.reports) == 1
        return ParsedFile(
            reports=tuple(self._keep(r, data, alone, codes) for r in parsed.reports),
            diagnostics=tuple(
                Finding(code=d.code, message=d.message, line=d.line, column=d.column)
                for d in parsed.diagnostics
            ),
            refused_parts=tuple(_finding(part.error) for part in parsed.refused),
            several_expected=parsed.several_expected,
        )

    def _keep(
        self, report: Report, data: bytes, alone: bool, codes: tuple[str, ...]
    ) -> ParsedReport:
        self._next += 1
        self._reports[self._next] = report
        key = content_key_of(report, data, alone=alone)
        facts = facts_of(report, content_key=key, diagnostics=codes)
        return ParsedReport(token=self._next, facts=facts)

    def _render(self, job: ReportToRender, out: list[bytes]) -> tuple[Made, ...]:
        report = self._reports.pop(job.token, None)
        if report is None:
            lost = Finding(code="forgotten", message="compte rendu oublié par le moteur de rendu")
            return tuple(Made(format=w.format, refused=lost) for w in job.wishes)
        version = _as_version(report, job)
        made = []
        for wish in job.wishes:
            try:
                (done,) = renditions_for(
                    version, wish.to, [(wish.format, wish.options)], self._formats
                )
            except RenderError as error:
                refused = Finding(code=error.code, message=error.message)
                made.append(Made(format=wish.format, refused=refused))
                continue
            except Exception as error:
                made.append(Made(format=wish.format, refused=_bug(error)))
                continue
            made.append(
                Made(
                    format=done.format,
                    blob=len(out),
                    suffix=done.suffix,
                    media_type=done.media_type,
                    losses=done.losses,
                )
            )
            out.append(done.content)
        return tuple(made)


def _as_version(report: Report, job: ReportToRender) -> Report:
    return replace(report, version=job.version, replaces=job.replaces)


def _finding(error: ParseError) -> Finding:
    return Finding(
        code=error.code,
        message=error.message,
        line=error.line,
        column=error.column,
        offset=error.offset,
    )


def _bug(error: Exception) -> Finding:
    """A defect of ours: type and place only, an exception's text may quote the report."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = ""
    if trace is not None:
        name = trace.tb_frame.f_code.co_filename.rpartition("/")[2]
        where = f" ({name}:{trace.tb_lineno})"
    kind = "DlxError" if isinstance(error, DlxError) else type(error).__name__
    return Finding(code="internal", message=f"défaut interne du lecteur : {kind}{where}")


def serve(line: socket.socket, formats: Mapping[str, Format]) -> None:
    """Answer requests until the station closes the line."""
    worker = Worker(formats)
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)  # a batch of parsed reports is no garbage
    reader = line.makefile("rb", buffering=1 << 16)
    while head := reader.read(8):
        text_size, count = sizes(head)
        lengths = blob_sizes(reader.read(4 * count))
        text = reader.read(text_size)
        blobs = [reader.read(length) for length in lengths]
        signal.alarm(BATCH_SECONDS)  # one that hangs dies by itself, whoever started it
        answer, out = worker.answer(text, blobs)
        signal.alarm(0)
        line.sendall(b"".join(packed(answer, out)))


def serve_all(path: Path, formats: Mapping[str, Format]) -> None:
    """Listen on ``path`` (dlx-render.service) and serve each line in a process of its own.

    The children inherit the imported formats and limit themselves, so one that dies on a hostile
    file takes nothing else with it.
    """
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        path.chmod(0o660)
        listener.listen(16)
        gc.freeze()
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel buries the children
        while True:
            line, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                limit_self()
                serve(line, formats)
                os._exit(0)
            line.close()
