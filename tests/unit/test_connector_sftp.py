"""The sftp channel keeps every promise of a connector, and those of a careful courier."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from connectors.sftp import SftpConnector, SftpSettings
from dlx.contracts import SecretFile
from dlx.delivery import Accepted, Delivery
from dlx.errors import DeliveryError, InDoubt, PermanentFailure, TemporaryFailure
from dlx.testing.connector_contract import (
    LARGE_RENDITION,
    RENDITION,
    SECOND_RENDITION,
    Commitment,
    ConnectorContract,
    delivery_to,
    in_one_loop,
    no_commitment,
)
from dlx.testing.peers.sftp import SftpPeer

Build = Callable[..., SftpConnector]


@pytest.fixture
def peer(tmp_path: Path) -> Iterator[SftpPeer]:
    server = SftpPeer(tmp_path / "clinic").start()
    yield server
    server.stop()


@pytest.fixture
def build(peer: SftpPeer, tmp_path: Path) -> Build:
    key = SecretFile("key:sftp", peer.write_client_key(tmp_path / "client_key"))

    def built(**settings: Any) -> SftpConnector:
        values: dict[str, Any] = {
            "host": "127.0.0.1",
            "port": peer.port,
            "user": peer.user,
            "host_key": (peer.fingerprint,),
            "identity": key,
            "timeout": 5.0,
        }
        return SftpConnector(SftpSettings(**(values | settings)))

    return built


@pytest.fixture
def connector(build: Build) -> SftpConnector:
    return build()


class TestSftp(ConnectorContract):
    """Everything is inherited; the fixtures say which peer."""


class TestSftpWithMarkers(ConnectorContract):
    """The same promises with temporary names in another folder and a marker after each file."""

    @pytest.fixture
    def connector(self, build: Build, peer: SftpPeer) -> SftpConnector:
        (peer.root / "tmp").mkdir()
        return build(atomic="rename+marker", temporary="dir", marker_content="sum")


def deliver(connector: SftpConnector, delivery: Delivery, *renditions: Any) -> Accepted:
    contents = renditions or (RENDITION,)
    return in_one_loop(connector, lambda: connector.deliver(delivery, contents, no_commitment))


def failure(connector: SftpConnector, delivery: Delivery | None = None) -> DeliveryError:
    with pytest.raises(DeliveryError) as caught:
        deliver(connector, delivery or delivery_to(""))
    return caught.value


# — who is at the other end —


def test_changed_host_key_is_permanent_and_stops_the_channel(
    connector: SftpConnector, peer: SftpPeer
) -> None:
    """A changed key may be an attack: never retried without a person."""
    deliver(connector, delivery_to(""))
    peer.change_host_key()
    error = failure(connector)
    assert isinstance(error, PermanentFailure)
    assert (error.code, error.scope) == ("host-key", "channel")
    assert peer.fingerprint in error.words
    assert peer.handshakes == 1  # we never logged in there


def test_whole_public_key_is_a_pin_too(build: Build, peer: SftpPeer) -> None:
    line = peer.host_keys[0].export_public_key("openssh").decode().strip()
    assert deliver(build(host_key=(line,)), delivery_to("")).proven


def test_server_with_several_keys_is_asked_for_the_pinned_one(build: Build, peer: SftpPeer) -> None:
    other = asyncssh.generate_private_key("ecdsa-sha2-nistp256")
    peer.go_down()
    peer.host_keys.append(other)
    peer.come_back()
    assert deliver(build(host_key=(other.get_fingerprint(),)), delivery_to("")).proven
    line = other.export_public_key("openssh").decode().strip()
    assert deliver(build(host_key=(line,)), delivery_to("")).proven


def test_pins_count_only_between_their_dates(build: Build, peer: SftpPeer) -> None:
    expired = build(host_key=(f"{peer.fingerprint} until=2020-01-01",))
    assert failure(expired).code == "host-key"
    future = build(host_key=(f"{peer.fingerprint} from=2999-01-01",))
    assert failure(future).code == "host-key"
    change_over = build(
        host_key=("SHA256:" + "A" * 43, f"{peer.fingerprint} from=2020-01-01 until=2999-01-01")
    )
    assert deliver(change_over, delivery_to("")).proven


def test_refused_key_waits_and_says_whom_to_call(
    build: Build, peer: SftpPeer, tmp_path: Path
) -> None:
    path = tmp_path / "other"
    path.write_bytes(asyncssh.generate_private_key("ssh-ed25519").export_private_key())
    path.chmod(0o600)
    error = failure(build(identity=SecretFile("key:other", path)))
    assert isinstance(error, TemporaryFailure)
    assert (error.code, error.scope) == ("auth", "channel")


def test_check_names_every_mistake(build: Build, tmp_path: Path) -> None:
    assert build().check() == []
    loose = tmp_path / "loose"
    loose.write_bytes(b"secret")
    loose.chmod(0o644)
    wrong = build(
        host_key=("AA:BB", f"SHA256:{'A' * 43} until=demain"),
        identity=SecretFile("key:loose", loose),
        password=SecretFile("file:pw", loose),
        connections=9,
        mode="rw",
        temporary="dir",
        temporary_text="../x",
    ).check()
    for word in ("empreinte", "date", "key:loose", "file:pw", "connections", "octal", "../x"):
        assert any(word in problem for problem in wrong), word
    assert any("attention" in problem for problem in wrong)


def test_small_rsa_key_is_reported(build: Build, tmp_path: Path) -> None:
    path = tmp_path / "rsa"
    key = asyncssh.generate_private_key("ssh-rsa", key_size=2048)
    path.write_bytes(key.export_private_key("pkcs1-pem"))
    path.chmod(0o600)
    assert any("2048" in p for p in build(identity=SecretFile("key:rsa", path)).check())


# — the line —


def test_socket_does_not_wait_for_delayed_acknowledgements(
    connector: SftpConnector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without TCP_NODELAY every file costs about 40 ms."""
    opened: list[socket.socket] = []
    real = socket.create_connection

    def watched(*args: Any, **options: Any) -> socket.socket:
        opened.append(real(*args, **options))
        return opened[-1]

    monkeypatch.setattr(socket, "create_connection", watched)

    async def scenario() -> None:
        await connector.deliver(delivery_to(""), [RENDITION], no_commitment)
        assert opened[0].getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

    in_one_loop(connector, scenario)
    assert len(opened) == 1


def test_one_login_serves_many_files(connector: SftpConnector, peer: SftpPeer) -> None:
    async def many() -> None:
        for _ in range(10):
            await asyncio.gather(
                *(connector.deliver(delivery_to(""), [RENDITION], no_commitment) for _ in range(10))
            )

    in_one_loop(connector, many)
    assert len(peer.received()) == 100
    assert peer.handshakes == 1


def test_long_queue_opens_more_lines_up_to_the_limit(build: Build, peer: SftpPeer) -> None:
    connector = build(connections=3)
    go = asyncio.Event()

    async def many() -> None:
        tasks = [
            asyncio.ensure_future(connector.deliver(delivery_to(""), [RENDITION], go.wait))
            for _ in range(60)
        ]
        go.set()
        await asyncio.gather(*tasks)

    in_one_loop(connector, many)
    assert len(peer.received()) == 60
    assert peer.handshakes == 3


def test_idle_line_is_closed_and_opened_again(build: Build, peer: SftpPeer) -> None:
    connector = build(idle=0.01)

    async def scenario() -> None:
        await connector.deliver(delivery_to(""), [RENDITION], no_commitment)
        async with asyncio.timeout(5):
            while peer.open_connections:
                await asyncio.sleep(0.01)
        await connector.deliver(delivery_to(""), [RENDITION], no_commitment)

    in_one_loop(connector, scenario)
    assert peer.handshakes == 2


def test_frozen_server_is_left_after_the_time_limit_and_the_loop_stays_free(
    build: Build, peer: SftpPeer
) -> None:
    connector = build(timeout=0.3)
    turns = 0

    async def scenario() -> None:
        nonlocal turns
        await connector.deliver(delivery_to(""), [RENDITION], no_commitment)
        peer.freeze()
        stuck = asyncio.ensure_future(
            connector.deliver(delivery_to(""), [RENDITION], no_commitment)
        )
        while not stuck.done():
            turns += 1
            await asyncio.sleep(0.01)
        peer.thaw()
        with pytest.raises(TemporaryFailure) as caught:
            await stuck
        assert caught.value.code == "timeout"

    in_one_loop(connector, scenario)
    assert turns > 5


def test_cancelled_delivery_does_not_harm_the_next(
    connector: SftpConnector, peer: SftpPeer
) -> None:
    delivery = delivery_to("")

    async def scenario() -> None:
        first = asyncio.ensure_future(connector.deliver(delivery, [LARGE_RENDITION], no_commitment))
        await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        await connector.deliver(delivery, [LARGE_RENDITION], no_commitment)

    in_one_loop(connector, scenario)
    assert peer.received() == [LARGE_RENDITION.content]
    assert peer.leftovers() == []


# — what the server can and cannot —


@pytest.mark.parametrize("overwrite", ["refuse", "replace", "unique"])
@pytest.mark.parametrize("posix_rename", [True, False])
def test_name_taken_by_another_content(
    build: Build, peer: SftpPeer, overwrite: str, posix_rename: bool
) -> None:
    peer.posix_rename = posix_rename
    connector = build(overwrite=overwrite, filename="{report}{suffix}")
    (peer.root / "R000000001.hpr").write_bytes(b"d'un autre")
    delivery = delivery_to("", id="D00000UNI")
    if overwrite == "refuse":
        error = failure(connector, delivery)
        assert isinstance(error, PermanentFailure)
        assert error.code == "name-taken"
        assert peer.received() == [b"d'un autre"]
    else:
        first, second = deliver(connector, delivery), deliver(connector, delivery)
        assert first.remote_id == second.remote_id
        kept = [b"d'un autre"] if overwrite == "unique" else []
        assert sorted(peer.received()) == sorted([RENDITION.content, *kept])
    assert peer.leftovers() == []


def test_name_taken_while_committing_is_not_overwritten(
    connector: SftpConnector, peer: SftpPeer
) -> None:
    delivery = delivery_to("")
    taken = peer.root / f"{delivery.id}.pdf"

    async def somebody_else_is_quicker() -> None:
        taken.write_bytes(b"d'un autre")

    with pytest.raises(PermanentFailure) as caught:
        in_one_loop(
            connector,
            lambda: connector.deliver(
                delivery, [RENDITION, SECOND_RENDITION], somebody_else_is_quicker
            ),
        )
    assert caught.value.code == "name-taken"
    assert peer.received() == [b"d'un autre"]
    assert peer.leftovers() == []


def test_server_flushes_to_disk_when_it_can(build: Build, peer: SftpPeer) -> None:
    deliver(build(), delivery_to(""))
    assert peer.fsyncs == 1
    deliver(build(fsync="off"), delivery_to(""))
    assert peer.fsyncs == 1


def test_missing_fsync_matters_only_when_required(build: Build, peer: SftpPeer) -> None:
    peer.fsync = False
    assert deliver(build(), delivery_to("")).proven
    assert isinstance(failure(build(fsync="require")), TemporaryFailure)
    assert len(peer.received()) == 1


def test_read_only_server_makes_the_channel_wait(connector: SftpConnector, peer: SftpPeer) -> None:
    peer.read_only = True
    error = failure(connector)
    assert isinstance(error, TemporaryFailure)
    assert (error.code, error.scope) == ("permission", "channel")


def test_full_disk_over_there_has_its_own_word(connector: SftpConnector, peer: SftpPeer) -> None:
    peer.full = True
    error = failure(connector)
    assert isinstance(error, TemporaryFailure)
    assert (error.code, error.scope) == ("disk-full", "channel")
    assert peer.files() == []


def test_missing_base_directory_makes_the_channel_wait(build: Build) -> None:
    error = failure(build(directory="absent"))
    assert isinstance(error, TemporaryFailure)
    assert (error.code, error.scope) == ("no-directory", "channel")


@pytest.mark.parametrize("temporary", ["suffix", "prefix", "dir"])
@pytest.mark.parametrize("atomic", ["rename", "marker", "rename+marker"])
def test_every_way_of_telling_a_whole_file(
    build: Build, peer: SftpPeer, temporary: str, atomic: str
) -> None:
    (peer.root / "tmp").mkdir()
    connector = build(temporary=temporary, atomic=atomic, marker_content="sum", mode="640")
    delivery = delivery_to("clinique-a", id="D00000WAY")
    accepted = deliver(connector, delivery, RENDITION, SECOND_RENDITION)
    repeated = deliver(connector, delivery, RENDITION, SECOND_RENDITION)
    assert accepted.remote_id == repeated.remote_id == "clinique-a/D00000WAY.hpr"
    names = {str(p.relative_to(peer.root)) for p in peer.files()}
    wanted = {"clinique-a/D00000WAY.hpr", "clinique-a/D00000WAY.pdf"}
    assert names == wanted | ({f"{n}.ok" for n in wanted} if atomic != "rename" else set())
    assert (peer.root / accepted.remote_id).stat().st_mode & 0o777 == 0o640
    if atomic != "rename":
        told = (peer.root / f"{accepted.remote_id}.ok").read_text()
        expected = f"D00000WAY.hpr;{len(RENDITION.content)};{RENDITION.sha256}\n"
        assert told == expected


def test_marker_mode_replaces_our_own_half_file_but_nobody_elses(
    build: Build, peer: SftpPeer
) -> None:
    delivery = delivery_to("")
    (peer.root / f"{delivery.id}.hpr").write_bytes(RENDITION.content[:10])
    deliver(build(atomic="marker"), delivery)
    assert peer.received() == [RENDITION.content]
    (peer.root / "R000000001.hpr").write_bytes(b"d'un autre")
    error = failure(build(atomic="marker", filename="{report}{suffix}"))
    assert error.code == "name-taken"
    assert (peer.root / "R000000001.hpr").read_bytes() == b"d'un autre"


def test_large_upload_goes_on_where_it_was_cut(connector: SftpConnector, peer: SftpPeer) -> None:
    delivery = delivery_to("")
    half = LARGE_RENDITION.content[:1_500_000]
    (peer.root / f"{delivery.id}.pdf.tmp").write_bytes(half)
    blocks = 0

    def count(moment: str, path: str) -> None:
        nonlocal blocks
        blocks += moment == "write"

    peer.on = count
    deliver(connector, delivery, LARGE_RENDITION)
    assert peer.received() == [LARGE_RENDITION.content]
    assert blocks < 40  # of 79


def test_large_upload_starts_over_when_the_rest_is_of_another_file(
    connector: SftpConnector, peer: SftpPeer
) -> None:
    delivery = delivery_to("")
    (peer.root / f"{delivery.id}.pdf.tmp").write_bytes(b"z" * 1_500_000)
    deliver(connector, delivery, LARGE_RENDITION)
    assert peer.received() == [LARGE_RENDITION.content]


def test_doubt_about_a_file_the_reader_removes_is_left_to_a_person(
    build: Build, peer: SftpPeer
) -> None:
    doubtful = replace(delivery_to(""), doubts=1)
    connector = build(reader_removes=True)
    commitment = Commitment(peer)
    with pytest.raises(InDoubt) as caught:
        in_one_loop(connector, lambda: connector.deliver(doubtful, [RENDITION], commitment))
    assert caught.value.code == "looked-gone"
    assert commitment.times == 1
    assert peer.files() == []
    assert deliver(build(), doubtful).proven
