"""F1: the station is killed at every named point, several times in a row, and loses nothing.

At each start six files more are dropped, so that the point is reached again; then the station runs
without faults until nothing moves, and the checker holds it against what the far sides hold.
"""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from checker import MAX_DOUBT, Peers, Site, verdict, wave

from dlx import control, spool
from dlx.failpoints import NAMES
from dlx.testing.station import StationFailed

pytestmark = [pytest.mark.faults, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
KILLS = ("", "", ":2")  # at the first passage, again, then at the second one
LITERAL = re.compile(r'failpoint\("([a-z_.]+)"\)')
COMMIT = re.compile(r'\.passing\("([a-z_]+)"\)')


@pytest.fixture(scope="module")
def peers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peers]:
    with Peers(tmp_path_factory.mktemp("peers")) as made:
        yield made


def killed_at(site: Site, point: str) -> None:
    """Start the station and see it die at ``point``, of nothing else."""
    site.armed(point)
    site.station.start(ready=False)
    try:
        assert site.station.await_death(60) == -signal.SIGKILL, site.station.tail()
    except subprocess.TimeoutExpired:
        site.station.kill()
        pytest.fail(f"{point} was never reached:\n{site.station.tail()}")


@pytest.mark.parametrize("point", NAMES)
def test_a_kill_here_loses_nothing_and_repeats_nothing(
    point: str, tmp_path: Path, peers: Peers
) -> None:
    site = Site(tmp_path / "station", peers)
    for number, passage in enumerate(KILLS):
        site.drop(*wave(number))
        killed_at(site, point + passage)
    site.come_to_rest()
    found = verdict(site)
    assert not found.broken
    assert found.lost == found.duplicates == 0


def test_a_crash_loop_behind_the_final_dot_sends_nothing_more_than_twice(
    tmp_path: Path, peers: Peers
) -> None:
    """P5: without the bound every restart would send the same report once more."""
    site = Site(tmp_path / "station", peers)
    site.drop(*wave(0))
    for _ in range(MAX_DOUBT + 1):
        killed_at(site, "smtp.dot_written")
    site.armed("smtp.dot_written")  # for ever: now everything by mail is held, nothing leaves
    with contextlib.suppress(StationFailed, control.StationDown):  # it died: judged below
        site.station.start()
        site.station.wait_quiet()
    assert site.station.process is not None
    assert site.station.process.poll() is None, "P5: the same report left once more"
    before = len(site.mails())
    assert site.station.stop() == 0
    site.come_to_rest()
    found = verdict(site)
    assert not found.broken
    assert len(site.mails()) == before == MAX_DOUBT + 1
    assert found.states["held"] == 1
    assert found.repeats == MAX_DOUBT


def test_the_names_are_those_of_the_source() -> None:
    used: set[str] = set()
    for path in (*ROOT.glob("dlx/**/*.py"), *ROOT.glob("connectors/**/*.py")):
        source = path.read_text(encoding="utf-8")
        used.update(LITERAL.findall(source))
        for point in COMMIT.findall(source):
            used.update((f"{point}.before_commit", f"{point}.after_commit"))
    assert used == set(NAMES)
    assert len(NAMES) == len(set(NAMES))


def test_files_of_one_claim_are_taken_again_in_their_order(tmp_path: Path) -> None:
    """A correction must never come before its original after a crash."""
    rooms = spool.Rooms(claimed=tmp_path / "claimed", reject=tmp_path / "reject")
    for room in (rooms.claimed, rooms.reject, tmp_path / "in"):
        room.mkdir()
    names = [f"{number:03d}.hl7" for number in range(300)]
    for name in names:
        (tmp_path / "in" / name).write_bytes(b"MSH|")
    pickup = spool.Pickup(name="sil", directory=tmp_path / "in", rooms=rooms)
    taken = pickup.claim(names)
    assert [one.original_name for one in taken] == names
    assert [one.path for one in pickup.still_claimed()] == [one.path for one in taken]
