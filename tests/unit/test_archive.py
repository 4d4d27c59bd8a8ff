"""Sealed packs: what goes in comes out, and nothing else ever does."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dlx.archive import Archive, MasterKey, Place
from dlx.errors import StoreError

NOW = datetime(2026, 3, 9, 8, 0, tzinfo=UTC)
CONTENTS = [b"DURAND-TEST " * 50, b"", bytes(range(256))]


@pytest.fixture
def master() -> MasterKey:
    return MasterKey(bytes(range(32)))


def test_batch_comes_back_byte_for_byte_from_one_pack(tmp_path: Path, master: MasterKey) -> None:
    archive, key = Archive(tmp_path), master.new_key()
    places = archive.keep([(key, c) for c in CONTENTS], "lot", NOW)
    assert [archive.read(place, key.secret) for place in places] == CONTENTS
    assert len({place.pack for place in places}) == 1 and archive.fsyncs == 2


def test_nothing_readable_lies_on_the_disk(tmp_path: Path, master: MasterKey) -> None:
    Archive(tmp_path).keep([(master.new_key(), CONTENTS[0])], "lot", NOW)
    packs = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert len(packs) == 1 and b"DURAND" not in packs[0].read_bytes()
    assert packs[0].stat().st_mode & 0o077 == 0


def test_same_content_is_sealed_differently_each_time(tmp_path: Path, master: MasterKey) -> None:
    archive, key = Archive(tmp_path), master.new_key()
    one, two = archive.keep([(key, b"x" * 40), (key, b"x" * 40)], "lot", NOW)
    pack = (tmp_path / one.pack).read_bytes()
    assert pack[one.offset :][: one.length] != pack[two.offset :][: two.length]


@pytest.mark.parametrize("position", [0, 4, 20, 32, 36, 60, -1])
def test_any_changed_byte_is_found(tmp_path: Path, master: MasterKey, position: int) -> None:
    archive, key = Archive(tmp_path), master.new_key()
    (place,) = archive.keep([(key, CONTENTS[0])], "lot", NOW)
    path = tmp_path / place.pack
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)
    if 32 <= position < 36:  # the length is also in the ledger, which is what is used
        assert archive.read(place, key.secret) == CONTENTS[0]
        return
    with pytest.raises(StoreError) as caught:
        archive.read(place, key.secret)
    assert "DURAND" not in str(caught.value)


def test_wrong_key_wrong_place_and_missing_pack_are_store_errors(
    tmp_path: Path, master: MasterKey
) -> None:
    archive, key, other = Archive(tmp_path), master.new_key(), master.new_key()
    first, second = archive.keep([(key, b"un"), (key, b"deux")], "lot", NOW)
    wrong: list[tuple[Place, bytes]] = [
        (first, other.secret),
        (replace(first, sha256=second.sha256), key.secret),
        (replace(first, offset=second.offset), key.secret),
        (replace(first, length=first.length - 1), key.secret),
        (replace(first, pack="2026/03/09/autre.pack"), key.secret),
    ]
    for place, secret in wrong:
        with pytest.raises(StoreError):
            archive.read(place, secret)


def test_data_key_opens_with_its_master_only(master: MasterKey) -> None:
    key = master.new_key()
    assert master.unwrap(key.id, key.wrapped) == key.secret
    with pytest.raises(StoreError):
        MasterKey(bytes(32)).unwrap(key.id, key.wrapped)
    with pytest.raises(StoreError):
        master.unwrap(master.new_key().id, key.wrapped)


def test_master_key_is_made_once_and_refused_when_others_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "kek"
    first = MasterKey.load(path)
    assert MasterKey.load(path).id == first.id
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o640)
    with pytest.raises(StoreError, match="chmod 600"):
        MasterKey.load(path)
    assert first.lookup_hash("a") != MasterKey(bytes(32)).lookup_hash("a")
