"""SIGKILL at random moments while reports flow to the three ways out.

The full sweep (800 reports, 20 kills) is ``bench/kills.py``; this is the same, smaller.
"""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from checker import Peers, Site, Verdict, flow, verdict

pytestmark = [pytest.mark.faults, pytest.mark.slow]

# A start takes half of that on a quiet machine (bench/kills.py measures it); tests share theirs.
READY_SECONDS = 15.0


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """What a sweep showed; ``ready``: seconds from each start to the first answer."""

    verdict: Verdict
    ready: tuple[float, ...]
    files: int
    kills: int


def sweep(root: Path, peers: Peers, *, files: int, kills: int, seed: int) -> Sweep:
    """Drop ``files`` evenly over the life of ``kills`` stations, each killed at a random moment."""
    chance = random.Random(seed)
    site = Site(root, peers)
    dropped = flow(files)
    share = -(-files // kills)
    ready = []
    for number in range(kills):
        started = time.perf_counter()
        site.station.start()
        ready.append(time.perf_counter() - started)
        site.drop(*dropped[number * share : (number + 1) * share])
        threading.Event().wait(chance.uniform(0.0, 1.2))
        site.station.kill()
    started = time.perf_counter()
    site.station.start()
    ready.append(time.perf_counter() - started)
    site.station.stop()
    site.come_to_rest(120)
    assert len(site.dropped) == files
    return Sweep(verdict=verdict(site), ready=tuple(ready), files=files, kills=kills)


def test_kills_at_random_moments_lose_nothing_and_repeat_only_what_the_ledger_doubts(
    tmp_path: Path,
) -> None:
    with Peers(tmp_path / "peers") as peers:
        result = sweep(tmp_path / "station", peers, files=150, kills=5, seed=1)
    found = result.verdict
    assert not found.broken
    assert (found.lost, found.duplicates, found.counters_exact) == (0, 0, True)
    assert found.repeats <= found.doubts
    assert found.states["delivered"] > 50, "nothing flowed: this would prove nothing"
    assert max(result.ready) < READY_SECONDS
