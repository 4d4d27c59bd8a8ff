"""The desk for rejected files: look, take again, discard."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from dlx import ledger as store
from dlx import spool
from dlx.control import Handler, Request
from dlx.daemon.asking import reason_of
from dlx.delivery import NoticeKind
from dlx.errors import NotFound, Refused
from dlx.ledger import Tx

if TYPE_CHECKING:
    from dlx.daemon.station import Station

Json = dict[str, Any]


class RejectDesk:
    """Handlers for ``dlx reject``."""

    def __init__(self, station: Station) -> None:
        self._station = station

    def handlers(self) -> dict[str, Handler]:
        """Verb → handler."""
        return {
            "reject.list": self.every,
            "reject.show": self.show,
            "reject.retry": self.retry,
            "reject.discard": self.discard,
        }

    async def every(self, request: Request) -> list[Json]:
        """Every rejected file with its reason, oldest first."""
        return [r.facts for r in spool.rejected_files(self._station.rooms.reject)]

    async def show(self, request: Request) -> Json:
        """The reason, and where the file lies."""
        (found,) = self._rejected([str(request.arguments["claim"])])
        return {**found.facts, "file": str(found.path)}

    async def retry(self, request: Request) -> Json:
        """Take rejected files again, as if they had just been dropped."""
        why = reason_of(request.arguments, needed=True)
        chosen = self._rejected(request.arguments["claims"])
        boxes = {s.settings.name: s.queue.directory for s in self._station.taker.sources}
        for one in chosen:
            inbox = boxes.get(one.facts["pickup"])
            if inbox is None:
                raise Refused(f"point de collecte {one.facts['pickup']} absent de la configuration")
            await self._journal(one, "retried", request.actor, why)
            await asyncio.to_thread(spool.give_back, one, inbox)
        self._station.taker.look()
        return {"retried": [one.facts["claim"] for one in chosen]}

    async def discard(self, request: Request) -> Json:
        """Remove rejected files; who and why stay in the journal."""
        why = reason_of(request.arguments, needed=True)
        chosen = self._rejected(request.arguments["claims"])
        for one in chosen:
            await self._journal(one, "discarded", request.actor, why)
            await asyncio.to_thread(spool.discard, one)
        return {"discarded": [one.facts["claim"] for one in chosen]}

    def _rejected(self, claims: Sequence[str]) -> list[spool.Rejected]:
        known = spool.rejected_files(self._station.rooms.reject)
        found = []
        for claim in claims:
            near = [one for one in known if one.facts["claim"].startswith(claim)]
            if len(near) != 1:
                raise NotFound(f"fichier refusé {claim} ; voir : dlx reject")
            found += near
        return found

    async def _journal(self, one: spool.Rejected, action: str, actor: str, reason: str) -> None:
        claim = one.facts["claim"]

        def work(tx: Tx, now: datetime) -> None:
            subject = store.intake_of_claim(tx, claim)
            detail = {"reason": reason, "claim": claim}
            store.record(tx, subject=subject, action=action, actor=actor, now=now, detail=detail)
            store.clear_notice(tx, subject, NoticeKind.REJECTED, f"{action} : {reason}", now)

        now = self._station.clock()
        await self._station.ledger.write(lambda tx: work(tx, now))
        self._station.promised(set())
