"""A real station in a process of its own, below a folder: for tests, demo and bench.

with RunningStation(root, files) as station:
    station.drop("a.hl7", content)
    station.wait_quiet()
    assert station.deliveries()[0]["state"] == "delivered"
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from dlx import control

Json = dict[str, Any]
MOVING = ("waiting", "claimed", "sending", "in_doubt")


class StationFailed(AssertionError):
    """The station did not start, or did not come to rest in time; holds the end of its log."""


class RunningStation:
    """Writes a configuration, runs ``dlx run`` on it, asks it over its control socket.

    Args:
        root: root prefix; made when missing, may hold what an earlier run left.
        files: configuration by name below ``etc/dlx``; a file not named is left as it is.
        environment: added to the station's own, for example ``DLX_FAILPOINT``.

    Attributes:
        process: of the last start, or None.
    """

    def __init__(
        self,
        root: Path,
        files: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.root = root
        self.environment = dict(environment or {})
        self.process: subprocess.Popen[bytes] | None = None
        for folder in (self.folder / "keys", self.inbox, self.socket.parent):
            folder.mkdir(parents=True, exist_ok=True)
        self.configure(files or {})

    def configure(self, files: Mapping[str, str]) -> None:
        """Write configuration files; a running station sees them after ``reload``."""
        for name, text in files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")

    # --- places --------------------------------------------------------------------------------

    @property
    def folder(self) -> Path:
        """The configuration folder."""
        return self.root / "etc" / "dlx"

    @property
    def spool(self) -> Path:
        """The spool rooms."""
        return self.root / "var" / "spool" / "dlx"

    @property
    def inbox(self) -> Path:
        """Where files are dropped."""
        return self.spool / "in"

    @property
    def socket(self) -> Path:
        """The control socket."""
        return self.root / "run" / "dlx" / "control.sock"

    @property
    def log(self) -> str:
        """Everything the station wrote, over all its starts."""
        path = self.root / "station.log"
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    def rejected(self) -> list[Path]:
        """The ``.why`` files."""
        return sorted(p for p in (self.spool / "reject").glob("*.why") if p.name[0] != ".")

    # --- life ----------------------------------------------------------------------------------

    def start(self, *, seconds: float = 30.0, ready: bool = True) -> Self:
        """Start it; with ``ready`` wait until it answers. Raises StationFailed."""
        command = [sys.executable, "-m", "dlx", "--root", str(self.root), "run"]
        with (self.root / "station.log").open("ab") as log:
            self.process = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env={**os.environ, **self.environment},
            )
        if ready:
            self._await_ready(seconds)
        return self

    def _await_ready(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.process is not None and self.process.poll() is None:
            try:
                self.ask("status")
                return
            except control.StationDown:
                time.sleep(0.02)
        raise StationFailed(f"pas démarrée :\n{self.tail()}")

    def stop(self, seconds: float = 40.0) -> int:
        """SIGTERM, wait; the exit code."""
        if self.process is None:
            return 0
        self.process.terminate()
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise StationFailed(f"ne s'arrête pas :\n{self.tail()}") from None

    def kill(self) -> None:
        """SIGKILL, as a power cut would, and wait for its end."""
        if self.process is not None:
            if self.process.poll() is None:
                self.process.send_signal(signal.SIGKILL)
            self.process.wait()

    def await_death(self, seconds: float = 30.0) -> int:
        """Wait until it ends by itself (a fail point); the return code."""
        if self.process is None:
            raise StationFailed("pas démarrée")
        return self.process.wait(seconds)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process is not None and self.process.poll() is None:
            if kind is None:
                self.stop()
            else:
                self.kill()

    def tail(self, lines: int = 25) -> str:
        """The end of the log."""
        return "\n".join(self.log.splitlines()[-lines:])

    # --- use -----------------------------------------------------------------------------------

    def drop(self, name: str, content: bytes) -> None:
        """Write a file as a careful LIS does: under another name, then renamed."""
        unfinished = self.inbox / f"{name}.tmp"
        unfinished.write_bytes(content)
        unfinished.rename(self.inbox / name)

    def ask(self, verb: str, /, **arguments: Any) -> Any:
        """Ask over the control socket."""
        return control.ask(self.socket, verb, arguments)

    def deliveries(self, **selection: Any) -> list[Json]:
        """Every delivery, or those of a selection."""
        arguments = {"every_state": True, "limit": 100_000, **selection}
        rows: list[Json] = self.ask("queue.list", **arguments)
        return rows

    def notices(self, *, everything: bool = False) -> list[Json]:
        """Open notices, or all."""
        rows: list[Json] = self.ask("notices.list", all=everything)
        return rows

    def quiet(self) -> bool:
        """True when nothing is on its way: inbox and ``claimed/`` empty, nothing moving."""
        # upstream first: what leaves a room between two looks is then seen in the next one
        left = [p for p in self.inbox.iterdir() if not p.name.endswith(".tmp")]
        if left or list((self.spool / "claimed").iterdir()):
            return False
        totals = self.ask("status")["totals"]
        return not any(totals.get(state, 0) for state in MOVING)

    def wait_quiet(self, seconds: float = 30.0) -> None:
        """Wait until ``quiet``. Raises StationFailed with the end of the log."""
        self.wait_for(self.quiet, seconds)

    def wait_for(self, condition: Any, seconds: float = 30.0) -> None:
        """Wait until ``condition()`` is true. Raises StationFailed."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if condition():
                return
            time.sleep(0.02)
        raise StationFailed(f"pas au repos après {seconds} s :\n{self.tail()}")
