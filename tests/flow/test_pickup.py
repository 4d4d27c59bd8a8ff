"""When a drop is complete, what a second drop of the same thing does, versions (reliability §5)."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import House, good, oru, profile

from dlx.report import ReportStatus
from dlx.testing.reports import report_for

pytestmark = pytest.mark.slow

PICKUPS = """\
    ready_when: rename
    correction_wait: 2s
  - name: temoin
    directory: var/spool/dlx/temoin
    ready_when: {marker: .ok}
  - name: calme
    directory: var/spool/dlx/calme
    ready_when: {unchanged_for: 1s}
  - name: strict
    directory: var/spool/dlx/strict
    ready_when: rename
    duplicates: reject
  - name: lot
    directory: var/spool/dlx/lot
    ready_when: rename
    patients: several
"""


@pytest.fixture(scope="module")
def house(build: Callable[[], House]) -> House:
    house = build()
    partial = "    partial: hold-until-final\n"
    house.configure(
        station=house.station_yaml(pickup=PICKUPS),
        channels=house.folder_channel(),
        profiles=profile("dr-bon", "BONA", "cabinet")
        + profile("dr-attend", "ATTE", "cabinet", more=partial),
    )
    return house.start()


def place(house: House, pickup: str, name: str, content: bytes) -> None:
    """Write under the final name, as a simple system does."""
    (house.station.spool / pickup / name).write_bytes(content)


def versions(house: House, number: str) -> dict[int, str]:
    return {d["version"]: d["state"] for d in house.of(number)}


def test_file_waits_for_its_marker_and_takes_it_along(house: House) -> None:
    place(house, "temoin", "a.hl7", oru(good(1, number="MARQUE-1")))
    house.take_one("AUTRE-1", good(2, number="AUTRE-1"))
    assert house.of("MARQUE-1") == []
    place(house, "temoin", "a.hl7.ok", b"")
    house.wait(lambda: versions(house, "MARQUE-1") == {1: "delivered"})
    assert os.listdir(house.station.spool / "temoin") == []


def test_marker_may_come_first_and_may_replace_the_ending(house: House) -> None:
    place(house, "temoin", "b.ok", b"")
    house.take_one("AUTRE-2", good(3, number="AUTRE-2"))
    place(house, "temoin", "b.hl7", oru(good(4, number="MARQUE-2")))
    house.wait(lambda: versions(house, "MARQUE-2") == {1: "delivered"})
    assert os.listdir(house.station.spool / "temoin") == []


def test_lone_marker_and_folder_as_marker_hurt_nobody(house: House) -> None:
    place(house, "temoin", "seul.ok", b"")
    (house.station.spool / "temoin" / "piege.hl7.ok").mkdir()
    place(house, "temoin", "piege.hl7", oru(good(5, number="MARQUE-3")))
    house.take_one("AUTRE-3", good(6, number="AUTRE-3"))
    assert house.of("MARQUE-3") == []
    assert sorted(os.listdir(house.station.spool / "temoin")) == [
        "piege.hl7",
        "piege.hl7.ok",
        "seul.ok",
    ]


def test_slow_writer_is_never_read_before_it_is_quiet(house: House) -> None:
    """Four parts, each within the quiet time of the one before; then nothing for a second."""
    content = oru(good(7, number="LENT-1", results=20))
    path = house.station.spool / "calme" / "lent.hl7"
    quarter = len(content) // 4
    with path.open("wb", buffering=0) as file:
        for n in range(4):
            file.write(content[n * quarter : None if n == 3 else (n + 1) * quarter])
            house.take_one(f"AUTRE-L{n}", good(20 + n, number=f"AUTRE-L{n}"))
            assert house.of("LENT-1") == [] and not path.with_suffix(".why").exists()
    house.wait(lambda: versions(house, "LENT-1") == {1: "delivered"})
    assert "lent.hl7" not in str(house.refusals())


def test_exact_duplicate_is_put_away_with_an_event_and_without_notice(house: House) -> None:
    content = oru(good(30, number="DOUBLE-1"))
    house.take({"un.hl7": content})
    notices = house.notices()
    house.take({"deux.hl7": content, "trois.hl7": content})
    assert versions(house, "DOUBLE-1") == {1: "delivered"}
    assert house.notices() == notices
    assert house.station.log.count("event=duplicate") == 2


def test_exact_duplicate_is_refused_where_the_pickup_says_so(house: House) -> None:
    content = oru(good(31, number="DOUBLE-2"))
    house.take({"encore.hl7": content})
    place(house, "strict", "encore-2.hl7", content)
    assert house.refusal("encore-2.hl7")["code"] == "duplicate"


def test_same_content_under_a_new_message_id_makes_no_second_delivery(house: House) -> None:
    first = oru(good(32, number="REDIT-1"))
    head, _, rest = first.partition(b"\r")
    again = head.replace(b"|P|", b"9|P|", 1) + b"\r" + rest
    assert again != first
    house.take({"redit-1.hl7": first})
    house.take({"redit-2.hl7": again})
    assert versions(house, "REDIT-1") == {1: "delivered"}
    assert "redit-2.hl7" not in str(house.refusals())


def test_held_partial_is_superseded_by_the_final(house: House) -> None:
    house.take({"p.hl7": good(40, "ATTE", number="PART-1", status=ReportStatus.PARTIAL)})
    assert versions(house, "PART-1") == {1: "held"}
    house.take({"f.hl7": good(40, "ATTE", number="PART-1")})
    assert versions(house, "PART-1") == {1: "superseded", 2: "delivered"}


def test_correction_before_its_original_waits_then_leaves(house: House) -> None:
    corrected = good(41, number="CORR-1", status=ReportStatus.CORRECTED)
    house.drop("corr.hl7", corrected)
    house.wait(lambda: versions(house, "CORR-1") == {1: "waiting"})
    house.wait(lambda: versions(house, "CORR-1") == {1: "delivered"})


def test_original_and_correction_dropped_together_leave_in_order(house: House) -> None:
    corrected = good(42, number="CORR-2", status=ReportStatus.CORRECTED)
    house.take({"a-corr.hl7": corrected, "b-orig.hl7": good(42, number="CORR-2")})
    house.rest()
    rows = house.of("CORR-2")
    assert [d["status"] for d in sorted(rows, key=lambda d: d["version"])][-1] == "corrected"
    assert "delivered" in {d["state"] for d in rows if d["status"] == "corrected"}


def test_partial_after_the_final_is_refused_as_outdated(house: House) -> None:
    house.take({"of.hl7": good(43, number="VIEUX-1")})
    house.drop("op.hl7", good(43, number="VIEUX-1", status=ReportStatus.PARTIAL))
    assert house.refusal("op.hl7")["code"] == "outdated"
    assert versions(house, "VIEUX-1") == {1: "delivered"}


def test_other_content_without_a_correction_flag_is_a_conflict(house: House) -> None:
    house.take({"cf.hl7": good(44, number="CONF-1")})
    other = report_for("BONA", seed=44, results=9, number="CONF-1")
    house.drop("cg.hl7", other)
    assert house.refusal("cg.hl7")["code"] == "conflict"
    assert versions(house, "CONF-1") == {1: "delivered"}


def test_cancellation_follows_whoever_got_the_original(house: House) -> None:
    house.take({"an.hl7": good(45, number="ANNUL-1")})
    house.take({"an2.hl7": good(45, number="ANNUL-1", status=ReportStatus.CANCELLED)})
    assert versions(house, "ANNUL-1") == {1: "delivered", 2: "delivered"}


def test_file_in_claimed_is_taken_again_by_the_rules_of_its_own_pickup(
    build: Callable[[], House],
) -> None:
    """Killed between the claim and the reading, then started again: ``lot`` allows two patients,
    the first pickup does not.
    """
    house = build()
    house.configure(
        station=house.station_yaml(pickup=PICKUPS),
        channels=house.folder_channel(),
        profiles=profile("dr-bon", "BONA", "cabinet"),
    )
    house.station.environment["DLX_FAILPOINT"] = "claim.renamed"
    house.start()
    content = oru(good(50, number="LOT-1")) + oru(good(51, number="LOT-2"))
    unfinished = house.station.spool / "lot" / "deux.hl7.tmp"
    unfinished.write_bytes(content)
    unfinished.rename(unfinished.with_suffix(""))
    assert house.station.await_death() == -signal.SIGKILL
    del house.station.environment["DLX_FAILPOINT"]
    house.start()
    house.wait(lambda: versions(house, "LOT-2") == {1: "delivered"})
    assert house.refusals() == []


def test_unlistable_pickup_stops_no_other(build: Callable[[], House]) -> None:
    """A mount that is lost is told and found again; the other pickup goes on."""
    house = build()
    house.configure(
        station=house.station_yaml(pickup=PICKUPS),
        channels=house.folder_channel(),
        profiles=profile("dr-bon", "BONA", "cabinet"),
    )
    house.start()
    lost: Path = house.station.spool / "lot"
    lost.rmdir()
    house.wait(lambda: any("lot" in n["cause"] for n in house.notices("station")))
    house.take_one("RESTE-1", good(60, number="RESTE-1"))
    lost.mkdir()
    house.wait(lambda: not house.notices("station"))
    assert house.dlx("status").code == 0
