"""What the far sides may do, and what becomes of the deliveries."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from conftest import House, good, profile

from dlx.testing.peers.smtp import Answer, SmtpPeer
from dlx.testing.reports import report_for

DOCTORS = 100


@pytest.fixture(scope="module")
def house(build: Callable[[], House]) -> House:
    house = build()
    known = tuple(f"dr{n}@medecins.example" for n in range(DOCTORS) if n != 42)
    house.with_relay(known=known)
    house.with_clinic()
    house.with_alerts()
    first = house.certify("dr0")
    pem = house.station.folder / "certificates" / f"{first}.pem"
    address = {0: first}
    for n in range(1, DOCTORS):
        address[n] = f"dr{n}@medecins.example"
    shared = house.pki.person("dr0@medecins.example", curve=True)
    for n in range(1, DOCTORS):
        one = house.pki.person(address[n], key=shared.key)
        pem.with_name(f"{address[n]}.pem").write_bytes(one.certificate_pem.read_bytes())
    old = house.certify("perime", expired=True)
    brief = "    retry: {first: 1s, factor: 1, max: 1s, give_up: 4s}\n"
    house.configure(
        channels=house.folder_channel()
        + house.mail_channel()
        + house.mail_channel("bref", more=brief)
        + house.clinic_channel(),
        profiles="".join(
            profile(f"dr-{n}", f"D{n:03d}", "courriel", to=address[n]) for n in range(DOCTORS)
        )
        + profile("dr-bref", "BREF", "bref", to=first)
        + profile("dr-perime", "PERI", "courriel", to=old)
        + profile("dr-bon", "BONA", "cabinet")
        + profile("clinique-a", "CLIN", "clinique"),
    )
    return house.start()


def relay(house: House) -> SmtpPeer:
    assert house.relay is not None
    return house.relay


def test_one_refusal_among_a_hundred_concerns_one_delivery(house: House) -> None:
    """99 arrive, one fails with the server's own words in one notice, nobody waits for it."""
    for n in range(DOCTORS):
        house.drop(f"cent-{n}.hl7", report_for(f"D{n:03d}", seed=n, results=2, number=f"CENT-{n}"))
    house.rest(40)
    rows = [d for d in house.station.deliveries(limit=1000) if d["number"].startswith("CENT-")]
    assert len(rows) == DOCTORS
    failed = [d for d in rows if d["state"] == "failed"]
    assert [d["recipient"] for d in failed] == ["dr-42"]
    assert all(d["state"] == "accepted" and d["attempts"] == 1 for d in rows if d not in failed)
    assert len({mail.rcpt[0] for mail in relay(house).stored}) == DOCTORS - 1
    (notice,) = [n for n in house.notices("failed") if n["delivery"] == failed[0]["id"]]
    assert "550" in notice["words"] and "no such user" in notice["words"]
    assert notice["command"]


def test_temporary_refusal_is_tried_again_and_leaves_no_notice(house: House) -> None:
    relay(house).next("rcpt", Answer("451 4.3.0 later"), Answer("452 4.3.1 full"))
    house.take({"r.hl7": report_for("D001", seed=500, results=2, number="TEMP-1")})
    (one,) = house.of("TEMP-1")
    assert one["state"] == "accepted" and one["attempts"] == 3
    assert not [n for n in house.notices() if n["delivery"] == one["id"]]


def test_temporary_refusal_for_ever_ends_at_give_up_with_one_notice(house: House) -> None:
    relay(house).next("rcpt", *[Answer("450 4.2.1 mailbox busy")] * 12)
    house.drop("g.hl7", report_for("BREF", seed=501, results=2, number="TOUJOURS-1"))
    house.wait(lambda: house.states("TOUJOURS-1") == {("dr-bref", 1): "failed"}, 20)
    relay(house)._script["rcpt"].clear()
    (one,) = house.of("TOUJOURS-1")
    assert one["attempts"] >= 3
    (notice,) = [n for n in house.notices(everything=True) if n["delivery"] == one["id"]]
    assert notice["kind"] == "failed" and "450" in notice["words"]


def test_expired_certificate_of_a_recipient_fails_with_a_cure(house: House) -> None:
    house.take({"p.hl7": report_for("PERI", seed=502, results=2, number="PERIME-1")})
    (one,) = house.of("PERIME-1")
    assert one["state"] == "failed" and "cert" in one["last_code"]
    (notice,) = [n for n in house.notices("failed") if n["delivery"] == one["id"]]
    assert "certificat" in notice["cause"] and notice["command"]
    house.certify("perime")
    assert house.dlx("queue", "retry", one["id"], "--reason", "certificat renouvelé").code == 0
    house.rest()
    (one,) = house.of("PERIME-1")
    # dr0 to dr99 are known to the relay, this doctor is not: it was asked, so the key was found.
    assert "550" in one["last_error"] or one["last_code"].startswith("smtp-5")


def test_dead_peers_delay_nobody_else(house: House) -> None:
    """Mail and clinic are down; the folder delivers within a second, then all of it arrives."""
    assert house.clinic is not None
    relay(house).go_down()
    house.clinic.go_down()
    for n in range(5):
        house.drop(f"mort-m{n}.hl7", report_for("D002", seed=510 + n, results=2, number=f"MM-{n}"))
        house.drop(f"mort-c{n}.hl7", report_for("CLIN", seed=520 + n, results=2, number=f"MC-{n}"))
    house.wait(lambda: house.of("MC-4") and house.of("MM-4"))
    started = time.monotonic()
    house.take_one("VIF-1", good(530, number="VIF-1"), 5)
    assert time.monotonic() - started < 3
    assert not house.of("MM-0", state="failed") and not house.of("MC-0", state="failed")
    relay(house).come_back()
    house.clinic.come_back()
    house.rest(30)
    assert {d["state"] for n in range(5) for d in house.of(f"MM-{n}")} == {"accepted"}
    assert {d["state"] for n in range(5) for d in house.of(f"MC-{n}")} <= {"accepted", "delivered"}
    assert len(house.clinic.received()) == 5, "each once"


def test_refusal_of_one_delivery_shows_that_the_channel_is_back(house: House) -> None:
    """The server answers « 550 »: it is up, whatever it thinks of this recipient."""
    relay(house).go_down()
    house.drop("f.hl7", report_for("D042", seed=540, results=2, number="RETOUR-1"))
    house.wait(lambda: word(house, "courriel") == "en panne")
    relay(house).come_back()
    house.wait(lambda: house.states("RETOUR-1") == {("dr-42", 1): "failed"})
    house.wait(lambda: word(house, "courriel") == "ok")


def word(house: House, channel: str) -> str:
    rows = house.station.ask("status")["channels"]
    return str(next(c["word"] for c in rows if c["name"] == channel))


def test_escape_sequences_of_a_server_never_reach_the_terminal(house: House) -> None:
    evil = "550 5.1.1 \x1b]0;pris\x07\x1b[2Jno\x9b31m \x7f user"
    relay(house).next("rcpt", Answer(evil))
    house.take({"e.hl7": report_for("D003", seed=541, results=2, number="TERM-1")})
    (one,) = house.of("TERM-1")
    for words in (("notices",), ("queue", "show", one["id"]), ("explain", "TERM-1"), ("queue",)):
        ran = house.dlx(*words)
        assert ran.code == 0, ran
        assert not set(ran.out) & {"\x1b", "\x07", "\x9b", "\x7f"}, words


def test_changed_host_key_pauses_the_channel_with_one_notice(house: House) -> None:
    """It may be an attack: nothing is sent, nothing is failed, one person is told once."""
    assert house.clinic is not None
    house.clinic.change_host_key()
    for n in range(3):
        house.drop(f"cle-{n}.hl7", report_for("CLIN", seed=550 + n, results=2, number=f"CLE-{n}"))
    house.wait(lambda: house.notices("channel"))
    before = len(house.clinic.received())
    house.take_one("VIF-2", good(560, number="VIF-2"))
    assert {house.of(f"CLE-{n}")[0]["state"] for n in range(3)} == {"waiting"}
    assert len(house.clinic.received()) == before
    (notice,) = house.notices("channel")
    assert notice["subject"] == "channel:clinique" and "SHA256:" in str(notice)
    # The clinic confirms the new key by telephone; the operator writes it down.
    path = house.station.folder / "channels.d" / "all.yaml"
    old = path.read_text()
    start = old.index("SHA256:")
    path.write_text(old[:start] + house.clinic.fingerprint + old[old.index('"', start) :])
    assert house.dlx("reload").code == 0
    house.wait(lambda: all(house.of(f"CLE-{n}")[0]["state"] == "delivered" for n in range(3)))
    house.wait(lambda: not house.notices("channel"))
    assert len(house.notices("channel", everything=True)) == 1


def test_operators_are_told_once_at_opening_and_once_at_closing(house: House) -> None:
    """Of everything this module went through; the last test of it."""
    assert house.alerts is not None
    alerts = house.alerts
    for n in house.notices("failed"):
        assert house.dlx("notices", "close", n["id"], "--reason", "vu").code == 0
    rows = house.notices(everything=True)
    assert rows

    def told() -> str:
        return "".join(m.message.decode() for m in alerts.stored).replace("=\r\n", "")

    def twice_each() -> bool:
        return all(told().count(n["id"]) == (2 if n["closed_at"] else 1) for n in rows)

    house.wait(twice_each, 10)
    house.take_one("VIF-3", good(570, number="VIF-3"))
    assert twice_each()
    assert len(alerts.stored) < 2 * len(rows), "what happens together is told together"
    assert "-TEST" not in told().replace("Laboratoire TEST", "")
