"""`sftp.put_rename`: files of 50 kB to a real sshd, against OpenSSH's own `sftp -b`.

Both write under a temporary name and rename; ours also looks first, flushes nothing (as the
reference), checks two sizes and awaits ``committing``.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import paramiko

from connectors.sftp import SftpConnector, SftpSettings
from dlx.contracts import SecretFile
from dlx.delivery import Rendition
from dlx.testing.connector_contract import delivery_to, no_commitment
from dlx.testing.peers.openssh import OpensshPeer

GATE, GOAL = 0.60, 0.85
SIZE_BYTES = 50_000
CONTENT = b"%PDF-1.4\n" + os.urandom(SIZE_BYTES - 9)
RENDITION = Rendition(format="pdf", suffix=".pdf", media_type="application/pdf", content=CONTENT)
IN_FLIGHT = 16


def run(quick: bool) -> list[dict[str, Any]]:
    """Rows of `make bench`. Without sshd one row says so and is not judged."""
    missing = OpensshPeer.missing()
    if missing:
        return [{"stage": "sftp.put_rename", "skipped": missing, "pass": None}]
    files, rounds = (200, 3) if quick else (1000, 5)
    with OpensshPeer() as peer:
        batch = _batch(peer, files)
        ours, theirs = [], []
        for _ in range(rounds):  # interleaved, so that a noisy neighbour disturbs both
            theirs.append(_timed_reference(peer, batch, files))
            ours.append(asyncio.run(_timed_connector(peer, files)))
    ratio = min(theirs) / min(ours)
    return [
        {
            "stage": "sftp.put_rename",
            "n": files,
            "rounds": rounds,
            "min_ms": 1000 * min(ours) / files,
            "median_ms": 1000 * sorted(ours)[rounds // 2] / files,
            "per_second": files / min(ours),
            "ref": "openssh.sftp -b",
            "ref_ms": 1000 * min(theirs) / files,
            "ratio": round(ratio, 2),
            "gate": GATE,
            "goal": GOAL,
            "pass": ratio >= GATE,
            "env": {"cores": os.cpu_count(), "libs": {"paramiko": paramiko.__version__}},
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
        }
    ]


def _batch(peer: OpensshPeer, files: int) -> Path:
    (peer.base / "source").write_bytes(CONTENT)
    lines = []
    for number in range(files):
        name = f"F{number:06d}.pdf"
        lines += [f"put {peer.base}/source {name}.tmp"]
        lines += [f"rename {name}.tmp {name}"]
    path = peer.base / "batch"
    path.write_text("\n".join(lines) + "\n")
    return path


def _timed_reference(peer: OpensshPeer, batch: Path, files: int) -> float:
    _emptied(peer)
    command = ["sftp", "-q", "-b", str(batch), "-P", str(peer.port), "-i", str(peer.client_key)]
    command += ["-o", f"UserKnownHostsFile={peer.base}/known_hosts", "-o", "IdentitiesOnly=yes"]
    command += ["-o", "Ciphers=aes128-gcm@openssh.com", f"{peer.user}@127.0.0.1"]
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    elapsed = time.perf_counter() - started
    _checked(peer, files)
    return elapsed


async def _timed_connector(peer: OpensshPeer, files: int) -> float:
    _emptied(peer)
    connector = SftpConnector(
        SftpSettings(
            host="127.0.0.1",
            port=peer.port,
            user=peer.user,
            host_key=(peer.fingerprint,),
            identity=SecretFile("key:bench", peer.client_key),
            fsync="off",
        )
    )
    places = asyncio.Semaphore(IN_FLIGHT)

    async def one() -> None:
        async with places:
            await connector.deliver(delivery_to(""), [RENDITION], no_commitment)

    started = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(files)))
    elapsed = time.perf_counter() - started  # with the handshake, as the reference
    await connector.close()
    _checked(peer, files)
    return elapsed


def _emptied(peer: OpensshPeer) -> None:
    for path in peer.root.iterdir():
        path.unlink()


def _checked(peer: OpensshPeer, files: int) -> None:
    """A figure counts only when every file is there, whole, under its final name."""
    found = list(peer.root.iterdir())
    if len(found) != files or any(p.suffix != ".pdf" or p.read_bytes() != CONTENT for p in found):
        raise AssertionError(f"{len(found)} files of {files}, or not whole")
