"""SIGKILL twenty times in the middle of 800 reports: what is lost, repeated, miscounted; how soon
the station answers again.
"""

from __future__ import annotations

import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench._measure import row, watched

FAULTS = Path(__file__).parents[1] / "tests" / "faults"
READY_SECONDS = 3.0


def run(quick: bool) -> list[dict[str, Any]]:
    """Row ``kills``: figures of the sweep; ``ratio`` is 3 s over the slowest start, 0 on a fault.

    ``lost`` and ``duplicates`` must be 0, ``repeats`` (by mail) at most ``doubts``.
    """
    sys.path.insert(0, str(FAULTS))  # the checker belongs to the tests
    from checker import Peers
    from test_kill_sweep import sweep

    files, kills = (200, 5) if quick else (800, 20)
    base = Path(tempfile.mkdtemp(prefix="dlx-kills-"))
    try:
        with watched() as load, Peers(base / "peers") as peers:
            result = sweep(base / "station", peers, files=files, kills=kills, seed=2)
    finally:
        shutil.rmtree(base)
        sys.path.remove(str(FAULTS))
    found = result.verdict
    return [
        row(
            "kills",
            gate=1.0,
            goal=1.5,
            ratio=0.0 if found.broken else READY_SECONDS / max(result.ready),
            load=load,
            n=files,
            kills=kills,
            lost=found.lost,
            duplicates=found.duplicates,
            doubts=found.doubts,
            repeats=found.repeats,
            counters_exact=found.counters_exact,
            broken=found.broken[:10],
            states=dict(found.states),
            ready_seconds=round(max(result.ready), 2),
            ready_median=round(statistics.median(result.ready), 2),
            ref="3 s to the first answer after a kill",
        )
    ]
