"""Resident memory with 10,000 deliveries waiting: 2,000 reports, five recipients, channels held."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from bench._measure import row, watched
from bench.pipeline import CONFIGURATION, messages
from dlx.testing.station import RunningStation

LIMIT_MB = 250
RECIPIENTS = 5


def _configuration() -> dict[str, str]:
    channels = "channels:\n" + "".join(
        f"  dossier{n}: {{type: folder, directory: var/spool/dlx/out/a}}\n"
        for n in range(RECIPIENTS)
    )
    deliver = "".join(f"      - {{via: dossier{n}, formats: hprim}}\n" for n in range(RECIPIENTS))
    return {
        "dlx.yaml": CONFIGURATION["dlx.yaml"] % 1,
        "channels.d/a.yaml": channels,
        "profiles.d/a.yaml": CONFIGURATION["profiles.d/a.yaml"].split("    deliver:")[0]
        + "    deliver:\n"
        + deliver,
    }


def _resident_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(x for x in status.splitlines() if x.startswith("VmRSS:"))
    return int(line.split()[1]) / 1024


def run(quick: bool) -> list[dict[str, Any]]:
    """Row ``memory.waiting``: the limit over what the station uses (its workers apart)."""
    count = 400 if quick else 2000
    files = messages(count)
    with tempfile.TemporaryDirectory(prefix="dlx-bench-") as name, watched() as load:
        root = Path(name)
        (root / "var" / "spool" / "dlx" / "out" / "a").mkdir(parents=True)
        with RunningStation(root, _configuration()) as station:
            for n in range(RECIPIENTS):
                station.ask("channel.hold", channel=f"dossier{n}", reason="banc")
            for number, content in enumerate(files):
                station.drop(f"{number:06d}.hl7", content)
            wanted = count * RECIPIENTS
            station.wait_for(
                lambda: station.ask("status")["totals"].get("waiting", 0) == wanted, 300
            )
            if station.process is None:
                raise RuntimeError("no station")
            used = _resident_mb(station.process.pid)
    result: dict[str, Any] = row(
        "memory.waiting",
        gate=1.0,
        goal=2.0,
        ratio=LIMIT_MB / used,
        load=load,
        n=wanted,
        resident_mb=round(used, 1),
        ref=f"{LIMIT_MB} MB",
    )
    return [{**result, "pass": result["ratio"] >= 1.0}]
