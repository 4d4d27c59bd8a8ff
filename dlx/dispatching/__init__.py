"""From promises to attempts: one dispatcher per channel, so that none ever delays another.

The ledger is written before the network is touched and after it answers. A failure that concerns
the whole channel pauses it; its deliveries wait untouched, and one of them tries again later.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from dlx import ledger as store
from dlx.contracts import Connector
from dlx.delivery import Accepted, Fallback, Notice, NoticeKind, Result, State
from dlx.dispatching.contents import Contents
from dlx.dispatching.pace import FIRST_PAUSE_SECONDS, Pace, within
from dlx.errors import (
    DeliveryError,
    InDoubt,
    LeaseLost,
    PermanentFailure,
    Refused,
    StoreError,
    TemporaryFailure,
)
from dlx.ledger import (
    Claimed,
    Deferred,
    Doubtful,
    DoubtPolicy,
    Failed,
    Failure,
    Ledger,
    Outcome,
    Tx,
)
from dlx.retry import RetryPolicy, jitter_of, next_try, warn_after
from dlx.settings.model import ChannelSettings

__all__ = ["LEASE", "Contents", "Dispatcher", "Pace", "fall_back", "policy_of"]

log = logging.getLogger("dlx.dispatching")

LEASE = timedelta(seconds=60)
IDLE_SECONDS = 5.0
Fallbacks = Callable[[str], Fallback | None]


def policy_of(settings: ChannelSettings, connector: Connector) -> DoubtPolicy:
    """What follows a doubt on this channel (reliability P5)."""
    return DoubtPolicy(finds_repeats=connector.finds_repeats, max_doubt=settings.max_doubt)


def fall_back(
    tx: Tx, delivery: str, rule: Fallback, now: datetime, why: str, give_up_seconds: float
) -> str:
    """Promise the same bytes by the recipient's fallback channel, once; "" when it cannot be.

    The new delivery says whose fallback it is, so a repeat of this call after a crash finds it.
    """
    view = store.delivery(tx, delivery)
    first = view.row.delivery
    if first.options.get("fallback_of") or first.channel == rule.channel:
        return ""
    siblings = store.deliveries(tx, store.Selection(report=first.report, limit=10_000))
    if any(s.delivery.options.get("fallback_of") == delivery for s in siblings):
        return ""
    try:
        if first.state in (State.WAITING, State.HELD):
            # it must not leave later by the first way too
            store.cancel(tx, delivery, "station", f"repli par {rule.channel} : {why}", now)
        return store.resend(
            tx,
            delivery,
            "station",
            f"repli : {why}",
            now,
            channel=rule.channel,
            address=rule.address,
            options={**rule.options, "fallback_of": delivery},
            expires_at=now + timedelta(seconds=give_up_seconds),
        )
    except Refused:
        return ""  # under way, or a newer version took its place


@dataclass(kw_only=True)
class Dispatcher:
    """Empties the queue of one channel.

    Attributes:
        settings, connector: of the channel. owner: id of this process in the ledger.
        fallback: by recipient, what the profile says for a delivery that failed.
        promised: called with channels that got a new delivery (a fallback).
        channel_down_seconds: a channel that fails for so long opens a notice.
        stopped: True while an operator holds this channel.
    """

    settings: ChannelSettings
    connector: Connector
    ledger: Ledger
    contents: Contents
    owner: str
    zone: ZoneInfo
    clock: Callable[[], datetime]
    fallback: Fallbacks
    promised: Callable[[set[str]], None]
    channel_down_seconds: float = 600.0
    stopped: bool = False
    last_success: datetime | None = None
    last_error: str = ""
    pace: Pace = field(init=False)
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _running: set[asyncio.Task[None]] = field(default_factory=set)
    _broken: BaseException | None = None
    _told_down: bool = False
    _seen_up: bool = False

    def __post_init__(self) -> None:
        first = min(FIRST_PAUSE_SECONDS, self.settings.retry.first_seconds)
        self.pace = Pace(first_pause=first, rate=self.settings.rate)

    @property
    def name(self) -> str:
        """Name of the channel."""
        return self.settings.name

    @property
    def limit(self) -> int:
        """How many deliveries at once."""
        return self.settings.concurrency or self.connector.concurrency

    def wake(self) -> None:
        """There may be something to send."""
        self._wake.set()

    async def run(self) -> None:
        """Send what is due until cancelled. Raises what makes the station stop (StoreError)."""
        while self._broken is None:
            self._wake.clear()
            now = self.clock()
            free = self._free(now)
            claimed = await self._claim(free, now) if free else []
            for one in claimed:
                task = asyncio.create_task(self._attempt(one))
                self._running.add(task)
                task.add_done_callback(self._done)
            if len(claimed) < max(free, 1):
                await self._rest()
        raise self._broken

    def _done(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            self._broken = self._broken or task.exception()
        self._wake.set()

    async def drain(self, seconds: float) -> None:
        """Let running attempts end; cancel what is left after ``seconds`` and give it back."""
        if self._running:
            await asyncio.wait(self._running, timeout=seconds)
        left = list(self._running)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        await self.connector.close()

    def _free(self, now: datetime) -> int:
        window = self.settings.window
        closed = window is not None and not within(window, now.astimezone(self.zone).time())
        if self.stopped or closed or not self.settings.enabled:
            return 0
        return self.pace.allowed(now, self.limit, len(self._running))

    async def _claim(self, free: int, now: datetime) -> list[Claimed]:
        claimed = await self.ledger.write(
            lambda tx: store.claim_due(tx, self.name, free, now, self.owner, now + LEASE)
        )
        self.pace.started(now, len(claimed))
        return claimed

    async def _rest(self) -> None:
        now = self.clock()
        wait = IDLE_SECONDS
        if self._free(now):
            due = self.ledger.read(store.next_due).get(self.name)
            if due is not None:
                # due, yet not claimed: an older version is still on its way (P7); look again soon
                wait = min(wait, max((due - now).total_seconds(), 0.05))
        elif self.pace.paused_until is not None and self.pace.paused_until > now:
            # past it, one attempt is under way and its end wakes us
            wait = min(wait, (self.pace.paused_until - now).total_seconds() + 0.001)
        with contextlib.suppress(TimeoutError):
            # not wait_for: Python 3.11 forgets a cancellation that comes together with the event
            async with asyncio.timeout(wait):
                await self._wake.wait()

    # --- one attempt ---------------------------------------------------------------------------

    async def _attempt(self, claimed: Claimed) -> None:
        delivery = claimed.delivery
        intent = _Intent(self, claimed)
        try:
            outcome = await self._try(claimed, intent)
            state = await self.ledger.write(lambda tx: self._settle(tx, claimed, outcome))
        except LeaseLost:
            log.warning("delivery=%s event=lease_lost channel=%s", delivery.id, self.name)
            return
        except asyncio.CancelledError:
            if not intent.written:
                await self._give_back(claimed)
            raise
        log.info("delivery=%s state=%s channel=%s", delivery.id, state.value, self.name)
        if state in (State.FAILED, State.HELD):
            self.promised(set())  # a notice was opened: people are told now, not at the next look
        if isinstance(outcome, Accepted):
            self.last_success = self.clock()
        answers = isinstance(outcome, Accepted) or intent.answered
        # the first time too: an earlier process may have told that the channel was down
        if answers and (self.pace.succeeded() or not self._seen_up):
            await self._recovered()

    def _settle(self, tx: Tx, claimed: Claimed, outcome: Outcome) -> State:
        """Outcome, notice and fallback in one transaction."""
        now = self.clock()
        delivery = claimed.delivery
        state = store.finish(tx, delivery.id, delivery.generation, outcome, now)
        rule = self.fallback(delivery.recipient) if state is State.FAILED else None
        if rule is not None and fall_back(
            tx, delivery.id, rule, now, "échec définitif", self.settings.retry.give_up_seconds
        ):
            self.promised({rule.channel})
        return state

    async def _give_back(self, claimed: Claimed) -> None:
        delivery, now = claimed.delivery, self.clock()
        with contextlib.suppress(LeaseLost):
            await self.ledger.write(
                lambda tx: store.release_claim(
                    tx, delivery.id, delivery.generation, now, "arrêt de la station"
                )
            )

    async def _try(self, claimed: Claimed, intent: _Intent) -> Outcome:
        delivery = claimed.delivery
        try:
            renditions = self.contents.renditions(claimed.renditions)
            return await self.connector.deliver(delivery, renditions, intent)
        except InDoubt as doubt:
            return self._doubtful(claimed, doubt)
        except TemporaryFailure as failure:
            intent.answered = bool(failure.words) and failure.scope != "channel"
            return await self._again(claimed, failure)
        except PermanentFailure as failure:
            if failure.scope == "channel":
                return await self._again(claimed, failure)
            intent.answered = bool(failure.words)
            return Failed(failure=_failure(failure))
        except (LeaseLost, StoreError):
            raise
        except Exception as error:
            # unknown means temporary, or in doubt past the intent: a defect delays, never loses
            log.exception("delivery=%s event=defect channel=%s", delivery.id, self.name)
            cause = f"défaut interne du connecteur : {type(error).__name__}"
            if intent.written:
                return self._doubtful(claimed, InDoubt(cause, code="internal"))
            return await self._again(claimed, TemporaryFailure(cause, code="internal"))

    def _doubtful(self, claimed: Claimed, doubt: InDoubt) -> Outcome:
        self.last_error = doubt.message
        due = self.clock() + timedelta(seconds=self.settings.retry.first_seconds)
        return Doubtful(
            failure=_failure(doubt), due_at=due, policy=policy_of(self.settings, self.connector)
        )

    async def _again(self, claimed: Claimed, failure: DeliveryError) -> Outcome:
        """Back to waiting, or failed when it was tried for too long."""
        now, delivery = self.clock(), claimed.delivery
        self.last_error = failure.message
        result = Result.DEFERRED if failure.words else Result.NOT_SENT
        if failure.scope == "channel":
            due = self.pace.failed(now, for_good=isinstance(failure, PermanentFailure))
            await self._down(failure, now)
            if delivery.expires_at is None or due < delivery.expires_at:
                # due at once: only the pause holds it back, and a reload or a restart ends that
                return Deferred(due_at=now, failure=_failure(failure), result=result)
        again = next_try(
            _retry_policy(self.settings),
            attempts=claimed.tries,
            created_at=delivery.created_at,
            expires_at=delivery.expires_at,
            now=now,
            urgent=delivery.urgent,
            jitter=jitter_of(delivery.id, claimed.tries),
        )
        if again is None:
            return Failed(failure=_failure(failure), result=result)
        notice = None
        if not claimed.warned and now - delivery.created_at >= warn_after(delivery.urgent):
            notice = Notice(
                subject=f"delivery:{delivery.id}",
                kind=NoticeKind.DELAYED,
                cause=f"envoi en retard vers {delivery.recipient} : {failure.message}",
                words=failure.words,
                command=f"dlx queue show {delivery.id}",
            )
        return Deferred(due_at=again, failure=_failure(failure), result=result, notice=notice)

    # --- the channel as a whole ----------------------------------------------------------------

    async def _down(self, failure: DeliveryError, now: datetime) -> None:
        since = self.pace.down_since or now
        lasting = (now - since).total_seconds() >= self.channel_down_seconds
        if self._told_down or not (lasting or isinstance(failure, PermanentFailure)):
            return
        self._told_down = True
        notice = Notice(
            subject=f"channel:{self.name}",
            kind=NoticeKind.CHANNEL,
            cause=f"canal {self.name} : {failure.message}",
            words=failure.words,
            command=failure.cure or f"dlx check --connect {self.name}",
        )
        await self.ledger.write(lambda tx: store.open_notice(tx, notice, now))
        log.error("channel=%s event=down code=%s", self.name, failure.code)

    async def _recovered(self) -> None:
        self._told_down, self._seen_up = False, True
        now = self.clock()
        await self.ledger.write(
            lambda tx: store.clear_notice(
                tx, f"channel:{self.name}", NoticeKind.CHANNEL, "canal rétabli", now
            )
        )
        log.info("channel=%s event=up", self.name)


class _Intent:
    """The ``committing`` callback of one attempt; ``written`` tells whether it came through.

    ``answered``: the far side refused this delivery in its own words, so the channel works.
    """

    def __init__(self, dispatcher: Dispatcher, claimed: Claimed) -> None:
        self._dispatcher = dispatcher
        self._claimed = claimed
        self.written = self.answered = False

    async def __call__(self) -> None:
        delivery, now = self._claimed.delivery, self._dispatcher.clock()
        # set first: a cancellation while the commit is under way must count as written
        self.written = True
        await self._dispatcher.ledger.write(
            lambda tx: store.commit_intent(tx, delivery.id, delivery.generation, now)
        )


def _retry_policy(settings: ChannelSettings) -> RetryPolicy:
    retry = settings.retry
    return RetryPolicy(
        first=timedelta(seconds=retry.first_seconds),
        factor=retry.factor,
        max=timedelta(seconds=retry.max_seconds),
        give_up=timedelta(seconds=retry.give_up_seconds),
    )


def _failure(error: DeliveryError) -> Failure:
    return Failure(
        code=error.code,
        message=error.message,
        words=error.words,
        cure=error.cure,
        phase=error.phase,
    )
