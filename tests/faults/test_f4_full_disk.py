"""F4: a disk that is really full (a small tmpfs) is a pause, not an accident (P10)."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from checker import Peers, Site, verdict, wave

from dlx import control

pytestmark = [
    pytest.mark.faults,
    pytest.mark.slow,
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="F4 needs root (mount a tmpfs)"),
]

DISK_MEGABYTES = 90  # under 64 MB of room the station stops taking files


@pytest.fixture(scope="module")
def peers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peers]:
    with Peers(tmp_path_factory.mktemp("peers")) as made:
        yield made


@pytest.fixture
def site(tmp_path: Path, peers: Peers) -> Iterator[Site]:
    """A station whose every file is on a small disk of its own."""
    disk = tmp_path / "disque"
    disk.mkdir()
    options = f"size={DISK_MEGABYTES}m"
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "dlx", disk], check=False)
    if mount.returncode:
        pytest.skip("F4: no tmpfs can be mounted here")
    try:
        made = Site(disk / "station", peers)
        yield made
        made.station.kill()
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


class Ballast:
    """A file that leaves ``room`` bytes of the disk."""

    def __init__(self, site: Site) -> None:
        self._path = site.root.parent / "lest"

    def leave(self, room: int) -> None:
        for _ in range(50):
            self.away()
            figures = os.statvfs(self._path.parent)
            free = figures.f_bavail * figures.f_frsize
            try:
                with self._path.open("wb") as file:
                    os.posix_fallocate(file.fileno(), 0, max(free - room, 1))
            except OSError:
                continue  # the station wrote in between: tmpfs gives all or nothing
            return
        raise AssertionError("the disk could not be filled")

    def away(self) -> None:
        self._path.unlink(missing_ok=True)


def open_causes(site: Site) -> list[str]:
    return [n["subject"] for n in site.station.notices() if n["kind"] == "station"]


def answers(site: Site) -> bool:
    try:
        site.station.ask("status")
    except control.StationDown:
        return False
    return True


def test_a_nearly_full_disk_pauses_the_intake_and_tells_people_once(site: Site) -> None:
    ballast = Ballast(site)
    ballast.leave(30 << 20)
    site.station.start()
    site.drop(*wave(0))
    site.station.wait_for(lambda: open_causes(site) == ["station:disk"])
    status = site.station.ask("status")
    assert "disque" in status["intake"]["paused"]
    assert len(list(site.station.inbox.iterdir())) == len(site.dropped), "something was taken"
    ballast.away()
    site.station.wait_quiet()
    assert open_causes(site) == []
    assert site.station.stop() == 0
    site.come_to_rest()
    assert not verdict(site).broken


def test_a_notice_of_a_full_disk_closes_after_a_restart_too(site: Site) -> None:
    ballast = Ballast(site)
    ballast.leave(30 << 20)
    site.station.start()
    site.station.wait_for(lambda: open_causes(site) == ["station:disk"])
    site.station.kill()
    ballast.away()
    site.station.start()
    site.station.wait_for(lambda: open_causes(site) == [])


def test_a_disk_that_fills_up_under_way_is_waited_for(site: Site, peers: Peers) -> None:
    """Deliveries and files are under way when nothing can be written any more; no restart."""
    ballast = Ballast(site)
    site.station.start()
    peers.relay.go_down()
    site.drop(*wave(0))
    site.station.wait_for(lambda: site.station.ask("status")["totals"].get("delivered", 0) >= 4)
    ballast.leave(0)
    peers.relay.come_back()
    site.station.wait_for(lambda: site.station.ask("status")["intake"]["paused"])
    assert site.station.process is not None
    assert site.station.process.poll() is None
    ballast.away()
    site.drop(*wave(1))
    site.station.wait_quiet()
    assert site.station.process.poll() is None, "it must wait, not stop"
    assert site.station.stop() == 0
    site.come_to_rest()
    found = verdict(site)
    assert not found.broken
    assert found.states["accepted"] == 2


@pytest.mark.parametrize("room", [0, 60_000, 300_000])
def test_files_that_cannot_be_archived_stay_claimed_until_there_is_room(
    site: Site, room: int
) -> None:
    """The disk fills up between the claim and the archive."""
    site.drop(*wave(0))
    site.armed("archive.before_rename")
    site.station.start(ready=False)
    assert site.station.await_death() == -signal.SIGKILL
    site.armed("")
    ballast = Ballast(site)
    ballast.leave(room)
    site.station.start(ready=False)
    with contextlib.suppress(subprocess.TimeoutExpired):
        assert site.station.await_death(8) == 1, "without any room it may only stop cleanly"
    alive = site.station.process is not None and site.station.process.poll() is None
    ballast.away()
    if alive:  # it waited for room, perhaps before it could answer at all
        site.station.wait_for(lambda: answers(site))
        site.station.wait_quiet()
        assert site.station.stop() == 0
    site.come_to_rest()
    assert not verdict(site).broken


def test_the_ballast_really_fills_the_disk(site: Site) -> None:
    Ballast(site).leave(0)
    with pytest.raises(OSError) as caught:
        (site.root / "plus").write_bytes(bytes(100_000))
    assert caught.value.errno == errno.ENOSPC
