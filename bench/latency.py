"""Idle latency: a file renamed into the inbox to its output in place, against the bare fsyncs.

The reference is what no implementation avoids: two commits and one durable drop.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Any

import pysqlite3.dbapi2 as sqlite

from bench._measure import row, watched
from bench.pipeline import CONFIGURATION, messages
from dlx import durable
from dlx.testing.station import RunningStation


def _percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


def bare(root: Path, files: list[bytes]) -> list[float]:
    """Seconds of two commits and one durable drop, one at a time."""
    root.mkdir()
    database = sqlite.connect(root / "bare.sqlite3", isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    database.execute("CREATE TABLE row (a TEXT)")
    times = []
    for number, content in enumerate(files):
        started = time.perf_counter()
        for _ in range(2):
            database.execute("BEGIN IMMEDIATE")
            database.execute("INSERT INTO row VALUES (?)", (str(number),))
            database.execute("COMMIT")
        durable.put_new(root / f"{number}.hpr", content)
        durable.sync_folder(root)
        times.append(time.perf_counter() - started)
    return times


def station(root: Path, files: list[bytes]) -> list[float]:
    """Seconds from the rename into the inbox to the output under its final name."""
    configuration = dict(CONFIGURATION)
    configuration["dlx.yaml"] %= 1
    out = root / "var" / "spool" / "dlx" / "out" / "a"
    out.mkdir(parents=True)
    times = []
    with RunningStation(root, configuration) as running:
        for number, content in enumerate(files):
            unfinished = running.inbox / f"{number}.tmp"
            unfinished.write_bytes(content)
            time.sleep(0.03)
            before = len(os.listdir(out))
            started = time.perf_counter()
            unfinished.rename(running.inbox / f"{number}.hl7")
            while not _arrived(out, before) and time.perf_counter() - started < 10:
                time.sleep(0.0001)
            times.append(time.perf_counter() - started)
        running.wait_quiet()
    return times[5:]  # the first ones warm the caches of both processes


def _arrived(out: Path, before: int) -> bool:
    return sum(not name.startswith(".") for name in os.listdir(out)) > before


def run(quick: bool) -> list[dict[str, Any]]:
    """Row ``latency.idle``: p50 of the bare work over p50 of the station."""
    files = messages(105 if quick else 505)
    with tempfile.TemporaryDirectory(prefix="dlx-bench-") as name, watched() as load:
        reference = bare(Path(name) / "bare", files)
        ours = station(Path(name) / "station", files)
    ours_p50, ref_p50 = _percentile(ours, 0.5), _percentile(reference, 0.5)
    return [
        row(
            "latency.idle",
            gate=0.25,
            goal=0.5,
            ratio=ref_p50 / ours_p50,
            load=load,
            n=len(ours),
            p50_ms=round(1000 * ours_p50, 2),
            p99_ms=round(1000 * _percentile(ours, 0.99), 2),
            ref="2 commits + 1 durable drop",
            ref_p50_ms=round(1000 * ref_p50, 2),
            ref_p99_ms=round(1000 * _percentile(reference, 0.99), 2),
        )
    ]
