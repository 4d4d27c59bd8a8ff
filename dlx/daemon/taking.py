"""Taking files: watch the drop zones, claim in batches, and stop taking when there is trouble.

Trouble (a full disk, no render worker, a lost mount) pauses what it concerns, opens one notice and
closes it when it is over; files that were taken wait in ``claimed/``.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from asyncinotify import Inotify, Mask

from dlx import ledger as store
from dlx import spool
from dlx.delivery import Notice, NoticeKind
from dlx.intake import Intake, Source
from dlx.ledger import Ledger
from dlx.rendering import RenderUnavailable
from dlx.settings import Settings

log = logging.getLogger("dlx.daemon")

SCAN_SECONDS = 5.0
LOW_SPACE_BYTES = 64 << 20


def inboxes(settings: Settings) -> list[Path]:
    """The drop zones in use."""
    return [p.directory for p in settings.pickups if p.enabled]


@dataclass(kw_only=True)
class Taker:
    """Feeds the intake. One instance, one event loop.

    Attributes:
        settings, sources: in force; ``use`` replaces both.
        stopping: set when nothing more may be claimed.
    """

    ledger: Ledger
    intake: Intake
    rooms: spool.Rooms
    clock: Callable[[], datetime]
    stopping: asyncio.Event
    settings: Settings
    sources: list[Source] = field(init=False)
    _troubles: dict[str, str] = field(default_factory=dict)
    _fine: set[str] = field(default_factory=set)
    _look: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.use(self.settings)

    def use(self, settings: Settings) -> None:
        """Put other pickups in force; ``watch`` must be started again."""
        self.settings = settings
        self.sources = self._sources(settings)
        self._look.set()

    def _first_pickup(self) -> str:
        return self.sources[0].settings.name if self.sources else ""

    def _sources(self, settings: Settings) -> list[Source]:
        sources = []
        boxes = inboxes(settings)
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
                excluded=frozenset(i.name for i in boxes if i.parent == pickup.directory),
            )
            sources.append(Source(settings=pickup, queue=queue))
        return sources

    def look(self) -> None:
        """Something may have been dropped."""
        self._look.set()

    async def watch(self) -> None:
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

    async def run(self) -> None:
        """Claim and hand over until told to stop; one batch is parsed while another is written."""
        writing: asyncio.Task[None] | None = None
        while not self.stopping.is_set():
            self._look.clear()
            took = 0
            if await self._may_take():
                for source in list(self.sources):
                    names = await self._scan(source)
                    batch = self.settings.limits.batch
                    for start in range(0, len(names), batch):
                        if self.stopping.is_set() or self._no_room:
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
            await self.trouble(place, cause)
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
            await self.trouble("render", f"moteurs de rendu indisponibles : {error}")
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
            await self.trouble("render", f"moteurs de rendu indisponibles : {error}")
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
        await self.trouble("write", cause)

    async def take_left(self) -> int:
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
        if await self._enough_space() and not await self.take_left():
            await self._trouble_over("write", "rien à écrire")

    async def _may_take(self) -> bool:
        """True when new files may be claimed."""
        return await self._enough_space() and not self._no_room

    async def _enough_space(self) -> bool:
        """False while the disk is nearly full: deliveries go on, no file is taken further."""
        free = min(spool.free_bytes(self.rooms.claimed), spool.free_bytes(self.settings.state))
        if free < LOW_SPACE_BYTES:
            await self.trouble("disk", f"disque presque plein ({free >> 20} Mo) : collecte arrêtée")
            return False
        await self._trouble_over("disk", "place retrouvée")
        return True

    @property
    def paused(self) -> str:
        """What keeps files from being taken, or ""."""
        causes = list(self._troubles.values())
        if self.ledger.full:
            causes.append("disque plein : la base attend de la place pour écrire")
        return " ; ".join(causes)

    async def trouble(self, what: str, cause: str) -> None:
        """``what`` keeps files from being taken: said once, in a notice."""
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
