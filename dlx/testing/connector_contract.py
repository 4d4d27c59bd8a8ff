"""The promises every connector keeps, as a suite to inherit.

A test file supplies two fixtures, ``connector`` and ``peer``, and gets every promise tested::

    class TestFolder(ConnectorContract):
        @pytest.fixture
        def peer(self, tmp_path: Path) -> FolderPeer: ...

        @pytest.fixture
        def connector(self, peer: FolderPeer) -> FolderConnector: ...

The peer is a scripted far side on loopback (or a local folder); ``ContractPeer`` says what it must
answer. Nothing of DLX is replaced: only the wire is fake.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count
from typing import ClassVar, Protocol, TypeVar

import pytest

from dlx.contracts import Connector
from dlx.delivery import Accepted, Delivery, Rendition
from dlx.errors import DeliveryError, LeaseLost, PermanentFailure, TemporaryFailure

T = TypeVar("T")

PATIENT = "DURAND-TEST"
"""Family name of the patient inside the renditions: it may appear nowhere else."""

RENDITION = Rendition(
    format="hprim",
    suffix=".hpr",
    media_type="text/plain; charset=iso-8859-1",
    # Every byte value, both line ends, an end without newline: a channel that mends text is caught.
    content=b"000001\r\nDURAND-TEST\r\nJeanne\r\n****FIN****\r\n\n.\r\n..\r\n" + bytes(range(256)),
)
SECOND_RENDITION = Rendition(
    format="pdf",
    suffix=".pdf",
    media_type="application/pdf",
    content=b"%PDF-1.4\n%\xe2\xe3\xcf\xd3 DURAND-TEST\n" + bytes(range(255, -1, -1)) * 40,
)
LARGE_RENDITION = Rendition(
    format="pdf",
    suffix=".pdf",
    media_type="application/pdf",
    content=b"%PDF-1.4\n" + bytes(range(256)) * 10_000,
)
"""2.5 MB: long enough to be cut in the middle."""

_numbers = count(1)


def delivery_to(
    address: str,
    *,
    id: str = "",
    channel: str = "canal-essai",
    options: Mapping[str, str] | None = None,
) -> Delivery:
    """A delivery to ``address`` as dispatching would hand it over; a fresh id unless given."""
    now = datetime(2025, 1, 31, 10, 15, tzinfo=UTC)
    return Delivery(
        id=id or f"D{next(_numbers):09d}",
        report="R000000001",
        version=1,
        recipient="dr-lefevre",
        recipient_name="Dr LEFEVRE-TEST Anne",
        channel=channel,
        address=address,
        options=options or {},
        created_at=now,
        due_at=now,
    )


async def no_commitment() -> None:
    """A ``committing`` that only agrees; for tests that are about something else."""


def in_one_loop(connector: Connector, scenario: Callable[[], Awaitable[T]]) -> T:
    """Run a scenario in an event loop of its own and close the connector inside that loop."""

    async def whole() -> T:
        try:
            return await scenario()
        finally:
            await connector.close()

    return asyncio.run(whole())


class Commitment:
    """A ``committing`` that remembers: how often it was awaited, what was visible just then.

    Args:
        peer: asked for what it had received at that very moment.
        error: raised instead of agreeing (``LeaseLost``), or None.
    """

    def __init__(self, peer: ContractPeer, error: Exception | None = None) -> None:
        self._peer = peer
        self._error = error
        self.times = 0
        self.visible: list[bytes] = []

    async def __call__(self) -> None:
        """Count, look at the far side, then agree or raise."""
        self.times += 1
        self.visible = await asyncio.to_thread(self._peer.received)
        if self._error is not None:
            raise self._error


class ContractPeer(Protocol):
    """What the suite asks of a far side.

    Attributes:
        good_address: ``to:`` of a recipient the peer knows.
        bad_address: one it does not know, or None where a channel has no addresses.
    """

    good_address: str
    bad_address: str | None

    @abstractmethod
    def received(self) -> list[bytes]:
        """Content of every rendition a reader of the far side can see now, in any order.

        A mail peer opens what it got; a file peer leaves out what its reader leaves out (temporary
        names, markers).
        """

    @abstractmethod
    def identities(self) -> list[str]:
        """One word per transfer that arrived, equal for repeats: Message-ID, file name."""

    @abstractmethod
    def visible_text(self) -> str:
        """Everything readable without opening a rendition: names, subjects, envelopes."""

    @abstractmethod
    def leftovers(self) -> list[str]:
        """What a broken transfer left there and nobody is going to read: temporary names."""

    @abstractmethod
    def go_down(self) -> None:
        """Stop answering: new connections are refused, open ones cut."""

    @abstractmethod
    def come_back(self) -> None:
        """Answer again, at the same place."""

    @abstractmethod
    def cut_next(self) -> None:
        """Break the next transfer in the middle of its content, before it can commit.

        Call ``pytest.skip`` with a reason where the wire cannot be cut.
        """


class ConnectorContract:
    """Inherit, supply ``connector`` and ``peer``; every test below is then a promise kept.

    Attributes:
        renditions: what one delivery of this channel carries; override where a channel has rules.
    """

    renditions: ClassVar[Sequence[Rendition]] = (RENDITION, SECOND_RENDITION)
    large: ClassVar[Rendition] = LARGE_RENDITION

    def test_bytes_arrive_unchanged(self, connector: Connector, peer: ContractPeer) -> None:
        """A result is what its laboratory signed: not one byte is touched on the way."""
        first = self.renditions[:1]
        accepted = self._delivered(connector, peer, first)
        assert peer.received() == [first[0].content]
        assert accepted.remote_id

    def test_several_renditions_arrive_all_together(
        self, connector: Connector, peer: ContractPeer
    ) -> None:
        """One delivery carries all renditions for one address."""
        self._delivered(connector, peer, self.renditions)
        assert sorted(peer.received()) == sorted(r.content for r in self.renditions)
        assert peer.leftovers() == []

    def test_committing_is_awaited_once_before_anything_is_visible(
        self, connector: Connector, peer: ContractPeer
    ) -> None:
        """The ledger holds the intent before the far side can act on anything."""
        commitment = Commitment(peer)
        delivery = delivery_to(peer.good_address)
        in_one_loop(connector, lambda: connector.deliver(delivery, self.renditions, commitment))
        assert commitment.times == 1
        assert commitment.visible == []

    def test_nothing_arrives_when_the_lease_is_lost(
        self, connector: Connector, peer: ContractPeer
    ) -> None:
        """An old worker cannot send what a newer one owns, and leaves nothing behind."""
        commitment = Commitment(peer, LeaseLost("bail perdu"))
        delivery = delivery_to(peer.good_address)
        with pytest.raises(LeaseLost):
            in_one_loop(connector, lambda: connector.deliver(delivery, self.renditions, commitment))
        assert commitment.times == 1
        assert peer.received() == []
        assert peer.leftovers() == []

    def test_repeat_after_success_is_recognisable(
        self, connector: Connector, peer: ContractPeer
    ) -> None:
        """The same delivery id twice: one copy where the channel can look, else equal names."""
        delivery = delivery_to(peer.good_address)
        commitments = [Commitment(peer), Commitment(peer)]

        async def twice() -> list[Accepted]:
            return [
                await connector.deliver(delivery, self.renditions, commitment)
                for commitment in commitments
            ]

        first, second = in_one_loop(connector, twice)
        assert first.remote_id == second.remote_id
        assert [c.times for c in commitments] == [1, 1]
        copies = 1 if connector.finds_repeats else 2
        assert len(peer.received()) == copies * len(self.renditions)
        assert len(peer.identities()) == copies * len(set(peer.identities()))

    def test_unknown_address_is_permanent_and_concerns_one_delivery(
        self, connector: Connector, peer: ContractPeer
    ) -> None:
        """Trying again cannot help; other recipients of the channel are not stopped."""
        if peer.bad_address is None:
            pytest.skip("this channel has no addresses")
        with pytest.raises(PermanentFailure) as caught:
            self._delivered(connector, peer, self.renditions, address=peer.bad_address)
        self._assert_words_for_people(caught.value)
        assert caught.value.scope == "delivery"
        assert peer.received() == []
        assert peer.leftovers() == []

    def test_peer_down_is_temporary_concerns_the_channel_and_nothing_arrived(
        self, connector: Connector, peer: ContractPeer
    ) -> None:
        """The channel waits; the delivery is not used up."""
        peer.go_down()
        commitment = Commitment(peer)
        delivery = delivery_to(peer.good_address)
        with pytest.raises(TemporaryFailure) as caught:
            in_one_loop(connector, lambda: connector.deliver(delivery, self.renditions, commitment))
        peer.come_back()
        self._assert_words_for_people(caught.value)
        assert caught.value.scope == "channel"
        assert commitment.times == 0
        assert peer.received() == []

    def test_same_delivery_succeeds_when_the_peer_comes_back(
        self, connector: Connector, peer: ContractPeer
    ) -> None:
        """A broken connection is not remembered longer than the trouble lasts."""
        delivery = delivery_to(peer.good_address)

        async def down_then_up() -> None:
            await connector.deliver(delivery_to(peer.good_address), self.renditions, no_commitment)
            await asyncio.to_thread(peer.go_down)
            with pytest.raises(DeliveryError):
                await connector.deliver(delivery, self.renditions, no_commitment)
            await asyncio.to_thread(peer.come_back)
            await connector.deliver(delivery, self.renditions, no_commitment)

        in_one_loop(connector, down_then_up)
        assert len(peer.received()) == 2 * len(self.renditions)

    def test_cut_in_the_middle_leaves_nothing_visible(
        self, connector: Connector, peer: ContractPeer
    ) -> None:
        """Half a result is worse than none; the next attempt brings it whole, once."""
        peer.cut_next()
        commitment = Commitment(peer)
        delivery = delivery_to(peer.good_address)
        content = [replace(self.large)]

        async def cut_then_again() -> None:
            with pytest.raises(DeliveryError) as caught:
                await connector.deliver(delivery, content, commitment)
            self._assert_words_for_people(caught.value)
            assert await asyncio.to_thread(peer.received) == []
            await connector.deliver(delivery, content, no_commitment)

        in_one_loop(connector, cut_then_again)
        assert peer.received() == [self.large.content]
        assert peer.leftovers() == []

    def test_no_medical_data_outside_the_content(
        self, connector: Connector, peer: ContractPeer
    ) -> None:
        """Names, subjects and envelopes carry the delivery's id at most."""
        self._delivered(connector, peer, self.renditions)
        seen = peer.visible_text().upper()
        assert seen
        assert PATIENT not in seen
        assert PATIENT.partition("-")[0] not in seen

    def test_concurrent_deliveries_all_arrive(
        self, connector: Connector, peer: ContractPeer
    ) -> None:
        """Twelve at once, each with its own content: none lost, none mixed up."""
        contents = [b"%03d DURAND-TEST\r\n" % n * 50 for n in range(12)]

        async def together() -> list[Accepted]:
            return await asyncio.gather(
                *(
                    connector.deliver(
                        delivery_to(peer.good_address),
                        [replace(self.renditions[0], content=content)],
                        no_commitment,
                    )
                    for content in contents
                )
            )

        accepted = in_one_loop(connector, together)
        assert sorted(peer.received()) == contents
        assert len({a.remote_id for a in accepted}) == len(contents)

    def test_connector_can_be_used_after_close(
        self, connector: Connector, peer: ContractPeer
    ) -> None:
        """A reload closes channels; a delivery that comes after opens them again."""
        self._delivered(connector, peer, self.renditions)
        self._delivered(connector, peer, self.renditions)
        assert len(peer.received()) == 2 * len(self.renditions)

    def test_probe_connects_and_sends_nothing(
        self, connector: Connector, peer: ContractPeer
    ) -> None:
        """An operator may ask whether a channel answers, at any time."""
        in_one_loop(connector, connector.probe)
        assert peer.received() == []
        assert peer.leftovers() == []

    def test_probe_says_when_the_peer_is_down(
        self, connector: Connector, peer: ContractPeer
    ) -> None:
        """A probe that is always content would be worth nothing."""
        peer.go_down()
        with pytest.raises(DeliveryError) as caught:
            in_one_loop(connector, connector.probe)
        peer.come_back()
        self._assert_words_for_people(caught.value)

    def _delivered(
        self,
        connector: Connector,
        peer: ContractPeer,
        renditions: Sequence[Rendition],
        *,
        address: str | None = None,
    ) -> Accepted:
        delivery = delivery_to(peer.good_address if address is None else address)
        return in_one_loop(
            connector, lambda: connector.deliver(delivery, renditions, no_commitment)
        )

    def _assert_words_for_people(self, error: DeliveryError) -> None:
        """A stable code, a sentence for the operator, and no patient in either."""
        assert error.code
        assert error.code == error.code.lower()
        assert len(error.message.split()) >= 2
        assert error.scope in ("delivery", "channel")
        told = f"{error} {error.words} {error.cure}".upper()
        assert PATIENT.partition("-")[0] not in told
