"""Stopping, starting again, and what must survive both."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import House, good, oru, profile

from dlx.testing.peers.smtp import Answer
from dlx.testing.reports import report_for

pytestmark = pytest.mark.slow


def simple(build: Callable[[], House], more: str = "") -> House:
    house = build()
    house.configure(
        station=house.station_yaml(more=more),
        channels=house.folder_channel(),
        profiles=profile("dr-bon", "BONA", "cabinet"),
    )
    return house


def test_stop_during_work_is_quick_and_loses_nothing(build: Callable[[], House]) -> None:
    """200 files, stopped in the middle, started again: each delivered exactly once."""
    house = simple(build).start()
    for n in range(200):
        house.drop(f"s{n}.hl7", good(n, number=f"ARRET-{n}", results=2))
    house.wait(lambda: len(os.listdir(house.out())) > 10)
    started = time.monotonic()
    assert house.station.stop() == 0
    assert time.monotonic() - started < 10
    assert len(os.listdir(house.out())) < 200, "it was stopped in the middle"
    house.start()
    house.rest(40)
    rows = house.station.deliveries(limit=1000)
    assert len(rows) == 200 and {d["state"] for d in rows} == {"delivered"}
    assert len(os.listdir(house.out())) == 200
    assert house.dlx("audit", "verify").code == 0


def test_waiting_and_held_survive_a_restart_and_a_power_cut(build: Callable[[], House]) -> None:
    house = build()
    house.with_relay()
    address = house.certify("dr")
    house.configure(
        channels=house.folder_channel() + house.mail_channel(),
        profiles=profile("dr-mail", "MAIL", "courriel", to=address)
        + profile("dr-bon", "BONA", "cabinet"),
    )
    house.start()
    assert house.relay is not None
    house.relay.go_down()
    assert house.dlx("hold", "cabinet", "--reason", "travaux").code == 0
    for n in range(5):
        house.drop(f"m{n}.hl7", report_for("MAIL", seed=n, results=2, number=f"SURVIT-{n}"))
    house.drop("b.hl7", good(9, number="SURVIT-B"))
    house.wait(lambda: len(house.station.deliveries()) == 6)
    house.station.stop()
    house.start()
    assert house.states("SURVIT-B") == {("dr-bon", 1): "waiting"}, "the channel is still held"
    house.station.kill()
    house.start()
    house.relay.come_back()
    assert house.dlx("release", "cabinet").code == 0
    house.rest(30)
    rows = house.station.deliveries()
    assert sorted(d["state"] for d in rows) == ["accepted"] * 5 + ["delivered"]
    assert len(house.relay.stored) == 5


@pytest.mark.slow
def test_stop_gives_back_what_a_silent_peer_keeps_waiting(build: Callable[[], House]) -> None:
    """The server never answers the greeting: nothing was sent, so the delivery waits again."""
    house = build()
    relay = house.with_relay()
    address = house.certify("dr")
    house.configure(
        channels=house.mail_channel(), profiles=profile("dr-mail", "MAIL", "courriel", to=address)
    )
    relay.next("banner", Answer(say=False, then="hang"))
    house.start()
    house.drop("m.hl7", report_for("MAIL", seed=1, results=2, number="MUET-1"))
    house.wait(lambda: house.states("MUET-1") == {("dr-mail", 1): "claimed"})
    started = time.monotonic()
    assert house.station.stop() == 0
    assert time.monotonic() - started < 30
    house.start()
    house.wait(lambda: relay.stored)
    house.rest()
    assert house.states("MUET-1") == {("dr-mail", 1): "accepted"} and len(relay.stored) == 1


def test_second_station_on_one_root_refuses_to_start(build: Callable[[], House]) -> None:
    house = simple(build).start()
    second = subprocess.run(
        [sys.executable, "-m", "dlx", "--root", str(house.root), "run"],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert second.returncode != 0
    assert "une autre station" in second.stderr and "Traceback" not in second.stderr
    house.take_one("SEUL-1", good(1, number="SEUL-1"))


def test_bad_configuration_at_start_is_exit_78_without_traceback(
    build: Callable[[], House],
) -> None:
    house = simple(build, more="pickups: []\n")
    ran = house.dlx("run")
    assert ran.code == 78 and "dlx.yaml" in ran.err and "Traceback" not in ran.err


def workers(house: House) -> list[int]:
    """Process ids of the render workers, wherever in the tree they are (bubblewrap)."""
    assert house.station.process is not None
    found, left = [], [house.station.process.pid]
    while left:
        pid = left.pop()
        try:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except FileNotFoundError:
            continue
        left += map(int, children)
        if b"python" in words[0] and b"worker" in words:  # not the bubblewrap around it
            found.append(pid)
    return found


def test_worker_that_was_killed_while_idle_costs_no_file(build: Callable[[], House]) -> None:
    """The kernel may take the largest process: the next file is not to blame."""
    house = simple(build).start()
    for n in range(3):
        killed = workers(house)
        assert killed
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        house.take_one(f"OISIF-{n}", good(n, number=f"OISIF-{n}"))
    assert house.refusals() == []


def test_file_that_makes_the_worker_hang_is_refused_and_others_go_on(
    build: Callable[[], House],
) -> None:
    """The workers are stopped by a signal, as an endless loop would: killed after job_seconds."""
    house = simple(build, more="limits: {workers: 1, job_seconds: 1s}\n").start()
    for pid in workers(house):
        os.kill(pid, signal.SIGSTOP)
    content = oru(good(1, number="PENDU-1"))
    house.drop("pendu.hl7", content)
    why = house.refusal("pendu.hl7")
    assert why["code"] == "renderer_died" and why["path"].read_bytes() == content
    assert [n for n in house.notices("rejected") if "moteur" in n["cause"]]
    house.take_one("APRES-1", good(2, number="APRES-1"))
    assert house.dlx("reject", "retry", why["claim"], "--reason", "moteur rétabli").code == 0
    house.wait(lambda: house.states("PENDU-1") == {("dr-bon", 1): "delivered"})


def test_files_wait_while_no_worker_can_be_had(build: Callable[[], House]) -> None:
    """The render service is down: the station starts, says so once, and goes on when it is back."""
    house = simple(build)
    place = house.root / "run" / "dlx" / "render.sock"
    listening = [sys.executable, "-m", "dlx", "worker", "--listen", str(place)]
    service = subprocess.Popen(listening, start_new_session=True)
    try:
        house.station.wait_for(place.is_socket)
        service.kill()
        service.wait()
        house.start()
        house.drop("attend.hl7", good(1, number="ATTEND-1"))
        house.wait(lambda: house.notices("station"))
        assert "moteurs de rendu" in house.dlx("status").out
        service = subprocess.Popen(listening, start_new_session=True)
        house.wait(lambda: house.states("ATTEND-1") == {("dr-bon", 1): "delivered"})
        house.wait(lambda: not house.notices())
        assert house.refusals() == []
    finally:
        service.kill()
        service.wait()
        house.station.stop()
