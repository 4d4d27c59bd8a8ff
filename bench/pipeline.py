"""End to end: HL7 dropped in the spool, HPRIM Médecin files out, against a null durable pipe.

The null pipe does the same reads, fsyncs, renames, unlinks and commits in one process, in the same
batches, with no processing at all. Both run on the same folders, one after the other, three times.
"""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import pysqlite3.dbapi2 as sqlite

from bench._measure import row, watched
from dlx import registry
from dlx.report import Person
from dlx.testing.reports import report_for
from dlx.testing.station import RunningStation

BATCH = 50
CONFIGURATION = {
    "dlx.yaml": """\
laboratory: {name: Banc, finess: 999999999}
pickup:
  - {name: sil, directory: var/spool/dlx/in, ready_when: rename}
defaults: {formats: [hprim]}
limits: {workers: %d, batch: 50}
""",
    "channels.d/a.yaml": """\
channels:
  dossier: {type: folder, directory: var/spool/dlx/out/a}
""",
    "profiles.d/a.yaml": """\
profiles:
  - id: dr-lefevre
    name: {family: LEFEVRE-TEST, given: Anne}
    lis_codes: LEFA
    deliver:
      - {via: dossier, formats: hprim}
""",
}


def messages(count: int, first: int = 1) -> list[bytes]:
    """Distinct HL7 ORU^R01 of the reference report, as bytes."""
    oru = registry.formats()["oru"]
    if oru.render is None:
        raise RuntimeError("oru writes")
    return [
        oru.render(report_for("LEFA", seed=seed), Person(), oru.options).content
        for seed in range(first, first + count)
    ]


def null_pipe(root: Path, files: list[bytes]) -> float:
    """Seconds that the bare file and database work takes."""
    rooms = {name: root / name for name in ("in", "claimed", "out", "archive")}
    for room in rooms.values():
        room.mkdir(parents=True)
    for number, content in enumerate(files):
        (rooms["in"] / f"{number:06d}.hl7").write_bytes(content)
    database = sqlite.connect(root / "null.sqlite3", isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    database.execute("CREATE TABLE row (id INTEGER PRIMARY KEY, a TEXT, b TEXT)")
    started = time.perf_counter()
    names = sorted(os.listdir(rooms["in"]))
    for start in range(0, len(names), BATCH):
        _null_batch(rooms, names[start : start + BATCH], database, start)
    elapsed = time.perf_counter() - started
    database.close()
    return elapsed


def _null_batch(rooms: dict[str, Path], names: list[str], database: Any, number: int) -> None:
    for name in names:
        (rooms["in"] / name).rename(rooms["claimed"] / name)
    _sync(rooms["claimed"])
    _sync(rooms["in"])
    contents = [(rooms["claimed"] / name).read_bytes() for name in names]
    _write(rooms["archive"] / f"{number}.pack", b"".join(contents) * 2)
    _sync(rooms["archive"])
    _commit(database, names)  # register
    for name in names:
        (rooms["claimed"] / name).unlink()
    _commit(database, names)  # claim
    for name, content in zip(names, contents, strict=True):
        _write(rooms["out"] / f".{name}", content)
    _commit(database, names)  # intent
    for name in names:
        (rooms["out"] / f".{name}").rename(rooms["out"] / name)
    _sync(rooms["out"])
    _commit(database, names)  # outcome


def _write(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    os.write(descriptor, content)
    os.fsync(descriptor)
    os.close(descriptor)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def _commit(database: Any, names: list[str]) -> None:
    database.execute("BEGIN IMMEDIATE")
    database.executemany("INSERT INTO row (a, b) VALUES (?, 'x')", [(name,) for name in names])
    database.execute("COMMIT")


def station_pipe(root: Path, files: list[bytes], workers: int) -> float:
    """Seconds from the first file in the spool to the last outcome in the ledger."""
    configuration = dict(CONFIGURATION)
    configuration["dlx.yaml"] %= workers
    out = root / "var" / "spool" / "dlx" / "out" / "a"
    out.mkdir(parents=True)
    station = RunningStation(root, configuration)
    waiting = root / "var" / "spool" / "dlx" / "ready"
    waiting.mkdir()
    for number, content in enumerate(files):
        (waiting / f"{number:06d}.hl7").write_bytes(content)
    with station:
        started = time.perf_counter()
        for path in sorted(waiting.iterdir()):
            path.rename(station.inbox / path.name)
        wanted = len(files)
        while len(os.listdir(out)) < wanted and time.perf_counter() - started < 120:
            time.sleep(0.05)
        station.wait_for(lambda: station.ask("status")["totals"].get("delivered") == wanted, 30)
        elapsed = time.perf_counter() - started
        if station.notices():
            raise RuntimeError("des avis sont ouverts")
    texts = [path.read_bytes() for path in out.iterdir()]
    if not all(text.rstrip().endswith(b"****FINFICHIER****") for text in texts):
        raise RuntimeError("fichiers incomplets")
    return elapsed


def run(quick: bool) -> list[dict[str, Any]]:
    """Row ``pipeline.a``: rate of the station over the rate of the null pipe."""
    count, rounds = (500, 2) if quick else (2000, 3)
    files = messages(count)
    pairs: list[tuple[float, float]] = []
    with watched() as load:
        for _ in range(rounds):
            base = Path(tempfile.mkdtemp(prefix="dlx-bench-", dir=os.environ.get("DLX_BENCH_DIR")))
            try:
                null = null_pipe(base / "null", files)
                pairs.append((null, station_pipe(base / "station", files, 1)))
            finally:
                shutil.rmtree(base)
    ratios = [null / ours for null, ours in pairs]
    best = statistics.median(ratios)
    return [
        row(
            "pipeline.a",
            gate=0.5,
            goal=0.7,
            ratio=best,
            load=load,
            n=count,
            rounds=rounds,
            per_second=[round(count / ours) for _, ours in pairs],
            ref="null durable pipe",
            ref_per_second=[round(count / null) for null, _ in pairs],
        )
    ]
