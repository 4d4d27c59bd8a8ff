"""What the station does beside its line: settle, alert, show signs of life, jobs by the clock."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.cron import CronTrigger

from dlx import alerting, settling
from dlx import ledger as store
from dlx.daemon.notify import Notifier
from dlx.delivery import Notice, NoticeKind
from dlx.dispatching import LEASE, fall_back
from dlx.intake import Source

if TYPE_CHECKING:
    from dlx.daemon.station import Station

log = logging.getLogger("dlx.daemon")

HEARTBEAT_SECONDS = 10.0
SETTLE_SECONDS = 5.0
MARKER_PATIENCE_SECONDS = 900.0


class Housekeeping:
    """Loops and jobs of one station."""

    def __init__(self, station: Station, notifier: Notifier) -> None:
        self._station = station
        self._notifier = notifier
        self._tell = asyncio.Event()
        self._certificates_seen: datetime | None = None

    def tell_soon(self) -> None:
        """A notice may have been opened: people are told now, not at the next look."""
        self._tell.set()

    async def settle(self) -> None:
        """Collect receipts, fail what is overdue, fall back where a profile says so."""
        while True:
            for name, dispatcher in list(self._station.dispatchers.items()):
                await settling.collect(
                    self._station.ledger, name, dispatcher.connector, self._station.clock()
                )
            await self._settle_once()
            await asyncio.sleep(SETTLE_SECONDS)

    async def _settle_once(self) -> None:
        station = self._station
        now = station.clock()
        channels = tuple(station.settings.channels.values())
        policies = station.policies({n: d.connector for n, d in station.dispatchers.items()})
        profiles = station.settings.book.profiles
        proving = frozenset(n for n, d in station.dispatchers.items() if d.connector.gives_receipts)

        def settle(tx: store.Tx) -> list[str]:
            moved = store.reap(tx, now, policies)
            failed = settling.overdue(tx, channels, proving, now)
            for id in failed:
                recipient = store.delivery(tx, id).row.delivery.recipient
                rule = station.fallback(recipient)
                if rule is not None:
                    fall_back(tx, id, rule, now, "non remis", station.give_up(rule.channel))
            for id, rule in settling.late_for_fallback(tx, profiles, proving, now):
                why = "pas de preuve de remise dans le délai"
                fall_back(tx, id, rule, now, why, station.give_up(rule.channel))
            return moved + failed

        if await station.ledger.write(settle):
            station.promised(set(station.dispatchers))

    async def alert(self) -> None:
        """Mail what opened and closed; look at certificates once an hour."""
        station = self._station
        while True:
            now = station.clock()
            connectors = {n: d.connector for n, d in station.dispatchers.items()}
            if self._certificates_due(now):
                await station.ledger.write(
                    lambda tx, c=connectors, n=now: alerting.watch_certificates(tx, c, n)  # type: ignore[misc]
                )
            self._tell.clear()  # before looking: what opens meanwhile must not wait for the clock
            await alerting.tell(
                station.ledger,
                station.settings.alerts,
                station.settings.laboratory.name,
                now,
            )
            with contextlib.suppress(TimeoutError):
                # not wait_for, see Taker._rest
                async with asyncio.timeout(30.0):
                    await self._tell.wait()
            await asyncio.sleep(1.0)  # what happens together is told together

    def _certificates_due(self, now: datetime) -> bool:
        seen = self._certificates_seen
        if seen is not None and now - seen < timedelta(hours=1):
            return False
        self._certificates_seen = now
        return True

    async def heartbeat(self) -> None:
        """Extend our leases and tell systemd that the disk still commits."""
        every = min(HEARTBEAT_SECONDS, self._notifier.watchdog_seconds or HEARTBEAT_SECONDS)
        while True:
            now = self._station.clock()
            # a stuck disk stops this commit, hence the watchdog
            await self._station.ledger.write(
                lambda tx, n=now: store.heartbeat(tx, self._station.owner, n, n + LEASE)  # type: ignore[misc]
            )
            status = self._station.ledger.read(store.status)
            waiting = sum(n for (state, _), n in status.counts.items() if state.value == "waiting")
            notices = sum(status.open_notices.values())
            self._notifier.tell("WATCHDOG=1", f"STATUS={waiting} en attente, {notices} avis")
            await asyncio.sleep(every)

    def schedule(self, scheduler: AsyncIOScheduler) -> None:
        """Clock-time jobs; each is idempotent and reads the ledger."""
        zone = self._station.settings.laboratory.timezone
        scheduler.add_job(
            self._anchor,
            CronTrigger(hour=0, minute=5, timezone=zone),
            coalesce=True,
            max_instances=1,
            misfire_grace_time=None,
        )
        for source in self._station.taker.sources:
            if source.queue.ready.rule == "marker":
                scheduler.add_job(
                    self._lone_markers, "interval", minutes=5, args=[source], coalesce=True
                )
        scheduler.start()

    async def _anchor(self) -> None:
        """The head of the chain of events goes to the system's journal once a day."""
        last, digest = self._station.ledger.read(store.chain_head)
        log.info("event=anchor last=%d hash=%s", last, digest)

    async def _lone_markers(self, source: Source) -> None:
        now = self._station.clock()
        lone = source.queue.lone_markers(MARKER_PATIENCE_SECONDS, now)
        subject = f"pickup:{source.settings.name}"
        if lone:
            notice = Notice(
                subject=subject,
                kind=NoticeKind.STATION,
                cause=f"{len(lone)} fichier(s) ou témoin(s) seuls depuis plus de 15 minutes"
                f" dans {source.settings.name}",
                command="vérifiez que le SIL écrit le fichier puis son témoin",
            )
            await self._station.ledger.write(lambda tx: store.open_notice(tx, notice, now))
        else:
            await self._station.ledger.write(
                lambda tx: store.clear_notice(tx, subject, NoticeKind.STATION, "apparié", now)
            )
