"""The folder channel keeps every promise of a connector, and a few of its own."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import signal
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors._naming import SAFE_NAME, named_files
from connectors.folder import FolderConnector, FolderSettings
from dlx import durable
from dlx.delivery import Accepted, Delivery
from dlx.errors import InDoubt, PermanentFailure, TemporaryFailure
from dlx.testing.connector_contract import (
    RENDITION,
    SECOND_RENDITION,
    Commitment,
    ConnectorContract,
    delivery_to,
    in_one_loop,
    no_commitment,
)


class FolderPeer:
    """A clinic that reads a folder: it sees what does not begin with a dot."""

    good_address = "clinique-a"
    bad_address: str | None = "clinique-inconnue"

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / self.good_address).mkdir(parents=True)

    def files(self) -> list[Path]:
        return [p for p in self.root.rglob("*") if p.is_file() and p.suffix != ".ok"]

    def received(self) -> list[bytes]:
        return [p.read_bytes() for p in self.files() if not p.name.startswith(".")]

    def identities(self) -> list[str]:
        return [str(p) for p in self.files() if not p.name.startswith(".")]

    def visible_text(self) -> str:
        return "\n".join(p.name for p in self.root.rglob("*"))

    def leftovers(self) -> list[str]:
        return [p.name for p in self.files() if p.name.startswith(".")]

    def go_down(self) -> None:
        """The mount goes away."""
        self.root.rename(self.root.with_name("elsewhere"))

    def come_back(self) -> None:
        self.root.with_name("elsewhere").rename(self.root)

    def cut_next(self) -> None:
        pytest.skip("a local write is not cut; full disks and kills have their own tests")


@pytest.fixture
def peer(tmp_path: Path) -> FolderPeer:
    return FolderPeer(tmp_path / "out")


@pytest.fixture
def connector(peer: FolderPeer) -> FolderConnector:
    return FolderConnector(FolderSettings(directory=peer.root))


class TestFolder(ConnectorContract):
    """Everything is inherited; the fixtures say which folder."""


class TestFolderWithMarker(ConnectorContract):
    """The same promises when the reader waits for a marker."""

    @pytest.fixture
    def connector(self, peer: FolderPeer) -> FolderConnector:
        return FolderConnector(FolderSettings(directory=peer.root, marker=".ok"))


def deliver(connector: FolderConnector, delivery: Delivery) -> Accepted:
    return in_one_loop(connector, lambda: connector.deliver(delivery, [RENDITION], no_commitment))


def test_deposit_is_proof_and_names_its_final_path(
    connector: FolderConnector, peer: FolderPeer
) -> None:
    accepted = in_one_loop(
        connector,
        lambda: connector.deliver(delivery_to("", id="D00000ABC"), [RENDITION], no_commitment),
    )
    assert accepted.proven
    assert accepted.remote_id == str(peer.root / "D00000ABC.hpr")


def test_markers_are_empty_and_come_after_their_files(
    peer: FolderPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    connector = FolderConnector(FolderSettings(directory=peer.root, marker=".ok"))
    order: list[str] = []
    real = durable.rename_new

    def watched(source: Path, target: Path) -> None:
        real(source, target)
        order.append(target.suffix)

    monkeypatch.setattr(durable, "rename_new", watched)
    in_one_loop(
        connector,
        lambda: connector.deliver(delivery_to(""), [RENDITION, SECOND_RENDITION], no_commitment),
    )
    assert order == [".hpr", ".pdf", ".ok", ".ok"]
    assert {p.stat().st_size for p in peer.root.glob("*.ok")} == {0}


def test_template_builds_the_name_and_tells_equal_suffixes_apart(peer: FolderPeer) -> None:
    settings = FolderSettings(
        directory=peer.root, filename="{establishment.finess}_{report.ref}_v{version}.{ext}"
    )
    connector = FolderConnector(settings)
    delivery = delivery_to("", options={"finess": "017777764"})
    other = replace(RENDITION, content=b"DURAND-TEST autre")
    in_one_loop(connector, lambda: connector.deliver(delivery, [RENDITION, other], no_commitment))
    assert sorted(p.name for p in peer.files()) == [
        "017777764_R000000001_v1-2.hpr",
        "017777764_R000000001_v1.hpr",
    ]


def test_name_taken_by_another_content_is_permanent_and_keeps_that_file(
    connector: FolderConnector, peer: FolderPeer
) -> None:
    delivery = delivery_to("")
    taken = peer.root / f"{delivery.id}.hpr"
    taken.write_bytes(b"d'un autre")
    commitment = Commitment(peer)
    with pytest.raises(PermanentFailure) as caught:
        in_one_loop(
            connector,
            lambda: connector.deliver(delivery, [SECOND_RENDITION, RENDITION], commitment),
        )
    assert caught.value.code == "name-taken"
    assert taken.read_bytes() == b"d'un autre"
    assert [p.name for p in peer.files()] == [taken.name]
    assert commitment.times == 0


def test_name_taken_while_committing_is_never_overwritten_and_all_is_taken_back(
    connector: FolderConnector, peer: FolderPeer
) -> None:
    delivery = delivery_to("")
    taken = peer.root / f"{delivery.id}.pdf"

    async def somebody_else_is_quicker() -> None:
        taken.write_bytes(b"d'un autre")

    with pytest.raises(PermanentFailure, match="existe déjà"):
        in_one_loop(
            connector,
            lambda: connector.deliver(
                delivery, [RENDITION, SECOND_RENDITION], somebody_else_is_quicker
            ),
        )
    assert peer.received() == [b"d'un autre"]
    assert peer.leftovers() == []


def test_symbolic_link_under_the_final_name_is_not_followed(
    connector: FolderConnector, peer: FolderPeer, tmp_path: Path
) -> None:
    delivery = delivery_to("")
    (tmp_path / "elsewhere.hpr").write_bytes(RENDITION.content)
    (peer.root / f"{delivery.id}.hpr").symlink_to(tmp_path / "elsewhere.hpr")
    with pytest.raises(PermanentFailure) as caught:
        deliver(connector, delivery)
    assert caught.value.code == "name-taken"


@pytest.mark.parametrize("address", ["..", "a/../../b", "/etc", "a b", ".cache", "a//b"])
def test_address_never_leaves_the_folder(
    connector: FolderConnector, peer: FolderPeer, address: str
) -> None:
    assert connector.check_address(address, {})
    with pytest.raises(PermanentFailure):
        deliver(connector, delivery_to(address))
    assert peer.received() == []


def test_link_out_of_the_folder_is_refused(
    connector: FolderConnector, peer: FolderPeer, tmp_path: Path
) -> None:
    (tmp_path / "outside").mkdir()
    (peer.root / "sortie").symlink_to(tmp_path / "outside")
    with pytest.raises(PermanentFailure) as caught:
        deliver(connector, delivery_to("sortie"))
    assert caught.value.code == "bad-address"


def test_full_disk_is_temporary_and_leaves_nothing(
    connector: FolderConnector, peer: FolderPeer
) -> None:
    """A file size limit makes write() fail in the middle as a full disk does."""
    big = replace(RENDITION, content=b"x" * 200_000)
    delivery = delivery_to("")
    commitment = Commitment(peer)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(TemporaryFailure) as caught:
            in_one_loop(
                connector, lambda: connector.deliver(delivery, [RENDITION, big], commitment)
            )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (caught.value.code, caught.value.scope) == ("disk-full", "channel")
    assert peer.files() == []
    assert commitment.times == 0


def test_failed_fsync_of_a_temporary_file_is_tried_anew_not_fatal(
    connector: FolderConnector, peer: FolderPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file was only temporary; the next attempt writes it again from the archive."""

    def refused(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", refused)
        with pytest.raises(TemporaryFailure) as caught:
            deliver(connector, delivery_to(""))
    assert caught.value.code == "disk-full"
    assert peer.files() == []


def test_unconfirmed_folder_fsync_leaves_a_doubt_that_the_next_attempt_settles(
    connector: FolderConnector, peer: FolderPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    delivery = delivery_to("")
    real = os.fsync

    def folders_refused(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(descriptor)

    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", folders_refused)
        with pytest.raises(InDoubt):
            deliver(connector, delivery)
    assert deliver(connector, delivery).proven
    assert peer.received() == [RENDITION.content]


@pytest.mark.parametrize(("point", "visible"), [("folder.part_written", 0), ("folder.renamed", 1)])
def test_killed_delivery_leaves_one_whole_file_after_the_next_attempt(
    peer: FolderPeer, connector: FolderConnector, point: str, visible: int
) -> None:
    """SIGKILL at the two named places (crash points like C16 and C17), then the same again."""
    script = (
        "import asyncio, sys; from pathlib import Path\n"
        "from connectors.folder import FolderConnector, FolderSettings\n"
        "from dlx.testing.connector_contract import RENDITION, delivery_to, no_commitment\n"
        "c = FolderConnector(FolderSettings(directory=Path(sys.argv[1])))\n"
        "asyncio.run(c.deliver(delivery_to('', id='D00000KIL'), [RENDITION], no_commitment))\n"
    )
    killed = subprocess.run(
        [sys.executable, "-c", script, str(peer.root)],
        env={**os.environ, "DLX_FAILPOINT": point},
        cwd=Path(__file__).parents[2],
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    assert peer.received() == [RENDITION.content] * visible
    deliver(connector, delivery_to("", id="D00000KIL"))
    assert peer.received() == [RENDITION.content]
    assert peer.leftovers() == []


@pytest.mark.parametrize(
    ("template", "word"),
    [
        ("{patient}{suffix}", "champ inconnu"),
        ("{delivery.__class__}", "champ inconnu"),
        ("{delivery", "accolades"),
        ("{delivery} é{suffix}", "caractères"),
        ("resultat{suffix}", "même nom"),
    ],
)
def test_check_refuses_templates_that_could_tell_or_collide(
    peer: FolderPeer, template: str, word: str
) -> None:
    connector = FolderConnector(FolderSettings(directory=peer.root, filename=template))
    assert any(word in problem for problem in connector.check())


def test_check_says_when_the_folder_is_missing(tmp_path: Path) -> None:
    assert FolderConnector(FolderSettings(directory=tmp_path)).check() == []
    missing = FolderConnector(FolderSettings(directory=tmp_path / "out", marker="ok"))
    assert len(missing.check()) == 2


@settings(max_examples=60)
@given(
    template=st.text(alphabet="{}deliveryxsufxport. -/\\é", max_size=40),
    recipient=st.text(max_size=20),
)
def test_any_template_gives_a_safe_name_or_a_refusal(template: str, recipient: str) -> None:
    delivery = replace(delivery_to(""), recipient=recipient)
    try:
        files = named_files(template, delivery, [RENDITION, RENDITION])
    except PermanentFailure:
        return
    assert len({file.name for file in files}) == 2
    assert all(SAFE_NAME.fullmatch(file.name) for file in files)


def test_fsync_of_the_folder_is_shared_by_concurrent_deliveries(
    connector: FolderConnector, peer: FolderPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = {"file": 0, "folder": 0}
    real = os.fsync

    def counted(descriptor: int) -> None:
        folder = Path(f"/proc/self/fd/{descriptor}").resolve().is_dir()
        counts["folder" if folder else "file"] += 1
        real(descriptor)

    monkeypatch.setattr(os, "fsync", counted)
    start = asyncio.Event()

    async def together() -> None:
        await asyncio.gather(
            *(connector.deliver(delivery_to(""), [RENDITION], start.wait) for _ in range(50)),
            opened(),
        )

    async def opened() -> None:
        while len(peer.leftovers()) < 50:  # every temporary file is written
            await asyncio.sleep(0)
        start.set()

    in_one_loop(connector, together)
    assert len(peer.received()) == 50
    assert counts["file"] == 50
    assert counts["folder"] <= 3
