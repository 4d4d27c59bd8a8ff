"""The line to the render workers: its messages, the worker's answers, the pool that kills."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlx import registry
from dlx.errors import ParseError
from dlx.rendering import (
    FileToParse,
    RenderFailure,
    RenderPool,
    RenderUnavailable,
    ReportToRender,
    Wish,
    WorkerCommand,
    content_key_of,
    parse_file,
)
from dlx.rendering.wire import ANSWER, REQUEST, Request, WireError, blob_sizes, packed, sizes
from dlx.report import Person
from dlx.testing.reports import report_for
from dlx.worker import Worker

FORMATS = registry.formats()


def oru(seed: int = 1, number: str | None = None) -> bytes:
    written = FORMATS["oru"]
    assert written.render is not None
    report = report_for(seed=seed, results=3, number=number)
    return written.render(report, Person(), written.options).content


# --- wire ----------------------------------------------------------------------------------------


@given(st.binary(max_size=50), st.lists(st.binary(max_size=50), max_size=5))
def test_message_comes_back_as_it_was_packed(text: bytes, blobs: list[bytes]) -> None:
    data = b"".join(packed(text, blobs))
    size, count = sizes(data[:8])
    lengths = blob_sizes(data[8 : 8 + 4 * count])
    rest = data[8 + 4 * count :]
    assert rest[:size] == text
    assert [len(b) for b in blobs] == list(lengths)
    assert rest[size:] == b"".join(blobs)


def test_sizes_no_honest_worker_would_send_are_refused() -> None:
    with pytest.raises(WireError):
        sizes(b"\xff" * 8)
    with pytest.raises(WireError):
        blob_sizes(b"\xff" * 8)


# --- worker --------------------------------------------------------------------------------------


def ask(
    worker: Worker, request: Request, blobs: Sequence[bytes] = ()
) -> tuple[object, list[bytes]]:
    answer, out = worker.answer(REQUEST.dump_json(request), list(blobs))
    return ANSWER.validate_json(answer), out


@given(st.binary(max_size=300))
@settings(max_examples=100)
def test_any_bytes_get_an_answer_without_their_content(data: bytes) -> None:
    answer, _ = ask(Worker(FORMATS), Request(parse=(FileToParse(blob=0),)), [data])
    (parsed,) = answer.parsed  # type: ignore[attr-defined]
    assert parsed.refused is not None or parsed.reports


def test_report_is_rendered_once_then_forgotten() -> None:
    worker = Worker(FORMATS)
    answer, _ = ask(worker, Request(parse=(FileToParse(blob=0),)), [oru()])
    token = answer.parsed[0].reports[0].token  # type: ignore[attr-defined]
    job = ReportToRender(token=token, version=2, replaces=1, wishes=(Wish(format="text"),))
    answer, out = ask(worker, Request(render=(job,)))
    assert answer.made[0][0].refused is None and out  # type: ignore[attr-defined]
    answer, out = ask(worker, Request(render=(job,)))
    assert answer.made[0][0].refused.code == "forgotten" and not out  # type: ignore[attr-defined]


def test_diagnostics_go_with_the_facts_of_each_report() -> None:
    content = oru().decode().encode("iso-8859-1", "replace")
    answer, _ = ask(Worker(FORMATS), Request(parse=(FileToParse(blob=0),)), [content])
    (parsed,) = answer.parsed  # type: ignore[attr-defined]
    assert "HL7-W01" in {d.code for d in parsed.diagnostics}
    assert "HL7-W01" in parsed.reports[0].facts.diagnostics


# --- rules ---------------------------------------------------------------------------------------


def test_pickup_limited_to_a_format_refuses_the_others() -> None:
    with pytest.raises(ParseError) as caught:
        parse_file(oru(), FORMATS, only=("hprim",), reading={})
    assert caught.value.code == "unexpected_format"


def test_content_key_ignores_the_envelope_and_the_line_ends() -> None:
    first = oru()
    (report,) = parse_file(first, FORMATS, reading={}).reports
    head, _, rest = first.partition(b"\r")
    others = [head + b"|x\r" + rest, first.replace(b"\r", b"\r\n"), first.replace(b"\r", b"\n")]
    key = content_key_of(report, first, alone=True)
    assert {content_key_of(report, other, alone=True) for other in others} == {key}
    assert content_key_of(report, first.replace(b"|3", b"|4", 1), alone=True) != key
    assert content_key_of(report, first + b"NTE|9||x\r", alone=True) != key


# --- pool ----------------------------------------------------------------------------------------

# A worker that obeys its file: « DIE » ends it, « HANG » stops it; « ONCE:path » ends it the first
# time only. Everything else is answered by the real one.
SCRIPT = """
import os, socket, sys, time
from pathlib import Path
from dlx import registry, worker
class Scripted(worker.Worker):
    def _parse(self, job, data):
        if data == b"DIE":
            os._exit(9)
        if data == b"HANG":
            time.sleep(60)
        if data.startswith(b"ONCE:") and not Path(data[5:].decode()).exists():
            Path(data[5:].decode()).touch()
            os._exit(9)
        return super()._parse(job, data)
    def _render(self, job, out):
        if any(w.options.get("x") == "die" for w in job.wishes):
            os._exit(9)
        return super()._render(job, out)
worker.Worker = Scripted
with socket.socket(fileno=int(sys.argv[1])) as line:
    worker.serve(line, registry.formats())
"""


def pool(size: int = 1, seconds: float = 5.0) -> RenderPool:
    def argv(descriptor: int) -> list[str]:
        return [sys.executable, "-c", SCRIPT, str(descriptor)]

    return RenderPool(WorkerCommand(argv=argv), size, seconds)


def codes(contents: Sequence[bytes], made: RenderPool) -> list[str]:
    async def scenario() -> list[str]:
        try:
            answers = await made.parse([(FileToParse(blob=0), c) for c in contents])
        finally:
            await made.close()
        return [p.refused.code if p.refused else "ok" for _, p in answers]

    return asyncio.run(scenario())


def test_file_that_kills_the_worker_is_the_only_one_refused() -> None:
    contents = [oru(1), b"DIE", oru(2), b"rien", oru(3)]
    assert codes(contents, pool()) == ["ok", "renderer_died", "ok", "unknown_format", "ok"]


def test_file_whose_worker_died_of_something_else_is_read_by_the_next(tmp_path: object) -> None:
    content = b"ONCE:" + str(tmp_path).encode() + b"/mort"
    assert codes([content], pool()) == ["unknown_format"], "read, and judged by what it is"


def test_file_that_makes_the_worker_hang_is_refused_after_its_time() -> None:
    assert codes([b"HANG", oru(1)], pool(seconds=0.7)) == ["renderer_died", "ok"]


def test_answers_come_in_the_order_of_the_files_over_several_workers() -> None:
    contents = [oru(1), b"a", oru(2), b"b", oru(3)]
    assert codes(contents, pool(2)) == ["ok", "unknown_format", "ok", "unknown_format", "ok"]


def test_death_while_rendering_is_told_to_the_caller() -> None:
    async def scenario() -> None:
        made = pool()
        try:
            ((number, parsed),) = await made.parse([(FileToParse(blob=0), oru())])
            wish = Wish(format="text", options={"x": "die"})
            job = ReportToRender(token=parsed.reports[0].token, version=1, wishes=(wish,))
            with pytest.raises(RenderFailure):
                await made.render([(number, job)])
            assert made.killed == 1
        finally:
            await made.close()

    asyncio.run(scenario())


def test_worker_that_cannot_start_blames_no_file() -> None:
    async def scenario() -> None:
        broken = RenderPool(
            WorkerCommand(argv=lambda fd: [sys.executable, "-c", "raise SystemExit"])
        )
        with pytest.raises(RenderUnavailable):
            await broken.parse([(FileToParse(blob=0), oru())])
        await broken.close()

    asyncio.run(scenario())
