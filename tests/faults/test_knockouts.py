"""Knock-outs: each safeguard is taken out of a copy, and a fault test must turn red.

A kill cannot show a missing fsync (the page cache survives it), so the order of the system calls
of a real station is judged instead: what is durable before what.
The fence and the other guards of the ledger are knocked out in ``test_f8_state_machine.py``.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from dlx import registry
from dlx.report import Person
from dlx.testing.reports import report_for
from dlx.testing.station import RunningStation

pytestmark = [pytest.mark.faults, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
FILES = 50
FSYNCS_PER_REPORT = 1.5
A_KILL = "test_f1_failpoints.py::test_a_kill_here_loses_nothing_and_repeats_nothing"
A_LOOP = "test_f1_failpoints.py::test_a_crash_loop_behind_the_final_dot"

KNOCK_OUTS = {
    "the notice of a failure": (
        "dlx/ledger/moves.py",
        "    open_for_delivery(tx, row, notice or notice_of(row, failure, kind), now)\n",
        "",
        f"{A_KILL}[outcome.after_commit]",
        r"P3: delivery:D\w+ has 0 notices failed, not one",
    ),
    "the intent": (
        "dlx/dispatching/__init__.py",
        "            lambda tx: store.commit_intent(tx, delivery.id, delivery.generation, now)\n",
        "            lambda tx: None\n",
        f"{A_KILL}[smtp.dot_written]",
        r"P4: D\w+ left 2 times, the ledger says 1",
    ),
    "the bound of doubt": (
        "dlx/ledger/words.py",
        "return self.finds_repeats or doubts <= self.max_doubt",
        "return True",
        f"{A_LOOP}_sends_nothing_more_than_twice",
        r"P5: the same report left once more",
    ),
    "finishing only after the ledger's commit": (
        "dlx/intake/__init__.py",
        "        registrations, names = await self._keep(kept, made, now)\n",
        "        registrations, names = await self._keep(kept, made, now)\n"
        "        spool.finish(one.content.file for one in kept)\n",
        f"{A_KILL}[register.before_commit]",
        r"P1: w0-\S+: ledger \[\], reject 0",
    ),
}


def copy_without(folder: Path, file: str, safeguard: str, replacement: str) -> Path:
    """A copy of the packages and of these tests in which the safeguard is gone."""
    for package in ("dlx", "connectors", "formats", "tests/faults"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, folder / package, ignore=ignored)
    mutated = folder / file
    source = mutated.read_text(encoding="utf-8")
    assert source.count(safeguard) == 1, "the safeguard was renamed: follow it here"
    mutated.write_text(source.replace(safeguard, replacement), encoding="utf-8")
    return folder


@pytest.mark.parametrize("name", KNOCK_OUTS)
def test_a_fault_test_turns_red_without(name: str, tmp_path: Path) -> None:
    file, safeguard, replacement, test, words = KNOCK_OUTS[name]
    copy = copy_without(tmp_path / "copie", file, safeguard, replacement)
    with tempfile.TemporaryDirectory(prefix="ko-") as short:  # a socket's path has 108 bytes
        run = red(copy, test, short)
    assert run.returncode == 1, run.stdout[-3000:]
    assert re.search(words, run.stdout), run.stdout[-3000:]


def red(copy: Path, test: str, folder: str) -> subprocess.CompletedProcess[str]:
    """Run one test of the copy, on the copy."""
    return subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", "."),
            *("--basetemp", f"{folder}/t", f"tests/faults/{test}"),
        ],
        cwd=copy,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(copy)},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


# --- the order of the system calls ----------------------------------------------------------------

CONFIGURATION = {
    "dlx.yaml": """\
laboratory: {name: Laboratoire TEST, finess: 999999999}
pickup:
  - {name: sil, directory: var/spool/dlx/in, ready_when: rename}
defaults: {formats: [hprim]}
limits: {workers: 1, batch: 50}
""",
    "channels.d/a.yaml": """\
channels:
  dossier: {type: folder, directory: var/spool/dlx/out}
""",
    "profiles.d/a.yaml": """\
profiles:
  - id: dr-lefevre
    name: {family: LEFEVRE-TEST, given: Anne}
    lis_codes: LEFA
    deliver: [{via: dossier}]
""",
}
CALLS = "trace=fsync,fdatasync,rename,renameat,renameat2,unlink,unlinkat"
STARTED = re.compile(r"(?P<pid>\d+) +(?P<call>[a-z0-9]+)\((?P<rest>.*)")
RESUMED = re.compile(r"(?P<pid>\d+) +<\.\.\. (?P<call>[a-z0-9]+) resumed>")


@dataclass(frozen=True, kw_only=True)
class Call:
    """One system call that succeeded; an fsync counts from its end, all others from their start."""

    sort: str
    path: str
    target: str = ""


def calls_of(trace: str) -> list[Call]:
    found: list[Call] = []
    running: dict[str, Call] = {}
    for line in trace.splitlines():
        if (resumed := RESUMED.match(line)) is not None:
            if (call := running.pop(resumed["pid"], None)) is not None and line.endswith("= 0"):
                found.append(call)
            continue
        started = STARTED.match(line)
        if started is None:
            continue
        names = re.findall(r'"([^"]*)"', started["rest"])
        if started["call"] in ("fsync", "fdatasync"):
            call = Call(sort="sync", path=re.findall(r"<([^>]*)>", started["rest"])[0])
            if line.endswith("<unfinished ...>"):
                running[started["pid"]] = call
            elif line.endswith("= 0"):
                found.append(call)
        elif started["call"].startswith("rename"):
            found.append(Call(sort="rename", path=names[0], target=names[1]))
        else:
            found.append(Call(sort="unlink", path=names[0]))
    return found


def traced(root: Path, code: Path = ROOT) -> list[Call]:
    """What a station of ``code`` does to disks for FILES reports, from the first claim on."""
    station = RunningStation(root, CONFIGURATION)
    (station.spool / "out").mkdir(parents=True)
    oru = registry.formats()["oru"]
    assert oru.render is not None
    with station:
        pass  # makes the store, the keys and the rooms
    for seed in range(1, FILES + 1):
        report = report_for("LEFA", seed=seed, results=3)
        station.drop(f"{seed:03d}.hl7", oru.render(report, Person(), oru.options).content)
    trace = root / "trace"
    strace = ["strace", "-f", "-qq", "-y", "-e", CALLS, "-e", "signal=none", "-o", str(trace)]
    with (root / "station.log").open("ab") as log:
        station.process = subprocess.Popen(
            [*strace, sys.executable, "-m", "dlx", "--root", str(root), "run"],
            cwd=code,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(code)},
            stdout=log,
            stderr=log,
        )
    try:
        station.wait_for(lambda: len(list((station.spool / "out").glob("*.hpr"))) == FILES, 60)
        station.wait_quiet()
        station.ask("stop")
        assert station.process.wait(30) == 0
    finally:
        station.kill()
    calls = calls_of(trace.read_text(encoding="utf-8"))
    first = next(n for n, c in enumerate(calls) if c.sort == "rename" and "/in/0" in c.path)
    return calls[first:]


def disorders(calls: list[Call]) -> list[str]:
    """What was visible, promised or forgotten before that on which it rests was durable."""

    def sync(of: Callable[[str], bool], after: int, before: int) -> int | None:
        """Position of the first fsync of such a path strictly between two positions."""
        places = range(after + 1, before)
        return next((n for n in places if calls[n].sort == "sync" and of(calls[n].path)), None)

    found: set[str] = set()
    end = len(calls)
    kept: list[int] = []  # renames of packs so far
    for n, call in enumerate(calls):
        if call.sort == "rename":
            source, target = call.path, call.target
            folder = str(Path(target).parent)
            content = sync(lambda path, own=source: path == own, -1, n)
            names = sync(lambda path, own=folder: path == own, n, end)
            written = sync(_is_log, names, end) if names is not None else None
            if target.endswith(".pack"):
                kept.append(n)
                found |= (
                    {"pack: renamed before its bytes were durable"} if content is None else set()
                )
            elif folder.endswith("/out"):
                if content is None:
                    found.add("rendition: renamed before its bytes were durable")
                elif sync(_is_log, content, n) is None:
                    found.add("rendition: renamed before the intent was durable")
                if written is None:
                    found.add("rendition: outcome written before its name was durable")
            elif folder.endswith("/claimed") and names is None:
                found.add("claim: the name in claimed/ was never made durable")
        elif call.sort == "unlink" and "/claimed/" in call.path:
            pack = kept[-1] if kept else n
            day = str(Path(calls[pack].target).parent)
            names = sync(lambda path, own=day: path == own, pack, n)
            if names is None:
                found.add("claimed file: removed before the name of its pack was durable")
            if sync(_is_log, names if names is not None else pack, n) is None:
                found.add("claimed file: removed before the ledger's commit was durable")
    return sorted(found)


def _is_log(path: str) -> bool:
    return path.endswith("-wal")


@pytest.fixture(scope="module")
def strace() -> None:
    probe = ["strace", "-f", "-qq", "-o", "/dev/null", "true"]
    if shutil.which("strace") is None or subprocess.run(probe, check=False).returncode:
        pytest.skip("strace cannot trace here: the order of the fsyncs is not judged")


@pytest.mark.usefixtures("strace")
def test_everything_is_durable_before_what_rests_on_it(tmp_path: Path) -> None:
    calls = traced(tmp_path / "station")
    assert disorders(calls) == []
    syncs = sum(call.sort == "sync" for call in calls)
    assert syncs / FILES <= FSYNCS_PER_REPORT, f"{syncs} fsyncs for {FILES} reports"
    assert sum(c.sort == "unlink" and "/claimed/" in c.path for c in calls) == FILES


SYNCS = {
    "fsync of files": (
        "        os.fsync(descriptor)\n",
        "        if not os.path.isdir(f'/proc/self/fd/{descriptor}'): return\n"
        "        os.fsync(descriptor)\n",
        [
            "pack: renamed before its bytes were durable",
            "rendition: renamed before its bytes were durable",
        ],
    ),
    "fsync of folders": (
        "        sync_file(descriptor)\n    finally:",
        "        pass\n    finally:",
        [
            "claim: the name in claimed/ was never made durable",
            "claimed file: removed before the name of its pack was durable",
            "rendition: outcome written before its name was durable",
        ],
    ),
}


@pytest.mark.usefixtures("strace")
@pytest.mark.parametrize("name", SYNCS)
def test_the_order_turns_red_without(name: str, tmp_path: Path) -> None:
    safeguard, replacement, words = SYNCS[name]
    copy = copy_without(tmp_path / "copie", "dlx/durable.py", safeguard, replacement)
    assert disorders(traced(tmp_path / "station", copy)) == words
