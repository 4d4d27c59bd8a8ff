"""The sftp channel against a real OpenSSH server with internal-sftp."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from connectors.sftp import SftpConnector, SftpSettings
from dlx.contracts import SecretFile
from dlx.errors import DeliveryError, PermanentFailure, TemporaryFailure
from dlx.testing.connector_contract import (
    LARGE_RENDITION,
    RENDITION,
    SECOND_RENDITION,
    delivery_to,
    in_one_loop,
    no_commitment,
)
from dlx.testing.peers.openssh import OpensshPeer

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(bool(OpensshPeer.missing()), reason=OpensshPeer.missing() or "-"),
]


@pytest.fixture(scope="module")
def peer() -> Iterator[OpensshPeer]:
    with OpensshPeer() as server:
        yield server


@pytest.fixture(autouse=True)
def emptied(peer: OpensshPeer) -> None:
    for path in peer.root.iterdir():
        path.unlink()


def connector_to(peer: OpensshPeer, **settings: Any) -> SftpConnector:
    values: dict[str, Any] = {
        "host": "127.0.0.1",
        "port": peer.port,
        "user": peer.user,
        "host_key": (peer.fingerprint,),
        "identity": SecretFile("key:openssh", peer.client_key),
        "timeout": 10.0,
    }
    return SftpConnector(SftpSettings(**(values | settings)))


def names(peer: OpensshPeer) -> list[str]:
    return sorted(path.name for path in peer.root.iterdir())


def deliver(connector: SftpConnector, delivery: Any, *renditions: Any) -> Any:
    return in_one_loop(
        connector, lambda: connector.deliver(delivery, renditions or [RENDITION], no_commitment)
    )


@pytest.mark.parametrize("overwrite", ["refuse", "replace", "unique"])
@pytest.mark.parametrize("atomic", ["rename", "marker", "rename+marker"])
def test_files_arrive_whole_and_a_repeat_adds_nothing(
    peer: OpensshPeer, atomic: str, overwrite: str
) -> None:
    connector = connector_to(peer, atomic=atomic, overwrite=overwrite, fsync="require")
    delivery = delivery_to("", id="D00000SSH")
    for _ in range(2):
        assert deliver(
            connector,
            delivery,
            RENDITION,
            SECOND_RENDITION,
        ).proven
    wanted = ["D00000SSH.hpr", "D00000SSH.pdf"]
    marks = [f"{name}.ok" for name in wanted] if atomic != "rename" else []
    assert names(peer) == sorted(wanted + marks)
    assert (peer.root / wanted[0]).read_bytes() == RENDITION.content
    assert (peer.root / wanted[1]).read_bytes() == SECOND_RENDITION.content


def test_large_file_arrives_unchanged_and_resumes(peer: OpensshPeer) -> None:
    delivery = delivery_to("")
    (peer.root / f"{delivery.id}.pdf.tmp").write_bytes(LARGE_RENDITION.content[:1_400_000])
    deliver(connector_to(peer), delivery, LARGE_RENDITION)
    assert names(peer) == [f"{delivery.id}.pdf"]
    assert (peer.root / f"{delivery.id}.pdf").read_bytes() == LARGE_RENDITION.content


@pytest.mark.parametrize("overwrite", ["refuse", "replace", "unique"])
def test_name_taken_by_another_content(peer: OpensshPeer, overwrite: str) -> None:
    taken = peer.root / "R000000001.hpr"
    taken.write_bytes(b"d'un autre")
    connector = connector_to(peer, overwrite=overwrite, filename="{report}{suffix}")
    delivery = delivery_to("", id="D00000TAK")
    if overwrite == "refuse":
        with pytest.raises(PermanentFailure):
            deliver(connector, delivery)
    else:
        deliver(connector, delivery)
    replaced = overwrite == "replace"
    assert taken.read_bytes() == (RENDITION.content if replaced else b"d'un autre")
    unique = ["R000000001_D00000TAK.hpr"] if overwrite == "unique" else []
    assert names(peer) == sorted([taken.name, *unique])


@pytest.mark.parametrize("overwrite", ["refuse", "replace"])
def test_server_that_denies_posix_rename_is_served_all_the_same(overwrite: str) -> None:
    with OpensshPeer("-P", "posix-rename") as peer:
        connector = connector_to(peer, overwrite=overwrite, filename="{report}{suffix}")
        if overwrite == "replace":
            (peer.root / "R000000001.hpr").write_bytes(b"d'un autre")
        deliver(connector, delivery_to(""))
        assert names(peer) == ["R000000001.hpr"]
        assert (peer.root / "R000000001.hpr").read_bytes() == RENDITION.content


def test_server_that_denies_plain_rename_is_served_all_the_same() -> None:
    with OpensshPeer("-P", "rename") as peer:
        delivery = delivery_to("")
        deliver(connector_to(peer), delivery)
        assert names(peer) == [f"{delivery.id}.hpr"]


def test_read_only_server_makes_the_channel_wait() -> None:
    with OpensshPeer("-R") as peer:
        with pytest.raises(TemporaryFailure) as caught:
            deliver(connector_to(peer), delivery_to(""))
        assert (caught.value.code, caught.value.scope) == ("permission", "channel")


def test_missing_directory_is_named(peer: OpensshPeer) -> None:
    with pytest.raises(TemporaryFailure) as caught:
        deliver(connector_to(peer, directory="absent"), delivery_to(""))
    assert caught.value.code == "no-directory"
    with pytest.raises(PermanentFailure) as caught_address:
        deliver(connector_to(peer), delivery_to("inconnu"))
    assert caught_address.value.code == "no-directory"


def test_another_host_key_is_refused(peer: OpensshPeer) -> None:
    with pytest.raises(PermanentFailure) as caught:
        deliver(connector_to(peer, host_key=("SHA256:" + "A" * 43,)), delivery_to(""))
    assert caught.value.code == "host-key"
    assert peer.fingerprint in caught.value.words


def test_stopped_server_process_ends_in_a_timeout_not_in_a_wait(peer: OpensshPeer) -> None:
    """SIGSTOP on our own connection's process: the line is open and silent."""
    connector = connector_to(peer, timeout=0.5)

    async def scenario() -> DeliveryError:
        await connector.deliver(delivery_to(""), [RENDITION], no_commitment)
        sessions = children_of(peer.process_id)
        for child in sessions:
            os.kill(child, signal.SIGSTOP)
        try:
            with pytest.raises(TemporaryFailure) as caught:
                await connector.deliver(delivery_to(""), [RENDITION], no_commitment)
        finally:
            for child in sessions:
                os.kill(child, signal.SIGCONT)
        return caught.value

    assert in_one_loop(connector, scenario).code == "timeout"


def children_of(parent: int) -> list[int]:
    """Every process below ``parent``, which is our own sshd."""
    found = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(parent)], capture_output=True, text=True, check=False
    ).stdout.split()
    return [int(pid) for pid in found] + [g for pid in found for g in children_of(int(pid))]


def test_reader_never_meets_a_half_file_or_a_marker_alone(peer: OpensshPeer) -> None:
    """A reader lists the folder without pause during 300 uploads (sheet §6.2)."""
    connector = connector_to(peer, atomic="rename+marker")
    contents = [b"%04d DURAND-TEST\r\n" % n * 3000 for n in range(300)]
    wrong: list[str] = []
    stop = threading.Event()
    looks = watch(peer.root, len(contents[0]), wrong, stop)

    async def many() -> None:
        places = asyncio.Semaphore(16)

        async def one(content: bytes) -> None:
            async with places:
                rendition = replace(RENDITION, content=content)
                await connector.deliver(delivery_to(""), [rendition], no_commitment)

        await asyncio.gather(*(one(content) for content in contents))

    in_one_loop(connector, many)
    stop.set()
    assert looks() > 20
    assert wrong == []
    assert sorted(p.read_bytes() for p in peer.root.glob("*.hpr")) == contents


def watch(folder: Path, size: int, wrong: list[str], stop: threading.Event) -> Callable[[], int]:
    """Start the reader; the returned function waits for its end and tells how often it looked."""
    looks = 0

    def read() -> None:
        nonlocal looks
        while not stop.wait(0.003):
            looks += 1
            for name in [path.name for path in folder.iterdir()]:
                if name.endswith(".hpr") and (folder / name).stat().st_size != size:
                    wrong.append(f"size of {name}")
                # A listing is no snapshot: the file is looked for once more.
                if name.endswith(".ok") and not (folder / name.removesuffix(".ok")).exists():
                    wrong.append(f"{name} alone")

    thread = threading.Thread(target=read)
    thread.start()

    def joined() -> int:
        thread.join()
        return looks

    return joined
