"""The station: one process that wires the stages together and keeps them going.

One task each for intake, settling, alerting and heartbeat, one per channel; APScheduler only for
clock-time jobs. A stage that fails in a way it cannot judge stops the station: the supervisor
starts it again and recovery repeats what was under way.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import gc
import logging
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.cron import CronTrigger
from asyncinotify import Inotify, Mask

from dlx import alerting, registry, settling, spool
from dlx import ledger as store
from dlx.archive import Archive, MasterKey
from dlx.contracts import Connector, Format
from dlx.control import ConfigRefused, ControlServer, Handler
from dlx.daemon.notify import Notifier
from dlx.delivery import Fallback, Notice, NoticeKind, State
from dlx.dispatching import LEASE, Contents, Dispatcher, fall_back, policy_of
from dlx.errors import ConfigError, StoreError
from dlx.intake import Intake, Rules, Source
from dlx.ledger import DoubtPolicy, Ledger, Worker
from dlx.rehearsing import rehearse
from dlx.rendering import RenderPool, RenderUnavailable, WorkerCommand
from dlx.settings import Settings, check_routes, format_problem
from dlx.settings import load as load_settings

log = logging.getLogger("dlx.daemon")

SCAN_SECONDS = 5.0
HEARTBEAT_SECONDS = 10.0
SETTLE_SECONDS = 5.0
STOP_SECONDS = 25.0  # of the 30 that operator-ux §4 gives to the whole stop
SOCKET_PATH_BYTES = 107  # sun_path of unix(7), less its NUL
LOW_SPACE_BYTES = 64 << 20
MARKER_PATIENCE_SECONDS = 900.0


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a station lives: the root prefix, its configuration folder, its credentials."""

    prefix: Path
    folder: Path
    credentials: Path | None = None


def read_settings(place: Place) -> Settings:
    """Load and check the configuration. Raises ConfigError with every mistake."""
    return load_settings(
        place.folder,
        connectors=registry.connectors(),
        formats=registry.formats(),
        prefix=place.prefix,
        credentials=place.credentials,
    )


def build_connectors(settings: Settings) -> dict[str, Connector]:
    """One connector per channel, by its name; nothing is opened yet."""
    classes = registry.connectors()
    return {name: classes[c.type](c.connector) for name, c in settings.channels.items()}


def rules_of(settings: Settings, formats: Mapping[str, Format]) -> Rules:
    """What intake needs of a configuration."""
    return Rules(
        book=settings.book,
        formats=formats,
        give_up_seconds={n: c.retry.give_up_seconds for n, c in settings.channels.items()},
        hash=settings.hash,
    )


def utc_now() -> datetime:
    """The clock of the station."""
    return datetime.now(UTC)


@dataclass(kw_only=True)
class Station:
    """A running station. ``run`` returns after a stop signal or ``stop``.

    Attributes:
        place: where it lives. settings: in force. worker: how render workers are started.
        handlers: what the control socket answers, made once the station is wired.
    """

    place: Place
    settings: Settings
    worker: WorkerCommand
    handlers: Callable[[Station], Mapping[str, Handler]]
    clock: Callable[[], datetime] = utc_now
    started_at: datetime = field(init=False)
    ledger: Ledger = field(init=False)
    master: MasterKey = field(init=False)
    archive: Archive = field(init=False)
    contents: Contents = field(init=False)
    renderers: RenderPool = field(init=False)
    intake: Intake = field(init=False)
    rooms: spool.Rooms = field(init=False)
    owner: str = field(init=False)
    sources: list[Source] = field(default_factory=list)
    dispatchers: dict[str, Dispatcher] = field(default_factory=dict)
    _troubles: dict[str, str] = field(default_factory=dict)
    _fine: set[str] = field(default_factory=set)
    _tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)
    _look: asyncio.Event = field(default_factory=asyncio.Event)
    _tell: asyncio.Event = field(default_factory=asyncio.Event)
    _lock: int = -1
    _notifier: Notifier = field(default_factory=Notifier)

    # --- life ----------------------------------------------------------------------------------

    async def run(self) -> None:
        """Open, recover, work, stop. Raises StoreError, ConfigError."""
        self.started_at = self.clock()
        self._open()
        control = ControlServer(self.settings.control_socket, self.handlers(self))
        scheduler = AsyncIOScheduler(timezone=self.settings.laboratory.timezone)
        try:
            await self._recover()
            await control.start()
            self._schedule(scheduler)
            self._start()
            self._catch_signals()
            # what was loaded so far lives as long as the station: never look at it again
            gc.collect()
            gc.freeze()
            gc.set_threshold(20_000, 20, 20)
            self._notifier.tell("READY=1", "STATUS=prête")
            log.info("event=ready config=%s", self.settings.hash[:12])
            await self._until_stopped()
        finally:
            await self._shut(control, scheduler)

    def stop(self) -> None:
        """Take no more work, let running attempts end."""
        self._stopping.set()

    def _open(self) -> None:
        settings = self.settings
        for folder in (
            settings.state,
            settings.state / "keys",
            settings.state / "archive",
            settings.control_socket.parent,
        ):
            folder.mkdir(mode=0o750, parents=True, exist_ok=True)
        if len(os.fsencode(settings.control_socket)) > SOCKET_PATH_BYTES:
            raise StoreError(
                f"chemin trop long pour un socket (plus de {SOCKET_PATH_BYTES} octets) :"
                f" {settings.control_socket} ; choisissez control_socket: ou --root plus court"
            )
        self._lock = _only_owner(settings.state / "station.lock")
        self.rooms = spool.Rooms(
            claimed=settings.spool / "claimed", reject=settings.spool / "reject"
        )
        for room in (self.rooms.claimed, self.rooms.reject, *_inboxes(settings)):
            room.mkdir(mode=0o750, parents=True, exist_ok=True)
        self.rooms.prove(_inboxes(settings))
        database = Path(settings.database)
        database.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        self.ledger = Ledger.open(database, create=True)
        credential = self.place.credentials and self.place.credentials / "kek"
        fallback = settings.state / "keys" / "kek"
        self.master = MasterKey.load(credential if credential and credential.exists() else fallback)
        self.archive = Archive(settings.state / "archive")
        self.contents = Contents(self.ledger, self.archive, self.master)
        limits = settings.limits
        self.renderers = RenderPool(self.worker, limits.workers, limits.job_seconds)
        self.owner = f"w-{spool.claim_id()}"
        self.intake = Intake(
            ledger=self.ledger,
            archive=self.archive,
            master=self.master,
            renderers=self.renderers,
            rooms=self.rooms,
            rules=rules_of(settings, registry.formats()),
            clock=self.clock,
            promised=self.promised,
            prime=self.contents.prime,
        )
        self.sources = self._sources(settings)

    async def _recover(self) -> None:
        """R1 leases of the dead, R2 files in ``claimed/``, R5 leftovers; before the first claim."""
        now = self.clock()
        worker = Worker(
            id=self.owner, host=socket.gethostname(), pid=os.getpid(), boot_id=_boot_id()
        )
        connectors = build_connectors(self.settings)
        policies = self._policies(connectors)

        def leases(tx: store.Tx) -> list[str]:
            store.enrol(tx, worker, now)
            files = "\n".join(
                f"{name}\n{text.decode(errors='replace')}"
                for name, text in sorted(self.settings.files.items())
            )
            store.accept_configuration(tx, self.settings.hash, files, "station", now)
            return store.recover(tx, self.owner, now, policies)

        moved = await self.ledger.write(leases)
        for room in (self.rooms.reject, self.rooms.claimed):
            spool.finish_leftovers(room)
        self.archive.finish_leftovers()
        self.dispatchers = {
            name: self._dispatcher(name, connector) for name, connector in connectors.items()
        }
        try:
            await self.renderers.start()
        except RenderUnavailable as error:
            # deliveries go on without them; files wait in claimed/
            await self._trouble("render", f"moteurs de rendu indisponibles : {error}")
        await self._tell_orphans(self.settings)
        left = await self._take_left()
        log.info("event=recovered deliveries=%d files=%d", len(moved), left)

    def _first_pickup(self) -> str:
        return self.sources[0].settings.name if self.sources else ""

    def _policies(self, connectors: Mapping[str, Connector]) -> Callable[[str], DoubtPolicy]:
        table = {n: policy_of(self.settings.channels[n], c) for n, c in connectors.items()}
        # a channel that was removed from the configuration: nobody can look any more
        return lambda name: table.get(name, DoubtPolicy(max_doubt=0))

    def _start(self) -> None:
        self._go("intake", self._intake_loop())
        self._go("watch", self._watch_loop())
        self._go("settle", self._settle_loop())
        self._go("alert", self._alert_loop())
        self._go("heartbeat", self._heartbeat_loop())
        for name, dispatcher in self.dispatchers.items():
            self._go(f"channel:{name}", dispatcher.run())

    def _go(self, name: str, work: Awaitable[None]) -> None:
        self._tasks[name] = asyncio.ensure_future(work)

    async def _until_stopped(self) -> None:
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            while not stopping.done():
                tasks = [stopping, *self._tasks.values()]
                # a reload adds channels: look again at the list before long
                done, _ = await asyncio.wait(
                    tasks, timeout=SCAN_SECONDS, return_when=asyncio.FIRST_COMPLETED
                )
                for name, task in list(self._tasks.items()):
                    if task in done:
                        del self._tasks[name]
                        task.result()  # raises what made the stage fail
        finally:
            stopping.cancel()

    async def _shut(self, control: ControlServer, scheduler: AsyncIOScheduler) -> None:
        self._notifier.tell("STOPPING=1")
        if scheduler.running:
            scheduler.shutdown(wait=False)
        await control.close()
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        await asyncio.gather(*(d.drain(STOP_SECONDS) for d in self.dispatchers.values()))
        await self.renderers.close()
        self.ledger.close()
        os.close(self._lock)
        log.info("event=stopped")

    def _catch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        loop.add_signal_handler(signal.SIGHUP, self._hangup)

    def _hangup(self) -> None:
        async def reload() -> None:
            with contextlib.suppress(ConfigRefused):
                await self.reload("SIGHUP")

        self._go("reload", reload())

    # --- configuration -------------------------------------------------------------------------

    async def reload(self, actor: str) -> str:
        """Check and switch. Raises ConfigRefused: the old configuration stays in force."""
        self._notifier.tell("RELOADING=1")
        try:
            settings = await asyncio.to_thread(read_settings, self.place)
            connectors = build_connectors(settings)
            problems = [p for p in check_routes(settings, connectors) if p.severity == "error"]
            if problems:
                raise ConfigError(tuple(problems))
            self._refuse_failed_tests(settings)
        except ConfigError as error:
            first = error.problems[0]
            log.error(
                "event=reload_refused place=%s:%d:%d code=%s kept=%s",
                first.file,
                first.line,
                first.column,
                first.code,
                self.settings.hash[:12],
            )
            texts = [format_problem(p) for p in error.problems]
            raise ConfigRefused(
                "configuration refusée, l'ancienne reste en vigueur", texts
            ) from error
        finally:
            self._notifier.tell("READY=1")
        await self._switch(settings, connectors, actor)
        return settings.hash

    def _refuse_failed_tests(self, settings: Settings) -> None:
        """``safety.tests: required``: a set whose route tests fail is not put in force."""
        if not settings.tests_required:
            return
        results = rehearse(settings.tests, settings.book, self.clock())
        failed = [f"{r.place}: {r.name} : {'; '.join(r.problems)}" for r in results if r.problems]
        if failed:
            log.error("event=reload_refused tests_failed=%d", len(failed))
            raise ConfigRefused("des essais de routage échouent, rien n'est changé", failed)

    async def _switch(
        self, settings: Settings, connectors: dict[str, Connector], actor: str
    ) -> None:
        now = self.clock()
        files = "\n".join(
            f"{name}\n{text.decode(errors='replace')}"
            for name, text in sorted(settings.files.items())
        )
        await self.ledger.write(
            lambda tx: store.accept_configuration(tx, settings.hash, files, actor, now)
        )
        old, self.settings = self.settings, settings
        self.intake.rules = rules_of(settings, registry.formats())
        self.sources = self._sources(settings)
        if (watching := self._tasks.pop("watch", None)) is not None:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
        self._go("watch", self._watch_loop())
        for name in list(self.dispatchers):
            if settings.channels.get(name) != old.channels.get(name):
                await self._end_channel(name)
        await self._tell_orphans(settings)
        for name, connector in connectors.items():
            if name not in self.dispatchers:
                self.dispatchers[name] = self._dispatcher(name, connector)
                self._go(f"channel:{name}", self.dispatchers[name].run())
        self._look.set()
        log.info("event=reloaded config=%s actor=%s", settings.hash[:12], actor)

    async def _tell_orphans(self, settings: Settings) -> None:
        """Deliveries that wait for a channel nobody serves any more: a person must see them."""
        counts = self.ledger.read(store.counts)
        now = self.clock()
        for (state, channel), waiting in counts.items():
            if state is not State.WAITING or not waiting or channel in settings.channels:
                continue
            notice = Notice(
                subject=f"channel:{channel}",
                kind=NoticeKind.CHANNEL,
                cause=f"canal {channel} retiré de la configuration : {waiting} envois l'attendent",
                command=f"dlx queue list --channel {channel}",
            )
            await self.ledger.write(lambda tx, n=notice: store.open_notice(tx, n, now))  # type: ignore[misc]

    async def _end_channel(self, name: str) -> None:
        dispatcher = self.dispatchers.pop(name)
        task = self._tasks.pop(f"channel:{name}", None)
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await dispatcher.drain(STOP_SECONDS)

    def _sources(self, settings: Settings) -> list[Source]:
        sources = []
        inboxes = _inboxes(settings)
        for pickup in settings.pickups:
            if not pickup.enabled:
                continue
            ready = pickup.ready_when
            queue = spool.Pickup(
                name=pickup.name,
                directory=pickup.directory,
                rooms=self.rooms,
                pattern=pickup.pattern,
                ready=spool.Ready(
                    rule=ready.rule, marker=ready.marker, quiet_seconds=ready.quiet_seconds
                ),
                max_bytes=pickup.max_size_bytes,
                excluded=frozenset(i.name for i in inboxes if i.parent == pickup.directory),
            )
            sources.append(Source(settings=pickup, queue=queue))
        return sources

    def _dispatcher(self, name: str, connector: Connector) -> Dispatcher:
        return Dispatcher(
            settings=self.settings.channels[name],
            connector=connector,
            ledger=self.ledger,
            contents=self.contents,
            owner=self.owner,
            zone=ZoneInfo(self.settings.laboratory.timezone),
            clock=self.clock,
            fallback=self._fallback,
            promised=self.promised,
            channel_down_seconds=self.settings.alerts.channel_down_seconds,
            stopped=f"channel:{name}" in self.ledger.read(store.stopped),
        )

    def _give_up(self, channel: str) -> float:
        return self.settings.channels[channel].retry.give_up_seconds

    def _fallback(self, recipient: str) -> Fallback | None:
        profile = self.settings.book.profiles.get(recipient)
        return profile.fallback if profile else None

    # --- loops ---------------------------------------------------------------------------------

    def promised(self, channels: set[str]) -> None:
        """These channels have something new; also tells people sooner of notices."""
        for name in channels:
            if name in self.dispatchers:
                self.dispatchers[name].wake()
        self._tell.set()

    def look(self) -> None:
        """Something may have been dropped."""
        self._look.set()

    async def _watch_loop(self) -> None:
        """Events only wake the scanner; the listing is the truth (a full queue, NFS)."""
        while True:
            try:
                with Inotify() as events:
                    for folder in {source.queue.directory for source in self.sources}:
                        events.add_watch(folder, Mask.MOVED_TO | Mask.CLOSE_WRITE)
                    self._look.set()  # for what came before the watch
                    async for _ in events:
                        self._look.set()
            except OSError as error:
                log.warning("event=watch_unavailable error=%s", type(error).__name__)
                await asyncio.sleep(SCAN_SECONDS)

    async def _intake_loop(self) -> None:
        writing: asyncio.Task[None] | None = None
        while not self._stopping.is_set():
            self._look.clear()
            took = 0
            if await self._may_take():
                for source in list(self.sources):
                    names = await self._scan(source)
                    batch = self.settings.limits.batch
                    for start in range(0, len(names), batch):
                        if self._stopping.is_set() or self._no_room:
                            break
                        files = await self._claim(source, names[start : start + batch])
                        took += len(files)
                        rest = await self._guarded(source, files)
                        if writing is not None:
                            await writing
                        writing = asyncio.ensure_future(self._finish(rest))
            if writing is not None:
                await writing
                writing = None
            if not took:
                await self._rest()

    async def _scan(self, source: Source) -> list[str]:
        """What is ready in a drop zone; one that cannot be listed (a lost mount) stops no other."""
        place = f"pickup-{source.settings.name}"
        try:
            names = source.queue.scan(asyncio.get_running_loop().time())
        except OSError as error:
            cause = f"collecte {source.settings.name} : dossier illisible ({error.strerror})"
            await self._trouble(place, cause)
            return []
        await self._trouble_over(place, "dossier retrouvé")
        return names

    async def _claim(self, source: Source, names: list[str]) -> list[spool.Claimed]:
        """Claim files; on a full disk none: what was renamed is found in ``claimed/`` later."""
        try:
            return source.queue.claim(names)
        except OSError as error:
            await self._full_or_raise(error)
            return []

    async def _guarded(self, source: Source, files: list[spool.Claimed]) -> Awaitable[None] | None:
        """Parse a batch; when the render workers cannot be had, the files wait in ``claimed/``."""
        try:
            rest = await self.intake.take(source, files)
        except RenderUnavailable as error:
            await self._trouble("render", f"moteurs de rendu indisponibles : {error}")
            return None
        except OSError as error:
            await self._full_or_raise(error)
            return None
        await self._trouble_over("render", "moteurs de rendu rétablis")
        return rest

    async def _finish(self, rest: Awaitable[None] | None) -> None:
        """Write a parsed batch; without workers it stays in ``claimed/``, as in ``_guarded``."""
        try:
            if rest is not None:
                await rest
                await self._trouble_over("write", "écriture rétablie")
        except RenderUnavailable as error:
            await self._trouble("render", f"moteurs de rendu indisponibles : {error}")
        except OSError as error:
            await self._full_or_raise(error)

    @property
    def _no_room(self) -> bool:
        """True while a batch could not be written: what was taken goes first, nothing new."""
        return "write" in self._troubles

    async def _full_or_raise(self, error: OSError) -> None:
        """A full disk is a pause (P10): the files stay in ``claimed/`` and are taken again."""
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise error
        cause = f"plus de place pour écrire ({error.strerror}) : collecte arrêtée"
        await self._trouble("write", cause)

    async def _take_left(self) -> int:
        """Take what lies in ``claimed/``, each file by the rules of its own pickup; how many."""
        left = spool.claimed_files(self.rooms.claimed, self._first_pickup())
        sources = {source.settings.name: source for source in self.sources}
        for name in dict.fromkeys(file.pickup for file in left) if sources else ():
            # a pickup that is gone from the configuration: by the rules of the first
            source = sources.get(name) or self.sources[0]
            await self._take(source, [file for file in left if file.pickup == name])
        return len(left)

    async def _take(self, source: Source, files: list[spool.Claimed]) -> None:
        batch = self.settings.limits.batch
        for start in range(0, len(files), batch):
            await self._finish(await self._guarded(source, files[start : start + batch]))
            if self._no_room:
                return  # one batch is enough to see that there is still no room

    async def _rest(self) -> None:
        quick = self.intake.unstable or any(s.queue.ready.rule == "quiet" for s in self.sources)
        with contextlib.suppress(TimeoutError):
            # not wait_for: Python 3.11 forgets a cancellation that comes together with the event
            async with asyncio.timeout(1.0 if quick else SCAN_SECONDS):
                await self._look.wait()
        if await self._enough_space() and not await self._take_left():
            await self._trouble_over("write", "rien à écrire")

    async def _may_take(self) -> bool:
        """True when new files may be claimed."""
        return await self._enough_space() and not self._no_room

    async def _enough_space(self) -> bool:
        """False while the disk is nearly full: deliveries go on, no file is taken further."""
        free = min(spool.free_bytes(self.rooms.claimed), spool.free_bytes(self.settings.state))
        if free < LOW_SPACE_BYTES:
            await self._trouble(
                "disk", f"disque presque plein ({free >> 20} Mo) : collecte arrêtée"
            )
            return False
        await self._trouble_over("disk", "place retrouvée")
        return True

    @property
    def intake_paused(self) -> str:
        """What keeps files from being taken, or ""."""
        causes = list(self._troubles.values())
        if self.ledger.full:
            causes.append("disque plein : la base attend de la place pour écrire")
        return " ; ".join(causes)

    async def _trouble(self, what: str, cause: str) -> None:
        known = what in self._troubles
        self._troubles[what] = cause
        if known:
            return
        now = self.clock()
        notice = Notice(
            subject=f"station:{what}", kind=NoticeKind.STATION, cause=cause, command="dlx status"
        )
        await self.ledger.write(lambda tx: store.open_notice(tx, notice, now))
        log.error("event=intake_paused cause=%s", what)

    async def _trouble_over(self, what: str, reason: str) -> None:
        if self._troubles.pop(what, None) is None and what in self._fine:
            return
        self._fine.add(what)  # the first time also closes what an earlier run had opened
        now = self.clock()
        await self.ledger.write(
            lambda tx: store.clear_notice(tx, f"station:{what}", NoticeKind.STATION, reason, now)
        )

    async def _settle_loop(self) -> None:
        while True:
            for name, dispatcher in list(self.dispatchers.items()):
                await settling.collect(self.ledger, name, dispatcher.connector, self.clock())
            await self._settle_once()
            await asyncio.sleep(SETTLE_SECONDS)

    async def _settle_once(self) -> None:
        now = self.clock()
        channels = tuple(self.settings.channels.values())
        policies = self._policies({n: d.connector for n, d in self.dispatchers.items()})
        profiles = self.settings.book.profiles
        proving = frozenset(n for n, d in self.dispatchers.items() if d.connector.gives_receipts)

        def settle(tx: store.Tx) -> list[str]:
            moved = store.reap(tx, now, policies)
            failed = settling.overdue(tx, channels, proving, now)
            for id in failed:
                recipient = store.delivery(tx, id).row.delivery.recipient
                rule = self._fallback(recipient)
                if rule is not None:
                    fall_back(tx, id, rule, now, "non remis", self._give_up(rule.channel))
            for id, rule in settling.late_for_fallback(tx, profiles, proving, now):
                why = "pas de preuve de remise dans le délai"
                fall_back(tx, id, rule, now, why, self._give_up(rule.channel))
            return moved + failed

        if await self.ledger.write(settle):
            self.promised(set(self.dispatchers))

    async def _alert_loop(self) -> None:
        while True:
            now = self.clock()
            connectors = {n: d.connector for n, d in self.dispatchers.items()}
            if self._certificates_due(now):
                await self.ledger.write(
                    lambda tx, c=connectors, n=now: alerting.watch_certificates(tx, c, n)  # type: ignore[misc]
                )
            self._tell.clear()  # before looking: what opens meanwhile must not wait for the clock
            await alerting.tell(
                self.ledger, self.settings.alerts, self.settings.laboratory.name, now
            )
            with contextlib.suppress(TimeoutError):
                # not wait_for, see _rest
                async with asyncio.timeout(30.0):
                    await self._tell.wait()
            await asyncio.sleep(1.0)  # what happens together is told together

    _certificates_seen: datetime | None = None

    def _certificates_due(self, now: datetime) -> bool:
        seen = self._certificates_seen
        if seen is not None and now - seen < timedelta(hours=1):
            return False
        self._certificates_seen = now
        return True

    async def _heartbeat_loop(self) -> None:
        every = min(HEARTBEAT_SECONDS, self._notifier.watchdog_seconds or HEARTBEAT_SECONDS)
        while True:
            now = self.clock()
            # a stuck disk stops this commit, hence the watchdog
            await self.ledger.write(
                lambda tx, n=now: store.heartbeat(tx, self.owner, n, n + LEASE)  # type: ignore[misc]
            )
            status = self.ledger.read(store.status)
            waiting = sum(n for (state, _), n in status.counts.items() if state.value == "waiting")
            notices = sum(status.open_notices.values())
            self._notifier.tell("WATCHDOG=1", f"STATUS={waiting} en attente, {notices} avis")
            await asyncio.sleep(every)

    def _schedule(self, scheduler: AsyncIOScheduler) -> None:
        """Clock-time jobs; each is idempotent and reads the ledger."""
        zone = self.settings.laboratory.timezone
        scheduler.add_job(
            self._anchor,
            CronTrigger(hour=0, minute=5, timezone=zone),
            coalesce=True,
            max_instances=1,
            misfire_grace_time=None,
        )
        for source in self.sources:
            if source.queue.ready.rule == "marker":
                scheduler.add_job(
                    self._lone_markers, "interval", minutes=5, args=[source], coalesce=True
                )
        scheduler.start()

    async def _anchor(self) -> None:
        """The head of the chain of events goes to the system's journal once a day."""
        last, digest = self.ledger.read(store.chain_head)
        log.info("event=anchor last=%d hash=%s", last, digest)

    async def _lone_markers(self, source: Source) -> None:
        now = self.clock()
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
            await self.ledger.write(lambda tx: store.open_notice(tx, notice, now))
        else:
            await self.ledger.write(
                lambda tx: store.clear_notice(tx, subject, NoticeKind.STATION, "apparié", now)
            )


def _inboxes(settings: Settings) -> list[Path]:
    return [p.directory for p in settings.pickups if p.enabled]


def _only_owner(path: Path) -> int:
    """Lock the state root; a second station on the same one refuses to start."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise StoreError("une autre station travaille déjà dans ce dossier") from error
    return descriptor


def _boot_id() -> str:
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""
