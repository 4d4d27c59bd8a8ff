"""Certificates with an end: told once, in time, and closed when renewed."""

from __future__ import annotations

from collections.abc import Callable

from conftest import House, good, profile


def test_own_certificate_about_to_expire_opens_one_notice_for_all_channels_that_use_it(
    build: Callable[[], House],
) -> None:
    house = build()
    house.with_relay()
    address = house.certify("dr")
    soon = house.pki.person("resultats@labo.example", curve=True, days=20)
    key = house.station.folder / "keys" / "labo.pem"
    key.write_bytes(soon.pem.read_bytes())
    key.chmod(0o600)
    house.configure(
        channels=house.mail_channel(), profiles=profile("dr-un", "BONA", "courriel", to=address)
    )
    house.start()
    house.wait(lambda: house.notices("certificate"))
    house.take({"a.hl7": good(1, number="CERT-1")})
    (notice,) = house.notices("certificate")
    assert "expire le" in notice["cause"] and notice["command"]
    assert house.states("CERT-1") == {("dr-un", 1): "accepted"}, "it still works"
