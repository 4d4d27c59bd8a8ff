"""What systemd hears from the station (sd_notify)."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

from conftest import House, profile


def test_systemd_hears_ready_alive_reloading_and_stopping(
    build: Callable[[], House], tmp_path: Path
) -> None:
    house = build()
    house.configure(channels=house.folder_channel(), profiles=profile("dr-un", "UN", "cabinet"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.bind(str(tmp_path / "notify"))
        ear.settimeout(10)
        house.station.environment |= {
            "NOTIFY_SOCKET": str(tmp_path / "notify"),
            "WATCHDOG_USEC": "400000",
        }
        station = house.start().station
        heard: list[str] = []

        def hear(word: str) -> None:
            while word not in heard:
                heard.extend(ear.recv(4096).decode().split("\n"))

        hear("READY=1")
        assert "WATCHDOG=1" not in heard or heard.index("READY=1") < heard.index("WATCHDOG=1")
        for _ in range(3):  # half of the watchdog's time apart, each after a commit
            heard.clear()
            hear("WATCHDOG=1")
        assert any(line.startswith("STATUS=0 en attente, 0 avis") for line in heard)
        heard.clear()
        station.ask("reload")
        hear("RELOADING=1")
        hear("READY=1")
        assert station.stop() == 0
        hear("STOPPING=1")
