"""The directory queue on a real file system: names, readiness, claims, refusals."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlx import spool
from dlx.errors import StoreError

NOW = datetime(2026, 3, 9, 8, 0, tzinfo=UTC)


@pytest.fixture
def rooms(tmp_path: Path) -> spool.Rooms:
    for name in ("in", "claimed", "reject"):
        (tmp_path / name).mkdir()
    return spool.Rooms(claimed=tmp_path / "claimed", reject=tmp_path / "reject")


def pickup(rooms: spool.Rooms, **more: object) -> spool.Pickup:
    folder = rooms.claimed.with_name("in")
    return spool.Pickup(name="sil", directory=folder, rooms=rooms, **more)  # type: ignore[arg-type]


def claimed(rooms: spool.Rooms, name: str, content: bytes) -> spool.Claimed:
    (rooms.claimed.with_name("in") / name).write_bytes(content)
    (one,) = pickup(rooms).claim([name])
    return one


def test_claim_ids_are_unique_and_sort_by_time() -> None:
    ids = [spool.claim_id() for _ in range(2000)]
    assert sorted(set(ids)) == ids
    assert {len(id) for id in ids} == {19}


@given(st.binary(min_size=1, max_size=255).filter(lambda b: b"/" not in b and b"\0" not in b))
@settings(max_examples=200)
def test_any_name_becomes_a_safe_one(raw: bytes) -> None:
    name = os.fsdecode(raw)
    safe = spool.reduced(name)
    assert 0 < len(safe.encode()) <= 100
    assert set(safe) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")
    assert safe not in (".", "..") and not safe.startswith(".")
    spool.shown_name(name).encode()  # can be stored


def test_names_are_taken_oldest_first_and_unfinished_ones_left(rooms: spool.Rooms) -> None:
    folder = rooms.claimed.with_name("in")
    for rank, name in enumerate(["b.hl7", "a.hl7", ".cache", "x.tmp", "y.PART", "z.why"]):
        (folder / name).write_bytes(b"x")
        os.utime(folder / name, ns=(rank, rank))
    assert pickup(rooms).scan(0.0) == ["b.hl7", "a.hl7"]
    assert pickup(rooms, pattern="*.HPR").scan(0.0) == []
    assert pickup(rooms, pattern="A.*").scan(0.0) == ["a.hl7"]


def test_quiet_needs_the_same_size_and_time_for_long_enough(rooms: spool.Rooms) -> None:
    path = rooms.claimed.with_name("in") / "a.hl7"
    path.write_bytes(b"1")
    queue = pickup(rooms, ready=spool.Ready(rule="quiet", quiet_seconds=10))
    assert queue.scan(0.0) == [] and queue.scan(9.9) == []
    path.write_bytes(b"12")
    assert queue.scan(10.1) == [] and queue.scan(20.0) == []
    assert queue.scan(20.2) == ["a.hl7"]


def test_lone_markers_and_lone_files_are_told_after_a_while(rooms: spool.Rooms) -> None:
    folder = rooms.claimed.with_name("in")
    for name in ("a.hl7", "a.ok", "b.hl7", "c.ok", "d.hl7", "d.hl7.ok"):
        (folder / name).write_bytes(b"x")
        os.utime(folder / name, (0, 0))
    queue = pickup(rooms, ready=spool.Ready(rule="marker"))
    assert queue.lone_markers(900, NOW) == ["b.hl7", "c.ok"]
    os.utime(folder / "b.hl7", (NOW.timestamp(), NOW.timestamp()))
    assert queue.lone_markers(900, NOW) == ["c.ok"]
    assert pickup(rooms).lone_markers(900, NOW) == []


def test_two_stations_cannot_claim_one_file(rooms: spool.Rooms) -> None:
    (rooms.claimed.with_name("in") / "a.hl7").write_bytes(b"x")
    assert len(pickup(rooms).claim(["a.hl7"])) == 1
    assert pickup(rooms).claim(["a.hl7"]) == []


def test_claimed_file_remembers_its_pickup_and_its_name(rooms: spool.Rooms) -> None:
    claimed(rooms, "compte rendu~1.hl7", b"x")
    (found,) = spool.claimed_files(rooms.claimed, "autre")
    assert (found.pickup, found.original_name) == ("sil", "compte_rendu_1.hl7")


def test_read_hashes_what_it_returns(rooms: spool.Rooms) -> None:
    content = pickup(rooms).read(claimed(rooms, "a.hl7", b"abc"))
    assert content.data == b"abc"
    assert content.sha256.startswith("ba7816bf8f01cfea")


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda p, o: p.symlink_to(o), "not_plain_file"),
        (lambda p, o: os.mkfifo(p), "not_plain_file"),
        (lambda p, o: p.mkdir(), "not_plain_file"),
        (lambda p, o: os.link(o, p), "not_plain_file"),
        (lambda p, o: p.write_bytes(b""), "empty"),
        (lambda p, o: p.write_bytes(b"\r\n\x1a\x00"), "empty"),
        (lambda p, o: p.write_bytes(b"x" * 101), "too_large"),
    ],
)
def test_what_is_no_report_file_is_unfit(
    rooms: spool.Rooms, tmp_path: Path, make: object, code: str
) -> None:
    other = tmp_path / "autre"
    other.write_bytes(b"secret")
    make(rooms.claimed.with_name("in") / "a.hl7", other)  # type: ignore[operator]
    queue = pickup(rooms, max_bytes=100)
    (one,) = queue.claim(["a.hl7"])
    with pytest.raises(spool.Unfit) as caught:
        queue.read(one)
    assert caught.value.code == code
    assert other.read_bytes() == b"secret"


@pytest.mark.root
def test_file_the_station_may_not_read_is_unfit_and_does_not_stop_it(rooms: spool.Rooms) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to become somebody else")
    one = claimed(rooms, "a.hl7", b"x")
    one.path.chmod(0)
    for folder in (one.path.parent, *one.path.parents):
        if "pytest" in str(folder):
            folder.chmod(0o755)
    os.seteuid(65534)
    try:
        with pytest.raises(spool.Unfit) as caught:
            spool.read(one, max_bytes=100)
    finally:
        os.seteuid(0)
    assert caught.value.code == "not_readable"


def test_refusal_lies_beside_its_file_and_may_be_repeated_after_a_crash(
    rooms: spool.Rooms,
) -> None:
    one = claimed(rooms, "a\x1b.hl7", b"rien")
    why = spool.Why(code="unknown_format", message="format non reconnu", line=3)
    path = spool.reject(one, why, rooms.reject, NOW, sha256="ab")
    assert path.read_bytes() == b"rien"
    facts = json.loads(path.with_name(path.name + ".why").read_text())
    assert facts["code"] == "unknown_format" and facts["original_name"] == "a\\x1b.hl7"
    path.rename(one.path)  # as if it had died between the reason and the move
    assert spool.reject(one, why, rooms.reject, NOW) == path
    (found,) = spool.rejected_files(rooms.reject)
    assert found.facts["place"] == "ligne 3"


def test_unfinished_reason_is_not_shown(rooms: spool.Rooms) -> None:
    (rooms.reject / ".tmp-12-x.why").write_text("{}")
    (rooms.reject / "x.why").write_text("{coupé")
    assert spool.rejected_files(rooms.reject) == []
    assert spool.finish_leftovers(rooms.reject) == 1


def test_given_back_file_finds_a_free_name(rooms: spool.Rooms) -> None:
    one = claimed(rooms, "a.hl7", b"rien")
    spool.reject(one, spool.Why(code="c", message="m"), rooms.reject, NOW)
    inbox = rooms.claimed.with_name("in")
    (inbox / "a.hl7").write_bytes(b"un autre")
    spool.give_back(spool.rejected_files(rooms.reject)[0], inbox)
    assert (inbox / "a.hl7").read_bytes() == b"un autre"
    assert (inbox / "1-a.hl7").read_bytes() == b"rien"
    assert os.listdir(rooms.reject) == []


def test_rooms_on_another_mount_are_refused_at_start(tmp_path: Path) -> None:
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("no second mount")
    rooms = spool.Rooms(claimed=memory, reject=memory)
    with pytest.raises(StoreError, match="même montage"):
        rooms.prove([tmp_path])
    assert os.listdir(tmp_path) == []
