"""Who gets what, seen from the outside: folders, states, notices."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from conftest import House, good, profile

from dlx.demo.scenes import hprim_sante
from dlx.report import ReportStatus

POLICIES = """\
  - name: relecture des urgences
    when: {report.urgent: yes}
    hold: relu par un biologiste
  - name: médecin traitant en copie
    when: {report.has: treating_physician}
    also_to: [treating_physician]
"""


@pytest.fixture(scope="module")
def house(build: Callable[[], House]) -> House:
    house = build()
    today = datetime.now(UTC).date()
    absent = (
        f"    absence:\n      - {{from: {today - timedelta(days=2)},"
        f" until: {today + timedelta(days=2)}, also_to: dr-relais}}\n"
    )
    clinic = "    kind: establishment\n    name: Clinique TEST\n"
    broken = "    if_undelivered: {after: 1h, via: cabinet}\n"
    house.with_relay(known=("personne@medecins.example",))
    gone = house.certify("parti")
    house.configure(
        channels=house.folder_channel() + house.mail_channel(),
        profiles=profile("dr-bon", "BONA", "cabinet")
        + profile("dr-copie", "COPI", "cabinet")
        + profile("dr-absent", "ABSE", "cabinet", more=absent)
        + profile("dr-relais", "RELA", "cabinet")
        + profile("dr-attend", "ATTE", "cabinet", more="    partial: hold-until-final\n")
        + profile("dr-saute", "SAUT", "cabinet", more="    partial: skip\n")
        + profile("clinique-test", "C999", "cabinet", more=clinic)
        + profile("dr-parti", "PART", "courriel", to=gone, more=broken)
        + profile("dr-coupe", "COUP", "cabinet", more="    enabled: no\n"),
        policies=POLICIES,
    )
    return house.start()


def test_copies_each_get_one_delivery(house: House) -> None:
    house.take({"c.hl7": good(1, number="COPIES-1", copies=("COPI", "BONA"))})
    assert house.states("COPIES-1") == {("dr-bon", 1): "delivered", ("dr-copie", 1): "delivered"}
    assert len(house.of("COPIES-1")) == 2, "nobody twice"


def test_establishment_named_in_the_report_gets_it_too(house: House) -> None:
    report = good(10, number="CLIN-1")
    house.take({"SANT0001.HPR": hprim_sante(report)})
    got = {d["recipient"]: d["state"] for d in house.station.deliveries(report="CLIN-1")}
    assert got == {"dr-bon": "delivered", "clinique-test": "delivered"}


def test_locum_receives_too_during_the_absence(house: House) -> None:
    house.take({"a.hl7": good(2, "ABSE", number="ABSENT-1")})
    assert house.states("ABSENT-1") == {
        ("dr-absent", 1): "delivered",
        ("dr-relais", 1): "delivered",
    }


def test_policy_holds_until_a_person_releases(house: House) -> None:
    house.take({"u.hl7": good(3, number="URGENT-1", urgent=True)})
    (held,) = house.of("URGENT-1")
    assert held["state"] == "held" and "biologiste" in held["hold_reason"]
    assert house.dlx("queue", "release", held["id"]).code == 0
    house.wait(lambda: house.states("URGENT-1") == {("dr-bon", 1): "delivered"})


def test_partial_is_held_for_one_and_skipped_for_the_other(house: House) -> None:
    partial = good(
        4, "ATTE", number="PARTIEL-1", status=ReportStatus.PARTIAL, copies=("SAUT", "BONA")
    )
    house.take({"p.hl7": partial})
    assert house.states("PARTIEL-1") == {("dr-attend", 1): "held", ("dr-bon", 1): "delivered"}
    explained = house.dlx("explain", "PARTIEL-1")
    assert "✗ dr-saute" in explained.out and "skip" in explained.out


def test_test_report_never_leaves(house: House) -> None:
    house.take({"t.hl7": good(5, number="ESSAI-1", test=True)})
    assert house.states("ESSAI-1") == {("dr-bon", 1): "held"}
    assert not [p for p in house.out().iterdir() if house.of("ESSAI-1")[0]["id"] in p.name]


def test_unknown_prescriber_opens_one_notice_with_the_command(house: House) -> None:
    house.take({"z.hl7": good(6, "ZZZZ", number="INCONNU-1")})
    assert house.of("INCONNU-1") == []
    (notice,) = [n for n in house.notices("unrouted") if "ZZZZ" in n["cause"]]
    assert (
        notice["command"].startswith("dlx profile new") and "--lis-code ZZZZ" in notice["command"]
    )


def test_known_copy_goes_although_the_prescriber_is_unknown(house: House) -> None:
    house.take({"y.hl7": good(7, "YYYY", number="INCONNU-2", copies=("COPI",))})
    assert house.states("INCONNU-2") == {("dr-copie", 1): "delivered"}
    assert [n for n in house.notices("unrouted") if "YYYY" in n["cause"]]


def test_disabled_profile_is_told_not_silently_dropped(house: House) -> None:
    house.take({"d.hl7": good(8, "COUP", number="COUPE-1")})
    assert house.of("COUPE-1") == []
    assert [n for n in house.notices("unrouted") if "dr-coupe" in n["cause"]]


def test_fallback_channel_carries_what_the_first_refused(house: House) -> None:
    house.take({"f.hl7": good(9, "PART", number="REPLI-1")})
    rows = {d["channel"]: d for d in house.of("REPLI-1")}
    assert rows["courriel"]["state"] == "failed" and rows["cabinet"]["state"] == "delivered"
    (notice,) = [n for n in house.notices("failed") if n["delivery"] == rows["courriel"]["id"]]
    assert "550" in notice["words"]


def test_every_delivery_names_the_line_that_decided(house: House) -> None:
    for one in house.station.deliveries():
        assert ".yaml:" in one["why"] or "repli" in one["why"], one
