"""F7 for sftp: the line is cut at every moment; the ledger's word and the peer's truth agree.

The peer writes every finished rename down before it answers. After any cut: a TemporaryFailure
means that no rename was made, an InDoubt that one may have been, and one more attempt leaves
exactly one final file with the right bytes and nothing else.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from connectors.sftp import SftpConnector, SftpSettings
from dlx.contracts import SecretFile
from dlx.delivery import Accepted, Delivery
from dlx.errors import InDoubt, TemporaryFailure
from dlx.testing.connector_contract import (
    LARGE_RENDITION,
    RENDITION,
    SECOND_RENDITION,
    Commitment,
    delivery_to,
    in_one_loop,
    no_commitment,
)
from dlx.testing.peers.sftp import SftpPeer

pytestmark = pytest.mark.faults


@pytest.fixture
def peer(tmp_path: Path) -> Iterator[SftpPeer]:
    server = SftpPeer(tmp_path / "clinic").start()
    yield server
    server.stop()


def connector_to(peer: SftpPeer, key: Path, **settings: Any) -> SftpConnector:
    values: dict[str, Any] = {
        "host": "127.0.0.1",
        "port": peer.port,
        "user": peer.user,
        "host_key": (peer.fingerprint,),
        "identity": SecretFile("key:f7", key),
        "timeout": 5.0,
    }
    return SftpConnector(SftpSettings(**(values | settings)))


@pytest.fixture
def connector(peer: SftpPeer, tmp_path: Path) -> SftpConnector:
    return connector_to(peer, peer.write_client_key(tmp_path / "key"))


def cut_at(peer: SftpPeer, moment: str, passage: int = 1) -> None:
    """Abort the connection the ``passage``-th time a request comes to ``moment``."""
    left = passage

    def hook(now: str, path: str) -> None:
        nonlocal left
        left -= now == moment
        if left == 0:
            peer.on = lambda moment, path: None
            peer.cut()
            if moment == "before_rename":
                raise asyncssh.SFTPFailure("died before the rename")

    peer.on = hook


@pytest.mark.parametrize("moment", ["open", "write", "fsync"])
def test_cut_before_committing_left_nothing_and_says_so(
    connector: SftpConnector, peer: SftpPeer, moment: str
) -> None:
    cut_at(peer, moment)
    delivery = delivery_to("")
    commitment = Commitment(peer)

    async def scenario() -> Accepted:
        with pytest.raises(TemporaryFailure) as caught:
            await connector.deliver(delivery, [RENDITION], commitment)
        assert (caught.value.code, caught.value.scope) == ("route-down", "channel")
        assert (commitment.times, peer.renames) == (0, [])
        return await connector.deliver(delivery, [RENDITION], no_commitment)

    assert in_one_loop(connector, scenario).proven
    assert_one_copy(peer, RENDITION.content)


@pytest.mark.parametrize("moment", ["before_rename", "after_rename"])
@pytest.mark.parametrize("overwrite", ["refuse", "replace", "unique"])
@pytest.mark.parametrize("atomic", ["rename", "rename+marker"])
def test_cut_around_the_rename_is_a_doubt_that_the_next_attempt_settles(
    peer: SftpPeer, tmp_path: Path, moment: str, overwrite: str, atomic: str
) -> None:
    key = peer.write_client_key(tmp_path / "key")
    connector = connector_to(peer, key, overwrite=overwrite, atomic=atomic)
    cut_at(peer, moment)
    delivery = delivery_to("")
    commitment = Commitment(peer)

    async def scenario() -> Accepted:
        with pytest.raises(InDoubt) as caught:
            await connector.deliver(delivery, [RENDITION], commitment)
        assert caught.value.code == "route-down"
        assert commitment.times == 1
        assert len(peer.renames) == (moment == "after_rename")
        return await connector.deliver(delivery, [RENDITION], no_commitment)

    accepted = in_one_loop(connector, scenario)
    assert accepted.remote_id == f"{delivery.id}.hpr"
    assert_one_copy(peer, RENDITION.content)
    assert [new for _, new in peer.renames].count(f"{delivery.id}.hpr") == 1


def test_cut_between_two_files_of_one_delivery_ends_with_both_once(
    connector: SftpConnector, peer: SftpPeer
) -> None:
    cut_at(peer, "after_rename")
    delivery = delivery_to("")

    async def scenario() -> None:
        with pytest.raises(InDoubt):
            await connector.deliver(delivery, [RENDITION, SECOND_RENDITION], no_commitment)
        await connector.deliver(delivery, [RENDITION, SECOND_RENDITION], no_commitment)

    in_one_loop(connector, scenario)
    assert_one_copy(peer, RENDITION.content, SECOND_RENDITION.content)
    assert len(peer.renames) == 2


def test_frozen_server_at_the_rename_is_a_doubt(peer: SftpPeer, tmp_path: Path) -> None:
    key = peer.write_client_key(tmp_path / "key")
    connector = connector_to(peer, key, timeout=0.4)
    delivery = delivery_to("")

    async def freeze() -> None:
        peer.freeze()

    async def scenario() -> Accepted:
        with pytest.raises(InDoubt) as caught:
            await connector.deliver(delivery, [RENDITION], freeze)
        assert caught.value.code == "timeout"
        peer.thaw()
        return await connector.deliver(delivery, [RENDITION], no_commitment)

    assert in_one_loop(connector, scenario).proven
    assert_one_copy(peer, RENDITION.content)


def test_server_that_restarts_at_random_moments_gets_every_file_once(
    connector: SftpConnector, peer: SftpPeer
) -> None:
    """Forty deliveries of 2.5 MB or less while each upload may be cut at any request (§6.3)."""
    chance = random.Random(20250131)
    requests = 0

    def hook(moment: str, path: str) -> None:
        nonlocal requests
        requests += 1
        if chance.random() < 0.03:
            peer.cut()

    peer.on = hook
    deliveries = [delivery_to("") for _ in range(40)]
    claims: dict[str, str] = {}

    async def until_done(delivery: Delivery) -> None:
        for _ in range(200):
            try:
                rendition = LARGE_RENDITION if delivery is deliveries[0] else RENDITION
                await connector.deliver(delivery, [rendition], no_commitment)
            except TemporaryFailure:
                claims[delivery.id] = "temporary"
            except InDoubt:
                claims[delivery.id] = "doubt"
            else:
                return
        raise AssertionError("never arrived")

    async def scenario() -> None:
        await asyncio.gather(*(until_done(delivery) for delivery in deliveries))

    in_one_loop(connector, scenario)
    assert claims  # the cuts did bite
    assert_one_copy(peer, LARGE_RENDITION.content, *[RENDITION.content] * 39)
    finals = [new for _, new in peer.renames]
    assert len(finals) == len(set(finals)) == 40


@pytest.mark.parametrize(("point", "visible"), [("sftp.part_written", 0), ("sftp.renamed", 1)])
def test_killed_station_leaves_one_final_file_after_the_next_attempt(
    connector: SftpConnector, peer: SftpPeer, tmp_path: Path, point: str, visible: int
) -> None:
    """Crash points C16 and C17: SIGKILL, then the same delivery again."""
    script = (
        "import asyncio, sys; from pathlib import Path\n"
        "from connectors.sftp import SftpConnector, SftpSettings\n"
        "from dlx.contracts import SecretFile\n"
        "from dlx.testing.connector_contract import RENDITION, delivery_to, no_commitment\n"
        "c = SftpConnector(SftpSettings(host='127.0.0.1', port=int(sys.argv[1]), user='dlx',\n"
        "    host_key=(sys.argv[2],), identity=SecretFile('key:f7', Path(sys.argv[3]))))\n"
        "asyncio.run(c.deliver(delivery_to('', id='D00000KIL'), [RENDITION], no_commitment))\n"
    )
    arguments = [str(peer.port), peer.fingerprint, str(tmp_path / "key")]
    killed = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env={**os.environ, "DLX_FAILPOINT": point},
        cwd=Path(__file__).parents[2],
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    assert len(peer.renames) == visible
    delivery = delivery_to("", id="D00000KIL")
    in_one_loop(connector, lambda: connector.deliver(delivery, [RENDITION], no_commitment))
    assert_one_copy(peer, RENDITION.content)
    assert len(peer.renames) == 1


def test_no_thread_outlives_the_connector(connector: SftpConnector, peer: SftpPeer) -> None:
    """Even when the server is cut in the middle: a thread left behind would block the exit."""
    cut_at(peer, "write")

    async def scenario() -> None:
        with pytest.raises(TemporaryFailure):
            await connector.deliver(delivery_to(""), [RENDITION], no_commitment)

    in_one_loop(connector, scenario)
    assert [t.name for t in threading.enumerate() if t.name.startswith("sftp-0")] == []


def assert_one_copy(peer: SftpPeer, *contents: bytes) -> None:
    """Exactly these files, whole, under final names; no temporary file is left."""
    assert sorted(peer.received()) == sorted(contents)
    assert peer.leftovers() == []
