"""The S/MIME mail channel against a scripted SMTP server: every promise, refusal and attack."""

from __future__ import annotations

import asyncio
import base64
import quopri
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from connectors import _mime
from connectors._smtp import Envelope
from connectors.smime_mail import SmimeMailConnector, SmimeMailSettings
from dlx.contracts import SecretFile
from dlx.delivery import Rendition
from dlx.errors import DeliveryError, InDoubt, PermanentFailure, TemporaryFailure
from dlx.testing.connector_contract import (
    RENDITION,
    SECOND_RENDITION,
    ConnectorContract,
    delivery_to,
    in_one_loop,
    no_commitment,
)
from dlx.testing.mailreader import open_mail
from dlx.testing.peers.smtp import Answer, SmtpPeer, server_context
from dlx.testing.pki import Identity, TestPki

DOCTOR = "dr.lefevre@clinic.test"
LAB = "resultats@labo.test"


class World:
    """Test PKI, made once: its RSA keys are the slow part."""

    def __init__(self, folder: Path) -> None:
        self.pki = TestPki(folder / "pki")
        self.lab = self.pki.person(LAB)
        self.doctor = self.pki.person(DOCTOR)
        self.server = self.pki.server()
        self.certificates = folder / "certificates"
        self.certificates.mkdir()
        self.file(DOCTOR, self.doctor)

    def file(self, address: str, identity: Identity) -> None:
        """Enrol a recipient."""
        path = self.certificates / f"{address}.pem"
        path.write_bytes(identity.certificate_pem.read_bytes())


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("smime"))


class MailPeer(SmtpPeer):
    """The scripted server, seen by its reader: the doctor opens every mail."""

    good_address = DOCTOR
    bad_address = "inconnu@clinic.test"

    def __init__(self, folder: Path, world: World, **more: Any) -> None:
        super().__init__(
            folder,
            tls=server_context(world.server),
            known=(DOCTOR, "courbe@clinic.test"),
            **more,
        )
        self._world = world
        self._opened: dict[bytes, list[bytes]] = {}

    def received(self) -> list[bytes]:
        world = self._world
        for mail in self.stored:
            if mail.message not in self._opened:
                opened = open_mail(mail.message, world.doctor, world.pki.root_pem)
                self._opened[mail.message] = [part[2] for part in opened.attachments]
        return [content for mail in self.stored for content in self._opened[mail.message]]

    def identities(self) -> list[str]:
        return [message_id for mail in self.stored for message_id in _names(mail.message)]

    def visible_text(self) -> str:
        return "\n".join([*self.commands, *(mail.message.decode("ascii") for mail in self.stored)])

    def leftovers(self) -> list[str]:
        return []

    def cut_next(self) -> None:
        self.next("body", Answer(after_bytes=1_000_000, then="reset", say=False))


def _names(message: bytes) -> list[str]:
    head = message.partition(b"\r\n\r\n")[0].decode()
    return [line for line in head.split("\r\n") if line.startswith("Message-ID: ")]


@pytest.fixture
def peer(world: World, tmp_path: Path) -> Iterator[MailPeer]:
    with MailPeer(tmp_path / "peer", world) as running:
        yield running


def settings_for(world: World, port: int, **changes: Any) -> SmimeMailSettings:
    usual = SmimeMailSettings(
        smtp=f"smtps://localhost:{port}",
        sender=LAB,
        identity=SecretFile("key:labo-smime", world.lab.pem),
        smime="sign+encrypt",
        trust=(world.pki.root_pem,),
        certificates=world.certificates,
        ca=world.pki.root_pem,
        command_timeout=5.0,
        reply_timeout=5.0,
    )
    return replace(usual, **changes)


@pytest.fixture
def connector(world: World, peer: MailPeer) -> SmimeMailConnector:
    # A signed name does not tell « localhost » from its address: the peer listens on IPv4 only.
    return SmimeMailConnector(settings_for(world, peer.port))


class TestSmimeMail(ConnectorContract):
    """Everything is inherited; the fixtures say which peer."""

    def test_relay_that_does_not_know_the_recipient_fails_this_delivery_only(
        self, connector: SmimeMailConnector, peer: MailPeer
    ) -> None:
        """The certificate is good, the mailbox is not."""
        peer.next("rcpt", Answer("550 5.1.1 nobody of that name"))

        async def refused_then_good() -> DeliveryError:
            with pytest.raises(PermanentFailure) as caught:
                await connector.deliver(delivery_to(DOCTOR), [RENDITION], no_commitment)
            await connector.deliver(delivery_to(DOCTOR), [RENDITION], no_commitment)
            return caught.value

        failure = in_one_loop(connector, refused_then_good)
        assert (failure.code, failure.scope, failure.phase) == ("smtp-550", "delivery", "envelope")
        assert failure.words == "550 5.1.1 nobody of that name"
        assert peer.connections == 1


@pytest.mark.parametrize(
    ("phase", "text", "kind", "scope"),
    [
        ("banner", "421 4.7.1 client certificate", TemporaryFailure, "channel"),
        ("banner", "554 5.7.1 go away", PermanentFailure, "channel"),
        ("ehlo", "421 4.3.2 later", TemporaryFailure, "channel"),
        ("mail", "550 5.7.1 sender refused", PermanentFailure, "channel"),
        ("mail", "451 4.3.0 later", TemporaryFailure, "channel"),
        ("mail", "552 5.3.4 too big", PermanentFailure, "delivery"),
        ("rcpt", "450 4.2.0 greylisted", TemporaryFailure, "delivery"),
        ("rcpt", "552 5.2.2 full", PermanentFailure, "delivery"),
        ("rcpt", "421 4.3.2 shutting down", TemporaryFailure, "channel"),
        ("data", "451 4.3.0 later", TemporaryFailure, "delivery"),
        ("dot", "451 4.3.0 later", TemporaryFailure, "delivery"),
        ("dot", "421 4.3.2 shutting down", TemporaryFailure, "channel"),
        ("dot", "554 5.7.1 virus", PermanentFailure, "delivery"),
        ("dot", "354 what", InDoubt, "delivery"),
    ],
)
def test_each_answer_of_the_relay_has_its_meaning(
    connector: SmimeMailConnector,
    peer: MailPeer,
    phase: str,
    text: str,
    kind: type[DeliveryError],
    scope: str,
) -> None:
    peer.next(phase, Answer(text))
    failure = _failure_of(connector)
    assert type(failure) is kind
    assert failure.scope == scope
    assert failure.code in (f"smtp-{text[:3]}", "smtp-in-doubt")
    assert peer.stored == []


def _failure_of(connector: SmimeMailConnector, **delivery: Any) -> DeliveryError:
    async def attempt() -> DeliveryError:
        with pytest.raises(DeliveryError) as caught:
            await connector.deliver(delivery_to(DOCTOR, **delivery), [RENDITION], no_commitment)
        return caught.value

    return in_one_loop(connector, attempt)


def test_words_of_the_relay_cannot_command_the_terminal(
    connector: SmimeMailConnector, peer: MailPeer
) -> None:
    peer.next("rcpt", Answer("550 5.1.1 \x1b[2Jcleared"))
    assert "\x1b" not in _failure_of(connector).words


def test_wrong_password_stops_the_channel(world: World, tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("mauvais\n")
    secret.chmod(0o600)
    with MailPeer(tmp_path / "peer", world, login=("labo", "juste")) as peer:
        settings = settings_for(
            world, peer.port, user="labo", password=SecretFile("cred:smtp", secret)
        )
        failure = _failure_of(SmimeMailConnector(settings))
        assert (type(failure), failure.code, failure.scope) == (
            PermanentFailure,
            "smtp-535",
            "channel",
        )
        secret.write_text("juste\n")
        _deliver(SmimeMailConnector(settings))
        assert len(peer.stored) == 1


def _deliver(connector: SmimeMailConnector, *renditions: Rendition, **delivery: Any) -> str:
    carried = renditions or (RENDITION,)
    to = delivery.pop("to", DOCTOR)

    async def attempt() -> str:
        accepted = await connector.deliver(delivery_to(to, **delivery), carried, no_commitment)
        return accepted.remote_id

    return in_one_loop(connector, attempt)


# TLS ────────────────────────────────────────────────────────────────────────────────────────


def test_unknown_authority_of_the_relay_is_refused(
    world: World, peer: MailPeer, tmp_path: Path
) -> None:
    other = TestPki(tmp_path / "other")
    connector = SmimeMailConnector(settings_for(world, peer.port, ca=other.root_pem))
    failure = _failure_of(connector)
    assert (failure.code, failure.scope) == ("tls-certificate", "channel")
    assert peer.commands == []


def test_certificate_for_another_host_is_refused(world: World, tmp_path: Path) -> None:
    with SmtpPeer(tmp_path / "peer", tls=server_context(world.pki.server("mail.test"))) as peer:
        failure = _failure_of(SmimeMailConnector(settings_for(world, peer.port)))
    assert failure.code == "tls-certificate"
    assert peer.stored == []


def test_relay_without_starttls_gets_nothing_in_clear(world: World, tmp_path: Path) -> None:
    with SmtpPeer(tmp_path / "peer") as peer:  # a line-cutter removed STARTTLS from EHLO
        settings = settings_for(world, peer.port, smtp=f"smtp+starttls://localhost:{peer.port}")
        failure = _failure_of(SmimeMailConnector(settings))
        assert (type(failure), failure.code) == (PermanentFailure, "tls-required")
        assert not any(command.startswith(("MAIL", "AUTH")) for command in peer.commands)


def test_starttls_is_used_and_nothing_precedes_it(world: World, tmp_path: Path) -> None:
    with MailPeer(tmp_path / "peer", world, implicit=False) as peer:
        settings = settings_for(world, peer.port, smtp=f"smtp+starttls://localhost:{peer.port}")
        _deliver(SmimeMailConnector(settings))
        assert [command.split(" ")[0] for command in peer.commands[:3]] == [
            "EHLO",
            "STARTTLS",
            "EHLO",
        ]
        assert "TLS" in peer.stored[0].tls


def test_relay_may_demand_a_client_certificate(world: World, tmp_path: Path) -> None:
    context = server_context(world.server, client_ca=world.pki.root_pem)
    with SmtpPeer(tmp_path / "peer", tls=context) as peer:
        without = SmimeMailConnector(settings_for(world, peer.port))
        assert isinstance(_failure_of(without), TemporaryFailure)
        client = SecretFile("key:client", world.pki.client("labo").pem)
        _deliver(SmimeMailConnector(settings_for(world, peer.port, client_certificate=client)))
        assert len(peer.stored) == 1


# Certificates of recipients ─────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("flaw", "code"),
    [
        ({"expired": True}, "cert-expired"),
        ({"signature_only": True}, "cert-usage"),
        ({"tls_only": True}, "cert-usage"),
    ],
)
def test_unfit_certificate_is_refused_before_anything_is_said(
    world: World, peer: MailPeer, flaw: dict[str, bool], code: str
) -> None:
    address = f"{code}-{next(iter(flaw)).replace('_', '-')}@clinic.test"
    identity = world.pki.person(address, key=world.doctor.key, **flaw)  # type: ignore[arg-type]
    world.file(address, identity)
    connector = SmimeMailConnector(settings_for(world, peer.port))
    with pytest.raises(PermanentFailure) as caught:
        _deliver(connector, to=address)
    assert (caught.value.code, caught.value.scope) == (code, "delivery")
    assert "dlx resend" in caught.value.cure or "certificat" in caught.value.cure
    assert address in caught.value.message
    assert peer.connections == 0
    assert connector.check_address(address, {})


def test_certificate_of_another_doctor_is_refused_unless_its_fingerprint_is_written(
    world: World, peer: MailPeer
) -> None:
    world.file("courbe@clinic.test", world.doctor)
    connector = SmimeMailConnector(settings_for(world, peer.port))
    with pytest.raises(PermanentFailure) as caught:
        _deliver(connector, to="courbe@clinic.test")
    assert caught.value.code == "cert-address"
    pinned = {"fingerprint": _fingerprint(world.doctor)}
    _deliver(connector, to="courbe@clinic.test", options=pinned)
    with pytest.raises(PermanentFailure, match="empreinte"):
        _deliver(connector, to=DOCTOR, options={"fingerprint": _fingerprint(world.lab)})
    assert len(peer.stored) == 1


def _fingerprint(identity: Identity) -> str:
    from cryptography.hazmat.primitives import hashes

    return identity.certificate.fingerprint(hashes.SHA256()).hex(":").upper()


def test_revoked_certificate_is_refused_and_required_lists_must_be_fresh(
    world: World, peer: MailPeer
) -> None:
    crl = world.pki.revocations([world.doctor])
    revoked = SmimeMailConnector(settings_for(world, peer.port, crl=(crl,)))
    assert _failure_of(revoked).code == "cert-revoked"
    stale = world.pki.revocations([], stale=True)
    demanding = settings_for(world, peer.port, crl=(stale,), revocation="require")
    assert _failure_of(SmimeMailConnector(demanding)).code == "cert-revocation-unknown"
    _deliver(SmimeMailConnector(replace(demanding, revocation="soft")))
    assert len(peer.stored) == 1


def test_certificate_of_an_unknown_authority_is_refused(
    world: World, peer: MailPeer, tmp_path: Path
) -> None:
    other = TestPki(tmp_path / "other").person(DOCTOR, key=world.doctor.key)
    options = {"certificate": str(other.certificate_pem)}
    connector = SmimeMailConnector(settings_for(world, peer.port))
    failure = _failure_of(connector, options=options)
    assert failure.code == "cert-untrusted"
    nobody = SmimeMailConnector(settings_for(world, peer.port, trust=()))
    assert _failure_of(nobody).code == "cert-untrusted"


def test_missing_certificate_says_under_which_name_to_enrol_it(
    world: World, peer: MailPeer
) -> None:
    with pytest.raises(PermanentFailure) as caught:
        _deliver(SmimeMailConnector(settings_for(world, peer.port)), to="new@clinic.test")
    assert caught.value.code == "cert-missing"
    assert "new@clinic.test.pem" in caught.value.cure


def test_our_own_expired_certificate_stops_the_channel(world: World, peer: MailPeer) -> None:
    old = world.pki.person("ancien@labo.test", key=world.lab.key, expired=True)
    settings = settings_for(world, peer.port, identity=SecretFile("key:ancien", old.pem))
    failure = _failure_of(SmimeMailConnector(settings))
    assert (failure.code, failure.scope) == ("identity-expired", "channel")
    assert peer.connections == 0


# What leaves ────────────────────────────────────────────────────────────────────────────────


def test_doctor_reads_note_and_renditions_under_opaque_names(
    world: World, connector: SmimeMailConnector, peer: MailPeer
) -> None:
    _deliver(connector, RENDITION, SECOND_RENDITION, SECOND_RENDITION, id="D3K7")
    opened = open_mail(peer.stored[0].message, world.doctor, world.pki.root_pem)
    assert [name for name, _, _ in opened.attachments] == ["D3K7.hpr", "D3K7.pdf", "D3K7-2.pdf"]
    assert "D3K7" in opened.note
    assert opened.inner["Content-Type"].params["hp"] == "cipher"
    assert opened.inner["Subject"] == "Compte rendu de biologie médicale (envoi D3K7)"
    assert opened.outer["Subject"] == "Compte rendu de biologie médicale"
    for name in ("From", "To", "Date", "Message-ID"):
        assert opened.inner[name] == opened.outer[name]
    recorded = opened.inner.get_all("HP-Outer")
    assert f"Message-ID: {opened.outer['Message-ID']}" in recorded


def test_repeat_has_same_identity_and_date_but_a_new_key(
    world: World, connector: SmimeMailConnector, peer: MailPeer
) -> None:
    assert _deliver(connector, id="D1") == _deliver(connector, id="D1") == "<D1.1@labo.test>"
    first, second = (mail.message for mail in peer.stored)
    head, tail = first.split(b"\r\n\r\n", 1)
    assert second.split(b"\r\n\r\n", 1)[0] == head
    assert second.split(b"\r\n\r\n", 1)[1] != tail
    assert b"Date: Fri, 31 Jan 2025 10:15:00 +0000" in head
    one, two = (open_mail(m, world.doctor, world.pki.root_pem) for m in (first, second))
    assert one.attachments == two.attachments


def test_receipts_are_asked_for_by_the_delivery_id_where_the_relay_offers_them(
    connector: SmimeMailConnector, peer: MailPeer
) -> None:
    _deliver(connector, id="D1")
    assert "RET=HDRS ENVID=D1" in peer.stored[0].mail
    assert "NOTIFY=SUCCESS,FAILURE,DELAY" in peer.stored[0].rcpt[0]


def test_relay_without_extensions_gets_plain_commands(world: World, tmp_path: Path) -> None:
    with MailPeer(tmp_path / "peer", world, extensions=()) as peer:
        _deliver(SmimeMailConnector(settings_for(world, peer.port)))
        assert peer.stored[0].mail == f"MAIL FROM:<{LAB}>"
        assert peer.received() == [RENDITION.content]


def test_no_medical_word_is_readable_in_any_coding(
    connector: SmimeMailConnector, peer: MailPeer
) -> None:
    words = [b"DURAND-TEST", b"Jeanne", "Glycémie".encode(), b"5,80 mmol/L"]
    _deliver(connector, replace(RENDITION, content=b"\r\n".join(words)))
    seen = peer.visible_text().encode()
    joined = seen.replace(b"\r\n", b"")
    for word in words:
        forms = {word, quopri.encodestring(word).strip()}
        for shift in range(3):  # base64 of a word depends on where it stands
            coded = base64.b64encode(b"\0" * shift + word)
            forms.add(coded[4 if shift else 0 : len(coded) // 4 * 4 - 4])
        assert min(map(len, forms)) >= 4
        for form in forms:
            assert form not in seen
            assert form not in joined


def test_bytes_on_the_wire_are_seven_bit_canonical_and_short(
    connector: SmimeMailConnector, peer: MailPeer
) -> None:
    _deliver(connector, replace(RENDITION, content=b"\r.\n.\r\n.\r\nFrom \xe9 \n"))
    message = peer.stored[0].message
    assert message.isascii()
    assert message.count(b"\r\n") == message.count(b"\r") == message.count(b"\n")
    assert max(map(len, message.split(b"\r\n"))) <= 78


def test_thousand_mails_need_no_more_connections_than_the_pool(
    world: World, peer: MailPeer
) -> None:
    settings = settings_for(world, peer.port, connections=3, mails_per_connection=1000)
    connector = SmimeMailConnector(settings)

    async def many() -> None:
        small = [replace(RENDITION, content=b"x")]
        await asyncio.gather(
            *(connector.deliver(delivery_to(DOCTOR), small, no_commitment) for _ in range(100))
        )

    in_one_loop(connector, many)
    assert len(peer.stored) == 100
    assert peer.connections <= 3


def test_session_closed_by_the_relay_while_idle_is_replaced(
    connector: SmimeMailConnector, peer: MailPeer
) -> None:
    async def with_a_pause() -> None:
        await connector.deliver(delivery_to(DOCTOR), [RENDITION], no_commitment)
        await asyncio.to_thread(peer.cut_idle)
        await connector.deliver(delivery_to(DOCTOR), [RENDITION], no_commitment)

    in_one_loop(connector, with_a_pause)
    assert len(peer.stored) == 2


# Attacks ────────────────────────────────────────────────────────────────────────────────────

INJECTIONS = [
    "a@b.test\r\nRCPT TO:<x@evil.test>",
    "a@b.test> NOTIFY=NEVER",
    "a@b.test\nBcc: x@evil.test",
    "a@b.test\r",
    "a@b.test\0",
    "<a@b.test>",
    "a b@b.test",
    '"a"@b.test',
    "a@[127.0.0.1]",
    "a@b.test,x@evil.test",
    "../../etc/a@b.test",
    "a@b..test",
    "a@-b.test",
    "@b.test",
    "a@",
    "é@b.test",
    "a@b.test\u2028x",
    "a@" + "b" * 300 + ".test",
]


@pytest.mark.parametrize("address", INJECTIONS)
def test_address_that_could_become_a_command_is_refused(
    connector: SmimeMailConnector, peer: MailPeer, address: str
) -> None:
    with pytest.raises(PermanentFailure) as caught:
        _deliver(connector, to=address)
    assert caught.value.code == "bad-address"
    assert peer.connections == 0
    assert connector.check_address(address, {})


@pytest.mark.parametrize(
    "text",
    ["x\r\nBcc: y@evil.test", "x\ny", "x\ry", "x\0", "x\u2028y", "x\u0085y", "x\x1b[2J", "x\r\n y"],
)
def test_header_text_that_would_begin_another_line_is_refused(
    world: World, peer: MailPeer, text: str
) -> None:
    with pytest.raises(ValueError, match="interdit"):
        _mime.encoded_words(text)
    with pytest.raises(ValueError, match="interdit"):
        _mime.header("X", text.replace("\r\n ", "\n"))
    connector = SmimeMailConnector(settings_for(world, peer.port, subject=text))
    assert any(problem.startswith("subject") for problem in connector.check())


def test_hostile_media_type_and_suffix_are_neutralised(
    world: World, connector: SmimeMailConnector, peer: MailPeer
) -> None:
    hostile = replace(
        RENDITION, media_type='text/plain\r\nBcc: x@evil.test; a="', suffix='.pdf"\r\nX: y'
    )
    _deliver(connector, hostile, id="D1")
    opened = open_mail(peer.stored[0].message, world.doctor, world.pki.root_pem)
    assert opened.attachments == (("D1.bin", "application/octet-stream", RENDITION.content),)


@pytest.mark.parametrize(
    "message", [b"a\n.\nb\r\n", b"a\r.\r\n", b"a\r\n.\nMAIL FROM:<x>\r\n", b"\n", b"a\r"]
)
def test_message_with_a_bare_line_end_never_reaches_the_wire(message: bytes) -> None:
    envelope = Envelope(sender=LAB, recipient=DOCTOR, message=message)
    with pytest.raises(ValueError, match="isolé"):
        _ = envelope.stuffed


@pytest.mark.parametrize(
    "message", [b".\r\n", b"..\r\n.\r\n", b"a\r\n.\r\nb", b"", b"a\r\n..b\r\n"]
)
def test_dots_are_doubled_and_arrive_as_they_were(
    connector: SmimeMailConnector, peer: MailPeer, message: bytes
) -> None:
    envelope = Envelope(sender=LAB, recipient=DOCTOR, message=message)

    async def send() -> None:
        pool = await connector._open_pool()
        await pool.send(envelope, no_commitment)

    in_one_loop(connector, send)
    whole = message if message.endswith(b"\r\n") else message + b"\r\n"
    assert [mail.message for mail in peer.stored] == [whole]


def test_reply_that_nobody_asked_for_is_not_taken_for_the_next_one(
    connector: SmimeMailConnector, peer: MailPeer
) -> None:
    """A server that says 250 twice would otherwise answer for a mail it never saw."""
    peer.next("dot", Answer("250 2.0.0 ok\r\n250 2.0.0 again"))

    async def two() -> None:
        for _ in range(2):
            await connector.deliver(delivery_to(DOCTOR), [RENDITION], no_commitment)

    in_one_loop(connector, two)
    assert len(peer.stored) == 2
    assert peer.connections == 2


# Configuration ──────────────────────────────────────────────────────────────────────────────


def test_a_good_configuration_has_no_problem(world: World) -> None:
    connector = SmimeMailConnector(settings_for(world, 465))
    assert list(connector.check()) == []
    assert list(connector.check_address(DOCTOR, {})) == []


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"smime": "off"}, "smime"),
        ({"smime": "sign"}, "smime"),
        ({"form": "mss"}, "form"),
        ({"smtp": "smtp://localhost:25"}, "smtp"),
        ({"smtp": "smtps://"}, "smtp"),
        ({"smtp": "smtps://u:p@host:465"}, "smtp"),
        ({"smtp": "smtps://host:x"}, "smtp"),
        ({"sender": "labo"}, "sender"),
        ({"reply_to": "labo"}, "reply_to"),
        ({"sender": "autre@labo.test"}, "identity"),
        ({"trust": (Path("/nowhere"),)}, "trust"),
        ({"certificates": Path("/nowhere")}, "certificates"),
    ],
)
def test_check_names_the_setting_that_is_wrong(
    world: World, change: dict[str, Any], word: str
) -> None:
    problems = SmimeMailConnector(settings_for(world, 465, **change)).check()
    assert problems
    assert problems[0].startswith(word)


@pytest.mark.parametrize("smime", ["off", "sign"])
def test_unencrypted_mail_never_leaves_even_if_check_was_skipped(
    world: World, peer: MailPeer, smime: str
) -> None:
    failure = _failure_of(SmimeMailConnector(settings_for(world, peer.port, smime=smime)))
    assert (type(failure), failure.scope) == (PermanentFailure, "channel")
    assert peer.connections == 0


def test_key_that_others_may_read_is_refused(world: World, peer: MailPeer, tmp_path: Path) -> None:
    key = tmp_path / "open.pem"
    key.write_bytes(world.lab.pem.read_bytes())
    key.chmod(0o644)
    settings = settings_for(world, peer.port, identity=SecretFile("key:open", key))
    connector = SmimeMailConnector(settings)
    assert any("0600" in problem for problem in connector.check())
    assert _failure_of(connector).code == "identity"


def test_expiries_name_ours_and_the_recipients(world: World) -> None:
    found = {e.name: e.ends_at for e in SmimeMailConnector(settings_for(world, 465)).expiries()}
    assert found["identité S/MIME"] > datetime.now(UTC)
    assert f"certificat de {DOCTOR}" in found
