"""F7: the line to the relay is cut at every reply; what we believe is held against the truth log.

A proxy ends TLS, so it can count the replies: banner 1, EHLO 2 to 6, MAIL 7, RCPT 8, 354 9,
the answer to the final dot 10, QUIT 11.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from connectors.smime_mail import SmimeMailConnector, SmimeMailSettings
from dlx.contracts import SecretFile
from dlx.delivery import Accepted
from dlx.errors import DeliveryError, InDoubt, TemporaryFailure
from dlx.testing.connector_contract import (
    LARGE_RENDITION,
    RENDITION,
    delivery_to,
    in_one_loop,
    no_commitment,
)
from dlx.testing.peers.cutting import Cut, CuttingProxy
from dlx.testing.peers.smtp import SmtpPeer, server_context
from dlx.testing.pki import TestPki

pytestmark = [
    pytest.mark.faults,
    # asyncio.run may end its loop before the transport of a line that was cut has been closed
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(autouse=True)
def _collected() -> Iterator[None]:
    """Such transports are collected here, not in a later test of another module."""
    yield
    gc.collect()


DOCTOR = "dr.lefevre@clinic.test"
BANNER, EHLO_END, MAIL, RCPT, GO_ON, DOT, QUIT = 1, 6, 7, 8, 9, 10, 11
# More than the kernel's send buffer holds (4 MB on Linux), so that the cut meets us writing.
HUGE = replace(LARGE_RENDITION, content=LARGE_RENDITION.content * 2)
WAYS = ("reset", "close", "half", "hang")


class Line:
    """Connector, cutting proxy and peer, with what the connector believed."""

    def __init__(self, settings: SmimeMailSettings, peer: SmtpPeer, proxy: CuttingProxy) -> None:
        self.connector = SmimeMailConnector(settings)
        self.peer = peer
        self.proxy = proxy
        self.commitments = 0

    def outcome(self, *, large: bool = False) -> Accepted | DeliveryError:
        """Deliver once, under a cut; return the answer or the failure, checked for honesty."""
        renditions = [HUGE if large else RENDITION]

        async def commit() -> None:
            self.commitments += 1

        async def attempt() -> Accepted | DeliveryError:
            try:
                return await self.connector.deliver(delivery_to(DOCTOR), renditions, commit)
            except DeliveryError as failure:
                return failure

        believed = in_one_loop(self.connector, attempt)
        assert self.proxy.cuts == 1, "the cut was never reached: this test would prove nothing"
        stored = len(self.peer.stored)
        if isinstance(believed, Accepted):
            assert stored == 1
        elif not isinstance(believed, InDoubt):
            assert stored == 0
        else:
            assert self.commitments == 1
        return believed


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> TestPki:
    return TestPki(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def settings(pki: TestPki) -> SmimeMailSettings:
    return SmimeMailSettings(
        smtp="smtps://localhost:1",
        sender="resultats@labo.test",
        identity=SecretFile("key:labo", pki.person("resultats@labo.test", curve=True).pem),
        smime="sign+encrypt",
        trust=(pki.root_pem,),
        certificates=pki.person(DOCTOR).pem.parent,
        ca=pki.root_pem,
        connect_timeout=1.0,
        command_timeout=0.4,
        data_timeout=0.4,
        block_timeout=2.0,
        reply_timeout=0.6,
    )


@pytest.fixture(scope="module")
def server(pki: TestPki) -> Path:
    return pki.server().pem


@pytest.fixture
def line(settings: SmimeMailSettings, pki: TestPki, tmp_path: Path) -> Iterator[Line]:
    """TLS ends at the proxy; behind it the dialogue is in clear."""
    with (
        SmtpPeer(tmp_path / "peer") as peer,
        CuttingProxy(peer.port, tls=server_context(pki.server())) as proxy,
    ):
        yield Line(replace(settings, smtp=f"smtps://localhost:{proxy.port}"), peer, proxy)


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("reply", range(BANNER, GO_ON + 1))
def test_cut_before_the_body_means_that_nothing_left(line: Line, reply: int, how: str) -> None:
    line.proxy.cut(Cut(lines=reply, how=how))
    believed = line.outcome()
    assert isinstance(believed, TemporaryFailure)
    assert believed.scope == "channel"
    assert line.commitments == 0


@pytest.mark.parametrize("reply", range(BANNER, RCPT + 1))
def test_cut_right_after_a_reply_means_that_nothing_left(line: Line, reply: int) -> None:
    line.proxy.cut(Cut(lines=reply, how="after"))
    assert isinstance(line.outcome(), TemporaryFailure)
    assert line.commitments == 0


def test_cut_right_after_354_never_claims_more_than_is_known(line: Line) -> None:
    line.proxy.cut(Cut(lines=GO_ON, how="after"))
    assert isinstance(line.outcome(), TemporaryFailure | InDoubt)
    assert line.peer.stored == []


@pytest.mark.parametrize("how", ["reset", "close", "hang"])
@pytest.mark.parametrize("size", [5_000, 1_000_000])
def test_cut_in_the_middle_of_the_body_means_that_nothing_arrived(
    line: Line, size: int, how: str
) -> None:
    line.proxy.cut(Cut(direction="requests", size=size, how=how))
    believed = line.outcome(large=True)
    assert isinstance(believed, TemporaryFailure)
    assert line.commitments == 1
    assert line.peer.stored == []


@pytest.mark.parametrize("how", ["reset", "close", "hang"])
def test_small_mail_cut_in_the_middle_is_never_believed_accepted(line: Line, how: str) -> None:
    """Its last byte had left for the kernel: a doubt is all that can be said."""
    line.proxy.cut(Cut(direction="requests", size=800, how=how))
    assert isinstance(line.outcome(), TemporaryFailure | InDoubt)
    assert line.peer.stored == []


@pytest.mark.parametrize("how", WAYS)
def test_cut_of_the_last_reply_is_a_doubt_and_the_server_has_the_mail(line: Line, how: str) -> None:
    line.proxy.cut(Cut(lines=DOT, how=how))
    believed = line.outcome()
    assert isinstance(believed, InDoubt)
    assert believed.phase == "committed_to"
    assert len(line.peer.stored) == 1


def test_cut_after_the_last_reply_is_an_acceptance(line: Line) -> None:
    line.proxy.cut(Cut(lines=DOT, how="after"))
    assert isinstance(line.outcome(), Accepted)


@pytest.mark.parametrize("how", WAYS)
def test_a_farewell_that_is_cut_changes_nothing(line: Line, how: str) -> None:
    line.proxy.cut(Cut(lines=QUIT, how=how))
    assert isinstance(line.outcome(), Accepted)


@pytest.mark.parametrize("how", ["reset", "close"])
def test_session_that_died_while_idle_is_replaced_unnoticed(line: Line, how: str) -> None:
    line.proxy.cut(Cut(lines=DOT + 1, how=how))  # the reply to the second MAIL

    async def two() -> list[Accepted]:
        return [
            await line.connector.deliver(delivery_to(DOCTOR), [RENDITION], no_commitment)
            for _ in range(2)
        ]

    assert len(in_one_loop(line.connector, two)) == 2
    assert line.proxy.cuts == 1
    assert len(line.peer.stored) == 2


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("reply", range(1, 9))
def test_cut_around_starttls_means_that_nothing_left(
    settings: SmimeMailSettings, pki: TestPki, tmp_path: Path, reply: int, how: str
) -> None:
    """Banner 1, EHLO 2 to 7 (one line more: STARTTLS), 220 8; seen in clear by the proxy."""
    context = server_context(pki.server())
    with (
        SmtpPeer(tmp_path / "peer", tls=context, implicit=False) as peer,
        CuttingProxy(peer.port) as proxy,
    ):
        smtp = f"smtp+starttls://localhost:{proxy.port}"
        line = Line(replace(settings, smtp=smtp), peer, proxy)
        proxy.cut(Cut(lines=reply, how=how))
        assert isinstance(line.outcome(), TemporaryFailure)
        assert line.commitments == 0


def test_cut_in_the_handshake_means_that_nothing_left(
    settings: SmimeMailSettings, pki: TestPki, tmp_path: Path
) -> None:
    context = server_context(pki.server())
    for size in (1, 200, 1000):
        with (
            SmtpPeer(tmp_path / f"peer{size}", tls=context) as peer,
            CuttingProxy(peer.port) as proxy,
        ):
            smtp = f"smtps://localhost:{proxy.port}"
            line = Line(replace(settings, smtp=smtp), peer, proxy)
            proxy.cut(Cut(size=size, how="reset"))
            assert isinstance(line.outcome(), TemporaryFailure)


def test_cancelled_attempt_leaves_no_mail_and_no_session(line: Line) -> None:
    """A station that stops in the middle of DATA: without the dot the server keeps nothing."""

    async def stop_after_354() -> None:
        reached = asyncio.Event()

        async def commit() -> None:
            reached.set()
            await asyncio.Event().wait()

        task = asyncio.ensure_future(
            line.connector.deliver(delivery_to(DOCTOR), [RENDITION], commit)
        )
        await asyncio.wait_for(reached.wait(), 5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await line.connector.deliver(delivery_to(DOCTOR), [RENDITION], no_commitment)

    in_one_loop(line.connector, stop_after_354)
    assert len(line.peer.stored) == 1
    assert line.peer.connections == 2
