"""The station as a process: wiring, loops, the desk of the control socket, sd_notify, logs."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from dlx.daemon.desk import Desk
from dlx.daemon.logs import set_up
from dlx.daemon.station import Place, Station, build_connectors, read_settings
from dlx.errors import StoreError
from dlx.rendering import WorkerCommand
from dlx.settings import Settings

__all__ = ["Place", "Settings", "Station", "build_connectors", "read_settings", "run", "set_up"]

RENDER_SOCKET = Path("run/dlx/render.sock")
log = logging.getLogger("dlx.daemon")


def worker_command(place: Place, settings: Settings) -> WorkerCommand:
    """How render workers are started here: the unit's socket, bubblewrap, or a plain child."""
    service = place.prefix / RENDER_SOCKET
    if service.is_socket():
        return WorkerCommand(service=service)
    bubblewrap = shutil.which("bwrap")
    hidden = [settings.state, settings.spool, place.folder]
    if bubblewrap is None:
        log.warning("event=no_bubblewrap effect=render_workers_share_the_file_system")
    return WorkerCommand(argv=_argv(bubblewrap, hidden, settings.limits.job_memory_bytes))


def _argv(
    bubblewrap: str | None, hidden: Sequence[Path], memory_bytes: int
) -> Callable[[int], list[str]]:
    def argv(descriptor: int) -> list[str]:
        own = [sys.executable, "-I", "-m", "dlx", "worker", "--fd", str(descriptor)]
        own += ["--memory", str(memory_bytes)]
        if bubblewrap is None:
            return own
        box = [bubblewrap, "--unshare-all", "--die-with-parent", "--ro-bind", "/", "/"]
        for folder in hidden:
            if folder.is_dir():
                box += ["--tmpfs", str(folder)]
        return [*box, "--dev", "/dev", "--proc", "/proc", "--", *own]

    return argv


def run(place: Place, *, verbose: bool) -> None:
    """Run the station until it is told to stop. Raises ConfigError, StoreError."""
    set_up(verbose=verbose, journald="JOURNAL_STREAM" in os.environ)
    settings = read_settings(place)
    station = Station(
        place=place,
        settings=settings,
        worker=worker_command(place, settings),
        handlers=lambda s: Desk(s).handlers(),
    )
    try:
        asyncio.run(station.run())
    except* StoreError as group:
        raise group.exceptions[0] from group
