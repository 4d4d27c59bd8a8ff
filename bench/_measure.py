"""What every benchmark shares: the load of others, the environment, one row of results."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

LIBRARIES = ("SQLAlchemy", "reportlab", "cryptography", "paramiko", "hl7apy", "pydantic")


@dataclass
class Load:
    """Share of the machine that others used while we measured, 0 to 1."""

    other: float = 0.0

    @property
    def quiet(self) -> bool:
        """Timing may be judged."""
        return self.other <= 0.15


def _busy() -> float:
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    ticks = [int(field) for field in fields]
    idle = ticks[3] + ticks[4]
    return (sum(ticks[:8]) - idle) / os.sysconf("SC_CLK_TCK")


def _ours() -> float:
    own = os.times()
    return own.user + own.system + own.children_user + own.children_system


@contextmanager
def watched() -> Iterator[Load]:
    """Measure who else is busy; children must have been waited for inside."""
    load = Load()
    busy, ours, start = _busy(), _ours(), time.perf_counter()
    yield load
    wall = time.perf_counter() - start
    others = (_busy() - busy) - (_ours() - ours)
    load.other = max(0.0, others / (wall * (os.cpu_count() or 1)))


def environment() -> dict[str, Any]:
    """Machine and libraries."""
    cpu = ""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cpu = line.partition(":")[2].strip()
            break
    import pysqlite3.dbapi2 as sqlite

    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "sqlite": sqlite.sqlite_version,
        "libs": {name: version(name) for name in LIBRARIES},
    }


def row(stage: str, *, gate: float, goal: float, ratio: float, load: Load, **more: Any) -> Any:
    """One result; ``ratio`` is better when larger. A busy machine is reported, not judged."""
    return {
        "stage": stage,
        **more,
        "ratio": round(ratio, 3),
        "gate": gate,
        "goal": goal,
        "pass": ratio >= gate if load.quiet else None,
        "other_load": round(load.other, 3),
        "quiet": load.quiet,
    }
