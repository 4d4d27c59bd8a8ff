"""The command line without a station: words, options, exit codes, what reaches the terminal."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from contextlib import redirect_stdout
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dlx.cli import COMMANDS, explained, hoisted
from dlx.cli.output import Output, ago, span
from dlx.control import ConfigRefused, StationBusy, StationDown
from dlx.daemon.asking import moment_of
from dlx.errors import NotFound, Refused, StoreError

NOW = datetime(2026, 3, 9, 8, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("status --json", "--json status"),
        ("queue list --root /x --plain", "--root /x --plain queue list"),
        ("queue list --root=/x", "--root=/x queue list"),
        ("queue hold -- --json", "queue hold -- --json"),
        ("-y resend R1 --to x", "-y resend R1 --to x"),
        ("status --root", "--root  status"),
    ],
)
def test_global_options_may_stand_anywhere(given: str, wanted: str) -> None:
    assert hoisted(given.split()) == wanted.split(" ")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (StationDown("/x"), 5),
        (StationBusy(), 75),
        (NotFound("x"), 4),
        (Refused("x"), 7),
        (ConfigRefused("x", ["a:1:1"]), 78),
        (StoreError("x"), 1),
        (ZeroDivisionError(), None),
    ],
)
def test_exit_codes_are_those_of_the_manual(error: Exception, code: int | None) -> None:
    assert explained(error)[0] == code


def printed(work: object, **options: object) -> str:
    stream = io.StringIO()
    with redirect_stdout(stream):
        work(Output(root=Path("/"), **options))  # type: ignore[operator,arg-type]
    return stream.getvalue()


HOSTILE = "a\x1b]0;t\x07b\x1b[2Jc\x9bd\x7fe\u202ef\rg"


def test_foreign_text_cannot_drive_the_terminal() -> None:
    def work(out: Output) -> None:
        out.line(HOSTILE)
        out.table(["x"], [[HOSTILE]], {0: HOSTILE})

    seen = printed(work, color="never")
    assert not set(seen) & set("\x1b\x07\x9b\x7f\u202e\r")
    assert "\\x1b]0;t" in seen


def test_our_own_colours_pass_where_they_are_wanted() -> None:
    assert "\x1b[31m" in printed(lambda out: out.line(out.paint("x", "red")), color="always")
    assert "\x1b" not in printed(lambda out: out.line(out.paint("x", "red")), color="never")


def test_plain_table_is_one_record_a_line() -> None:
    seen = printed(lambda out: out.table(["a", "b"], [["1\t2", None], ["é\n", 3]]), plain=True)
    assert [line.split("\t") for line in seen.splitlines()] == [["1\\x092", ""], ["é\\x0a", "3"]]


def test_json_is_one_object_a_line() -> None:
    seen = printed(lambda out: out.records([{"a": "é\n"}, {"b": 1}]))
    assert [json.loads(line) for line in seen.splitlines()] == [{"a": "é\n"}, {"b": 1}]


def test_durations_are_told_in_their_largest_unit() -> None:
    assert [span(s) for s in (0, 59, 60, 7199, 90000)] == ["0 s", "59 s", "1 min", "1 h", "1 j"]
    assert ago(None) == "" and ago((NOW - timedelta(hours=3)).isoformat(), now=NOW) == "3 h"


@pytest.mark.parametrize(
    ("text", "when"),
    [
        ("2h", NOW - timedelta(hours=2)),
        ("30d", NOW - timedelta(days=30)),
        ("90s", NOW - timedelta(seconds=90)),
        ("2026-03-01", datetime(2026, 3, 1, tzinfo=UTC)),
        ("hier", datetime(2026, 3, 8, tzinfo=UTC)),
        ("yesterday", datetime(2026, 3, 8, tzinfo=UTC)),
    ],
)
def test_times_as_operators_write_them(text: str, when: datetime) -> None:
    assert moment_of(text, NOW) == when


@pytest.mark.parametrize("text", ["", "h", "demain", "2026-13-01", "-2h", "99999999999d"])
def test_times_that_are_none_are_refused_with_an_example(text: str) -> None:
    with pytest.raises(Refused, match="2026-03-09"):
        moment_of(text, NOW)


def test_every_command_exists_and_has_its_french_help() -> None:
    import importlib

    import click

    for place in COMMANDS.values():
        module, _, name = place.partition(":")
        command = getattr(importlib.import_module(module), name)
        assert isinstance(command, click.Command) and command.help


def test_station_refuses_a_bad_configuration_with_every_mistake_and_its_place(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "etc" / "dlx"
    folder.mkdir(parents=True)
    text = "laboratory: {name: X}\npickup:\n  - {name: a, directory: in, redy_when: rename}\nx: 1\n"
    (folder / "dlx.yaml").write_text(text)
    ran = subprocess.run(
        [sys.executable, "-m", "dlx", "--root", str(tmp_path), "run"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 78
    assert "dlx.yaml:3:30: error[C012]" in ran.stderr and "ready_when" in ran.stderr
    assert "dlx.yaml:4:1: error[C012]" in ran.stderr
    assert "Traceback" not in ran.stderr
