"""A few open SMTP sessions to one relay, lent for one mail at a time and kept while they live."""

from __future__ import annotations

import asyncio
import contextlib

from connectors._smtp import Envelope, Server, Session
from connectors._smtp_dialogue import LinkBroken
from connectors._smtp_errors import Reply, link_failure
from dlx.contracts import Committing
from dlx.delivery import Phase


class Pool:
    """Sessions of one relay, for one event loop.

    Args:
        server: where they go.
        size: how many at most at the same time.
        idle_seconds: how long an unused one is kept. mails_each: after how many it is replaced.
    """

    def __init__(
        self, server: Server, *, size: int = 4, idle_seconds: float = 60, mails_each: int = 100
    ) -> None:
        self._server = server
        self._idle_seconds = idle_seconds
        self._mails_each = mails_each
        self._free = asyncio.Semaphore(size)
        self._idle: list[Session] = []
        self._timers: dict[Session, asyncio.TimerHandle] = {}
        self._farewells: set[asyncio.Task[None]] = set()
        self.opened = 0

    async def send(self, envelope: Envelope, committing: Committing) -> tuple[Reply, Session]:
        """Carry one mail over a kept or a new session; see ``Session.send`` for the errors.

        A kept session that proves dead before its first reply is replaced once, unnoticed: then
        nothing but MAIL and RCPT was written, and ``committing`` was not awaited.
        """
        async with self._free:
            session = await self._borrowed()
            try:
                try:
                    return await session.send(envelope, committing), session
                except LinkBroken:
                    session.abort()
                    session = await self._opened()
                    return await self._sent_anew(session, envelope, committing), session
            finally:
                self._give_back(session)

    async def _sent_anew(
        self, session: Session, envelope: Envelope, committing: Committing
    ) -> Reply:
        try:
            return await session.send(envelope, committing)
        except LinkBroken as error:
            raise link_failure(session.peer, error, Phase.ENVELOPE) from error

    async def probe(self) -> Session:
        """Open a session (or show that a kept one still lives) and give it back."""
        async with self._free:
            session = await self._opened()
            self._give_back(session)
            return session

    async def close(self) -> None:
        """Say goodbye on every idle session."""
        idle, self._idle = self._idle, []
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        await asyncio.gather(*(session.quit() for session in idle), *self._farewells)

    async def _borrowed(self) -> Session:
        while self._idle:
            session = self._idle.pop()
            self._timers.pop(session).cancel()
            if session.usable:
                return session
            session.abort()
        return await self._opened()

    async def _opened(self) -> Session:
        self.opened += 1
        return await Session.open(self._server)

    def _give_back(self, session: Session) -> None:
        if not session.usable:
            session.abort()
        elif session.carried >= self._mails_each:
            self._dismiss(session)
        else:
            self._idle.append(session)
            loop = asyncio.get_running_loop()
            self._timers[session] = loop.call_later(self._idle_seconds, self._expire, session)

    def _expire(self, session: Session) -> None:
        del self._timers[session]
        self._idle.remove(session)
        self._dismiss(session)

    def _dismiss(self, session: Session) -> None:
        farewell = asyncio.ensure_future(session.quit())
        self._farewells.add(farewell)
        farewell.add_done_callback(self._farewells.discard)

    def abandon(self) -> None:
        """Forget sessions whose event loop is gone."""
        for session in self._idle:
            with contextlib.suppress(RuntimeError):
                session.abort()
        self._idle.clear()
        self._timers.clear()
