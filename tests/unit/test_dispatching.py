"""Pace, opening hours, and a dispatcher with a scripted connector on a real ledger."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from dlx import ledger as store
from dlx.archive import Archive, MasterKey
from dlx.contracts import Committing, Connector
from dlx.delivery import Accepted, Delivery, Notice, NoticeKind, Rendition
from dlx.dispatching import Contents, Dispatcher
from dlx.dispatching.pace import Pace, within
from dlx.errors import DeliveryError, InDoubt, PermanentFailure, TemporaryFailure
from dlx.ledger import Ledger
from dlx.report import ReportStatus
from dlx.settings.model import ChannelSettings, Rate, Retry, Window

NOW = datetime(2026, 3, 9, 8, 0, tzinfo=UTC)
Behaviour = Callable[[Committing], Awaitable[Accepted]]


# --- pace ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "end", "at", "inside"),
    [
        ("08:00", "18:00", "08:00", True),
        ("08:00", "18:00", "18:00", False),
        ("20:00", "06:00", "23:59", True),
        ("20:00", "06:00", "05:59", True),
        ("20:00", "06:00", "12:00", False),
        ("07:00", "07:00", "03:00", True),
    ],
)
def test_window_holds_its_start_and_may_pass_midnight(
    start: str, end: str, at: str, inside: bool
) -> None:
    window = Window(start=time.fromisoformat(start), end=time.fromisoformat(end))
    assert within(window, time.fromisoformat(at)) is inside


def test_pause_doubles_up_to_its_limit_and_ends_with_a_success() -> None:
    pace = Pace(first_pause=5, max_pause=12)
    waits = [(pace.failed(NOW, for_good=False) - NOW).total_seconds() for _ in range(4)]
    assert waits == [5, 10, 12, 12]
    assert pace.allowed(NOW, 4, 0) == 0
    assert pace.succeeded() is True and pace.succeeded() is False
    assert pace.allowed(NOW, 4, 0) == 4


def test_channel_that_was_down_is_tried_with_one_delivery() -> None:
    pace = Pace(first_pause=5)
    until = pace.failed(NOW, for_good=False)
    assert pace.allowed(until, 50, 0) == 1
    assert pace.allowed(until, 50, 1) == 0


def test_failure_that_will_not_mend_pauses_for_the_longest_time() -> None:
    assert Pace().failed(NOW, for_good=True) == NOW + timedelta(seconds=300)


def test_rate_lets_so_many_leave_in_each_period() -> None:
    pace = Pace(rate=Rate(count=3, seconds=60))
    pace.started(NOW, 2)
    assert pace.allowed(NOW, 10, 0) == 1
    pace.started(NOW, 1)
    assert pace.allowed(NOW + timedelta(seconds=59), 10, 0) == 0
    assert pace.allowed(NOW + timedelta(seconds=60), 10, 0) == 3


# --- dispatcher ----------------------------------------------------------------------------------


class Scripted(Connector):
    """Does what it was told for each call; then accepts."""

    name = "scripted"
    Settings = dict
    Address = None
    finds_repeats = False
    concurrency = 4

    def __init__(self, settings: object = None) -> None:
        self.script: deque[Behaviour] = deque()
        self.calls: list[str] = []
        self.most_at_once = self._now = 0

    async def deliver(
        self, delivery: Delivery, renditions: Sequence[Rendition], committing: Committing
    ) -> Accepted:
        self.calls.append(delivery.id)
        self._now += 1
        self.most_at_once = max(self.most_at_once, self._now)
        try:
            if self.script:
                return await self.script.popleft()(committing)
            await committing()
            return Accepted(remote_id=delivery.id, proven=True)
        finally:
            self._now -= 1


def failing(error: Exception, *, committed: bool = False) -> Behaviour:
    async def behave(committing: Committing) -> Accepted:
        if committed:
            await committing()
        raise error

    return behave


async def hanging(committing: Committing) -> Accepted:
    await asyncio.Event().wait()
    raise AssertionError


async def hanging_after_commit(committing: Committing) -> Accepted:
    await committing()
    return await hanging(committing)


@dataclass
class Bench:
    """A dispatcher, its ledger, its connector, and a count of its looks at the clock."""

    ledger: Ledger
    dispatcher: Dispatcher
    connector: Scripted
    looks: int = 0

    async def promise(self, count: int, number: str = "N", **more: object) -> list[str]:
        now = datetime.now(UTC)
        planned = tuple(
            store.PlannedDelivery(
                recipient=f"dr-{n}",
                channel="essai",
                due_at=now,
                expires_at=now + timedelta(hours=1),
                **more,  # type: ignore[arg-type]
            )
            for n in range(count)
        )
        entry = store.ReportEntry(
            issuer="LABO-TEST",
            number=number,
            status=ReportStatus.FINAL,
            facts="{}",
            deliveries=planned,
        )
        registration = store.Registration(
            claim_id=f"c-{number}",
            original_name="r.hl7",
            sha256=number.rjust(64, "0"),
            size=1,
            pickup="p",
            first_seen=now,
            reports=(entry,),
        )
        result = await self.ledger.write(lambda tx: store.register(tx, registration, now))
        self.dispatcher.wake()
        return list(result.deliveries)

    def states(self) -> list[str]:
        rows = self.ledger.read(lambda tx: store.deliveries(tx, store.Selection(limit=1000)))
        return sorted(row.delivery.state.value for row in rows)

    def notices(self) -> list[str]:
        return [n.notice.kind.value for n in self.ledger.read(store.notices)]

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not condition():
                await asyncio.sleep(0.01)


@asynccontextmanager
async def running(folder: Path, **settings: object) -> AsyncIterator[Bench]:
    ledger = Ledger.open(folder / "l.sqlite3", create=True)
    connector = Scripted()
    retry = Retry(first_seconds=0.05, factor=1, max_seconds=0.05, give_up_seconds=3600)
    channel = ChannelSettings(
        name="essai", type="scripted", connector=None, **{"retry": retry, **settings}
    )
    bench: Bench

    def clock() -> datetime:
        bench.looks += 1
        return datetime.now(UTC)

    dispatcher = Dispatcher(
        settings=channel,
        connector=connector,
        ledger=ledger,
        contents=Contents(ledger, Archive(folder / "archive"), MasterKey(bytes(32))),
        owner="w-1",
        zone=ZoneInfo("Europe/Paris"),
        clock=clock,
        fallback=lambda recipient: None,
        promised=lambda channels: None,
    )
    bench = Bench(ledger, dispatcher, connector)
    now = datetime.now(UTC)
    worker = store.Worker(id="w-1", host="h", pid=1, boot_id="b")
    await ledger.write(lambda tx: store.enrol(tx, worker, now))
    task = asyncio.create_task(dispatcher.run())
    try:
        yield bench
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await dispatcher.drain(0.1)
        ledger.close()


def down(scope: str = "channel", words: str = "") -> TemporaryFailure:
    return TemporaryFailure("ne répond pas", code="down", scope=scope, words=words)


def test_everything_due_is_delivered_within_the_limit(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as bench:
            await bench.promise(30)
            await bench.until(lambda: bench.states() == ["delivered"] * 30)
            assert bench.connector.most_at_once <= 4
            assert len(set(bench.connector.calls)) == len(bench.connector.calls) == 30

    asyncio.run(scenario())


def test_channel_failure_pauses_all_and_uses_up_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path, concurrency=1) as bench:
            bench.connector.script.extend([failing(down()), failing(down())])
            await bench.promise(10)
            await bench.until(lambda: bench.states() == ["delivered"] * 10)
            assert len(bench.connector.calls) == 12
            assert bench.notices() == []

    asyncio.run(scenario())


def test_permanent_trouble_of_the_channel_opens_one_notice_and_fails_nothing(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        trouble = PermanentFailure("clé changée", code="host-key", scope="channel")
        async with running(tmp_path) as bench:
            bench.connector.script.extend([failing(trouble)] * 4)
            await bench.promise(10)
            await bench.until(lambda: "channel" in bench.notices())
            assert bench.states() == ["waiting"] * 10
            bench.dispatcher.pace.unpause()
            bench.connector.script.clear()
            bench.dispatcher.wake()
            await bench.until(lambda: bench.states() == ["delivered"] * 10)
            await bench.until(lambda: bench.notices() == [])

    asyncio.run(scenario())


def test_notice_of_an_earlier_process_is_closed_by_the_first_success(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as bench:
            notice = Notice(subject="channel:essai", kind=NoticeKind.CHANNEL, cause="en panne")
            now = datetime.now(UTC)
            await bench.ledger.write(lambda tx: store.open_notice(tx, notice, now))
            await bench.promise(1)
            await bench.until(lambda: bench.notices() == [])

    asyncio.run(scenario())


def test_refusal_in_the_servers_words_ends_the_pause(tmp_path: Path) -> None:
    async def scenario() -> None:
        refusal = PermanentFailure("refusé", code="smtp-550", words="550 no such user")
        async with running(tmp_path, concurrency=1) as bench:
            bench.connector.script.extend([failing(down()), failing(refusal)])
            await bench.promise(1)
            await bench.until(lambda: bench.states() == ["failed"])
            await bench.until(lambda: bench.dispatcher.pace.down_since is None)

    asyncio.run(scenario())


def test_probe_that_hangs_does_not_spin(tmp_path: Path) -> None:
    """After the pause one delivery tries the channel; while it waits, the loop must rest too."""

    async def scenario() -> None:
        async with running(tmp_path, concurrency=1) as bench:
            bench.connector.script.extend([failing(down()), hanging])
            await bench.promise(3)
            await bench.until(lambda: len(bench.connector.calls) == 2)
            before = bench.looks
            await asyncio.sleep(0.3)
            assert bench.looks - before < 20

    asyncio.run(scenario())


def test_defect_of_a_connector_delays_and_never_fails(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as bench:
            bench.connector.script.append(failing(KeyError("DURAND-TEST")))
            await bench.promise(1)
            await bench.until(lambda: bench.states() == ["delivered"])
            assert "DURAND" not in bench.dispatcher.last_error

    asyncio.run(scenario())


@pytest.mark.parametrize("error", [InDoubt("?", code="x"), KeyError("x")])
def test_trouble_after_the_intent_is_a_doubt(tmp_path: Path, error: Exception) -> None:
    """This connector cannot look: it repeats once, then a person decides."""

    async def scenario() -> None:
        async with running(tmp_path) as bench:
            bench.connector.script.extend([failing(error, committed=True)] * 2)
            await bench.promise(1)
            await bench.until(lambda: bench.states() == ["held"])
            assert len(bench.connector.calls) == 2
            assert bench.notices() == ["in_doubt"]

    asyncio.run(scenario())


def test_stop_gives_back_what_nothing_can_have_received(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as bench:
            bench.connector.script.extend([hanging, hanging_after_commit])
            await bench.promise(2)
            await bench.until(lambda: bench.states() == ["claimed", "sending"])
            bench.dispatcher.stopped = True
            await bench.dispatcher.drain(0.05)
            assert bench.states() == ["sending", "waiting"]

    asyncio.run(scenario())


def test_stop_is_heard_although_something_wakes_the_channel_just_then(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as bench:
            task = asyncio.create_task(bench.dispatcher.run())
            for _ in range(5):
                await asyncio.sleep(0.01)
            bench.dispatcher.wake()
            task.cancel()
            done, _ = await asyncio.wait([task], timeout=2)
            assert done

    asyncio.run(scenario())


@pytest.mark.parametrize("how", ["stopped", "disabled", "closed"])
def test_channel_that_may_not_send_does_not(tmp_path: Path, how: str) -> None:
    async def scenario() -> None:
        at = datetime.now(ZoneInfo("Europe/Paris"))
        later = (at + timedelta(hours=2)).time()
        settings: dict[str, object] = {
            "stopped": {},
            "disabled": {"enabled": False},
            "closed": {"window": Window(start=later, end=(at + timedelta(hours=3)).time())},
        }[how]
        async with running(tmp_path, **settings) as bench:
            bench.dispatcher.stopped = how == "stopped"
            await bench.promise(3)
            await asyncio.sleep(0.1)
            assert bench.connector.calls == [] and bench.states() == ["waiting"] * 3

    asyncio.run(scenario())


def test_delivery_errors_carry_the_words_to_the_notice(tmp_path: Path) -> None:
    async def scenario() -> None:
        refusal: DeliveryError = PermanentFailure(
            "boîte inconnue", code="smtp-550", words="550 5.1.1 no such user", cure="demandez"
        )
        async with running(tmp_path) as bench:
            bench.connector.script.append(failing(refusal))
            await bench.promise(1)
            await bench.until(lambda: bench.notices() == ["failed"])
            (row,) = bench.ledger.read(store.notices)
            assert row.notice.words == "550 5.1.1 no such user"

    asyncio.run(scenario())
