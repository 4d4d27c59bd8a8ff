"""The station: one process that wires the stages together and keeps them going.

One task each for intake, settling, alerting and heartbeat, one per channel; APScheduler only for
clock-time jobs. A stage that fails in a way it cannot judge stops the station: the supervisor
starts it again and recovery repeats what was under way.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import gc
import logging
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from apscheduler.schedulers.asyncio import AsyncIOScheduler

from dlx import ledger as store
from dlx import registry, spool
from dlx.archive import Archive, MasterKey
from dlx.contracts import Connector, Format
from dlx.control import ConfigRefused, ControlServer, Handler
from dlx.daemon.housekeeping import Housekeeping
from dlx.daemon.notify import Notifier
from dlx.daemon.taking import SCAN_SECONDS, Taker, inboxes
from dlx.delivery import Fallback, Notice, NoticeKind, State
from dlx.dispatching import Contents, Dispatcher, policy_of
from dlx.errors import ConfigError, StoreError
from dlx.intake import Intake, Rules
from dlx.ledger import DoubtPolicy, Ledger, Worker
from dlx.rehearsing import rehearse
from dlx.rendering import RenderPool, RenderUnavailable, WorkerCommand
from dlx.settings import Settings, check_routes, format_problem
from dlx.settings import load as load_settings

log = logging.getLogger("dlx.daemon")

STOP_SECONDS = 25.0  # of the 30 that operator-ux §4 gives to the whole stop
SOCKET_PATH_BYTES = 107  # sun_path of unix(7), less its NUL


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
    taker: Taker = field(init=False)
    dispatchers: dict[str, Dispatcher] = field(default_factory=dict)
    _tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)
    _lock: int = -1
    _notifier: Notifier = field(default_factory=Notifier)
    _keeping: Housekeeping = field(init=False)

    def __post_init__(self) -> None:
        self._keeping = Housekeeping(self, self._notifier)

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
            self._keeping.schedule(scheduler)
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
        if len(os.fsencode(settings.control_socket)) > SOCKET_PATH_BYTES:
            raise StoreError(
                f"chemin trop long pour un socket (plus de {SOCKET_PATH_BYTES} octets) :"
                f" {settings.control_socket} ; choisissez control_socket: ou --root plus court"
            )
        self.rooms = spool.Rooms(
            claimed=settings.spool / "claimed", reject=settings.spool / "reject"
        )
        database = Path(settings.database)
        _make_folders(settings, self.rooms, database)
        self._lock = _only_owner(settings.state / "station.lock")
        self.rooms.prove(inboxes(settings))
        self.ledger = Ledger.open(database, create=True)
        self.master = self._master_key()
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
        self.taker = Taker(
            ledger=self.ledger,
            intake=self.intake,
            rooms=self.rooms,
            clock=self.clock,
            stopping=self._stopping,
            settings=settings,
        )

    def _master_key(self) -> MasterKey:
        """From the credential ``kek`` (systemd guards its folder), else our own file."""
        credential = self.place.credentials and self.place.credentials / "kek"
        if credential and credential.exists():
            return MasterKey(credential.read_bytes())
        return MasterKey.load(self.settings.state / "keys" / "kek")

    async def _recover(self) -> None:
        """R1 leases of the dead, R2 files in ``claimed/``, R5 leftovers; before the first claim."""
        now = self.clock()
        worker = Worker(
            id=self.owner, host=socket.gethostname(), pid=os.getpid(), boot_id=_boot_id()
        )
        connectors = build_connectors(self.settings)
        policies = self.policies(connectors)

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
            await self.taker.trouble("render", f"moteurs de rendu indisponibles : {error}")
        await self._tell_orphans(self.settings)
        left = await self.taker.take_left()
        log.info("event=recovered deliveries=%d files=%d", len(moved), left)

    def policies(self, connectors: Mapping[str, Connector]) -> Callable[[str], DoubtPolicy]:
        """What follows a doubt, by channel."""
        table = {n: policy_of(self.settings.channels[n], c) for n, c in connectors.items()}
        # a channel that was removed from the configuration: nobody can look any more
        return lambda name: table.get(name, DoubtPolicy(max_doubt=0))

    def _start(self) -> None:
        self._go("intake", self.taker.run())
        self._go("watch", self.taker.watch())
        self._go("settle", self._keeping.settle())
        self._go("alert", self._keeping.alert())
        self._go("heartbeat", self._keeping.heartbeat())
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
        self.taker.use(settings)
        if (watching := self._tasks.pop("watch", None)) is not None:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
        self._go("watch", self.taker.watch())
        for name in list(self.dispatchers):
            if settings.channels.get(name) != old.channels.get(name):
                await self._end_channel(name)
        await self._tell_orphans(settings)
        for name, connector in connectors.items():
            if name not in self.dispatchers:
                self.dispatchers[name] = self._dispatcher(name, connector)
                self._go(f"channel:{name}", self.dispatchers[name].run())
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

    def _dispatcher(self, name: str, connector: Connector) -> Dispatcher:
        return Dispatcher(
            settings=self.settings.channels[name],
            connector=connector,
            ledger=self.ledger,
            contents=self.contents,
            owner=self.owner,
            zone=ZoneInfo(self.settings.laboratory.timezone),
            clock=self.clock,
            fallback=self.fallback,
            promised=self.promised,
            channel_down_seconds=self.settings.alerts.channel_down_seconds,
            stopped=f"channel:{name}" in self.ledger.read(store.stopped),
        )

    def give_up(self, channel: str) -> float:
        """Seconds after which a delivery by this channel expires."""
        return self.settings.channels[channel].retry.give_up_seconds

    def fallback(self, recipient: str) -> Fallback | None:
        """What the recipient's profile says for a delivery that nothing proves."""
        profile = self.settings.book.profiles.get(recipient)
        return profile.fallback if profile else None

    # --- loops ---------------------------------------------------------------------------------

    def promised(self, channels: set[str]) -> None:
        """These channels have something new; also tells people sooner of notices."""
        for name in channels:
            if name in self.dispatchers:
                self.dispatchers[name].wake()
        self._keeping.tell_soon()


def _make_folders(settings: Settings, rooms: spool.Rooms, database: Path) -> None:
    state = settings.state
    for folder in (
        state,
        state / "keys",
        state / "archive",
        database.parent,
        settings.control_socket.parent,
        rooms.claimed,
        rooms.reject,
        *inboxes(settings),
    ):
        folder.mkdir(mode=0o750, parents=True, exist_ok=True)


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
