"""What a reload does to deliveries under way, and what the lack of proof means where none comes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from conftest import House, profile

from dlx.testing.reports import report_for


def test_deliveries_of_a_removed_channel_are_told_and_not_lost(build: Callable[[], House]) -> None:
    house = build()
    first = house.folder_channel("premier") + house.folder_channel("second")
    house.configure(channels=first, profiles=profile("dr-un", "UN", "premier"))
    station = house.start().station
    station.ask("channel.hold", channel="premier", reason="essai")
    house.drop("a.hl7", report_for("UN", seed=1))
    station.wait_for(lambda: [d["state"] for d in station.deliveries()] == ["waiting"])
    house.configure(
        channels=house.folder_channel("second"), profiles=profile("dr-un", "UN", "second")
    )
    station.ask("reload")
    (notice,) = house.notices("channel")
    assert "premier retiré" in notice["cause"] and "1 envois" in notice["cause"]
    assert [d["state"] for d in station.deliveries()] == ["waiting"]
    assert station.stop() == 0


def test_mail_that_was_accepted_is_not_sent_again_by_the_fallback(
    build: Callable[[], House],
) -> None:
    """SMTP brings no later proof in this version: acceptance is the end, not a missing proof."""
    house = build()
    house.with_relay()
    address = house.certify("un")
    fallback = "    if_undelivered: {after: 1s, via: repli}\n"
    house.configure(
        channels=house.mail_channel() + house.folder_channel("repli"),
        profiles=profile("dr-un", "UN", "courriel", to=address, more=fallback),
    )
    station = house.start().station
    house.drop("a.hl7", report_for("UN", seed=2))
    station.wait_for(lambda: [d["state"] for d in station.deliveries()] == ["accepted"])

    def settled_twice() -> bool:  # every 5 s
        moved = datetime.fromisoformat(station.deliveries()[0]["moved_at"])
        return datetime.now(UTC) - moved > timedelta(seconds=11)

    station.wait_for(settled_twice)
    assert len(station.deliveries()) == 1
    assert not list(house.out("repli").iterdir())
    assert station.stop() == 0
