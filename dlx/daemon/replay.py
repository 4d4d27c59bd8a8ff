"""Replay: route and render reports again with today's configuration.

A plan first; applying it makes new deliveries of the same version. What a recipient already has
byte for byte, or has waiting, is left out: the same command after a crash goes on where it stopped.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from dlx import ledger as store
from dlx.archive import DataKey
from dlx.daemon.asking import moment_of
from dlx.delivery import Route, State
from dlx.errors import NotFound
from dlx.intake import Plan, route_plan
from dlx.ledger import PlannedDelivery, PlannedRendition, ReportView
from dlx.rendering import FileToParse, Made, ReportToRender
from dlx.spool import claim_id

if TYPE_CHECKING:
    from dlx.daemon.station import Station

Json = dict[str, Any]

HAS_IT = (State.ACCEPTED, State.DELIVERED)
ON_ITS_WAY = (State.WAITING, State.HELD, State.CLAIMED, State.SENDING, State.IN_DOUBT)


class Replay:
    """One replay; ``plan`` touches nothing, ``apply`` promises what was planned."""

    def __init__(self, station: Station, *, even_if_delivered: bool) -> None:
        self._station = station
        self._even = even_if_delivered
        self._work: dict[str, tuple[Plan, ReportView, list[tuple[Made, bytes]], list[int]]] = {}

    async def plan(self, arguments: Mapping[str, Any], now: datetime) -> list[Json]:
        """One row per report: new deliveries, and those left out with the reason."""
        rows = []
        for id in self._chosen(arguments, now):
            rows.append(await self._plan_one(id, now))
        return rows

    def _chosen(self, arguments: Mapping[str, Any], now: datetime) -> list[str]:
        read = self._station.ledger.read
        if report := arguments.get("report"):
            return [read(lambda tx: store.report(tx, str(report))).version.id]
        since = arguments.get("since")
        if not since:
            raise NotFound("précisez --report ou --since")
        start = moment_of(str(since), now)
        until = arguments.get("until")
        end = moment_of(str(until), now) if until else None
        limit = int(arguments.get("limit") or 10_000)
        found = read(lambda tx: store.reports(tx, since=start, until=end, limit=limit))
        newest: dict[tuple[str, str], Any] = {}
        for row in found:
            key = (row.issuer, row.number)
            if key not in newest or newest[key].version < row.version:
                newest[key] = row
        return [row.id for row in newest.values()]

    async def _plan_one(self, id: str, now: datetime) -> Json:
        s = self._station
        view = s.ledger.read(lambda tx: store.report(tx, id))
        plan = await self._parsed(view)
        before = frozenset(
            d.delivery.recipient for d in view.deliveries if d.delivery.report != view.version.id
        )
        route_plan(plan, s.intake.rules, now, before)
        (made,) = await s.renderers.render(
            [
                (
                    plan.token[0],
                    ReportToRender(
                        token=plan.token[1],
                        version=view.version.version,
                        replaces=view.version.version - 1,
                        wishes=tuple(plan.wishes),
                    ),
                )
            ]
        )
        chosen, new, left_out = [], [], []
        for position, (route, wanted) in enumerate(
            zip(plan.routing.routes, plan.wanted, strict=True)
        ):
            reason = self._reason_not(route, [made[w] for w in wanted], view)
            row = {"recipient": route.recipient, "channel": route.channel, "why": route.why}
            if reason:
                left_out.append({**row, "reason": reason})
            else:
                chosen.append(position)
                new.append(row)
        self._work[view.version.id] = (plan, view, made, chosen)
        return {
            "report": view.version.id,
            "number": view.version.number,
            "version": view.version.version,
            "new": new,
            "left_out": left_out,
            "problems": [p.cause for p in plan.routing.problems],
        }

    async def _parsed(self, view: ReportView) -> Plan:
        s = self._station
        place = s.ledger.read(lambda tx: store.place_of(tx, view.version.original_sha256))
        if place is None:
            raise NotFound(f"{view.version.id} : contenu effacé par la politique de conservation")
        data = s.contents.read(place)
        ((worker, parsed),) = await s.renderers.parse([(FileToParse(blob=0), data)])
        for report in parsed.reports:
            if (report.facts.issuer, report.facts.number) == (
                view.version.issuer,
                view.version.number,
            ):
                return Plan(
                    facts=report.facts,
                    token=(worker, report.token),
                    patient_hash=view.version.patient_hash,
                    version=view.version.version,
                )
        raise NotFound(f"{view.version.id} : le fichier d'origine ne se lit plus ainsi")

    def _reason_not(
        self, route: Route, made: Sequence[tuple[Made, bytes]], view: ReportView
    ) -> str:
        """Why this route needs no new delivery; "" when it does."""
        if refused := next((m.refused for m, _ in made if m.refused), None):
            return f"rendu impossible : {refused.message}"
        digests = [_digest(content) for _, content in made]
        for row in view.deliveries:
            d = row.delivery
            if d.report != view.version.id or d.recipient != route.recipient:
                continue
            if d.channel == route.channel and d.state in ON_ITS_WAY:
                return f"déjà en cours ({d.id})"
            if d.state in HAS_IT and not self._even:
                shown = self._station.ledger.read(lambda tx, i=d.id: store.delivery(tx, i))  # type: ignore[misc]
                if [r.sha256 for r in shown.renditions] == digests:
                    return f"déjà remis à l'identique ({d.id})"
        return ""

    async def apply(self, rows: Sequence[Json], *, actor: str, reason: str) -> list[str]:
        """Promise what ``plan`` found; ids of the deliveries made."""
        made: list[str] = []
        for row in rows:
            made += await self._apply_one(row["report"], actor, reason)
        return made

    async def _apply_one(self, id: str, actor: str, reason: str) -> list[str]:
        s = self._station
        plan, _, made, chosen = self._work.pop(id)
        if not chosen:
            return []
        now = s.clock()
        used = sorted({w for position in chosen for w in plan.wanted[position]})
        key: DataKey = s.master.new_key()
        bundle = [(key, made[w][1]) for w in used]
        places = await asyncio.to_thread(s.archive.keep, bundle, claim_id(), now)
        renditions = [
            PlannedRendition(
                ref=str(w),
                format=made[w][0].format,
                sha256=place.sha256,
                size=len(made[w][1]),
                suffix=made[w][0].suffix,
                media_type=made[w][0].media_type,
                losses=made[w][0].losses,
            )
            for w, place in zip(used, places, strict=True)
        ]
        deliveries = [self._planned(plan, position, now) for position in chosen]
        kept = [
            store.Place(
                sha256=p.sha256, data_key=p.key, pack=p.pack, offset=p.offset, length=p.length
            )
            for p in places
        ]
        return await s.ledger.write(
            lambda tx: list(
                store.promise(
                    tx,
                    id,
                    renditions=renditions,
                    deliveries=deliveries,
                    places=kept,
                    data_keys=[store.DataKey(id=key.id, wrapped=key.wrapped, kek_id=key.master)],
                    config_hash=s.settings.hash,
                    actor=actor,
                    reason=reason,
                    now=now,
                )
            )
        )

    def _planned(self, plan: Plan, position: int, now: datetime) -> PlannedDelivery:
        route = plan.routing.routes[position]
        due = max(route.not_before or now, now)
        seconds = self._station.intake.rules.give_up_seconds[route.channel]
        return PlannedDelivery(
            recipient=route.recipient,
            recipient_name=route.recipient_name,
            channel=route.channel,
            address=route.address,
            options=route.options,
            why=route.why,
            renditions=tuple(str(w) for w in plan.wanted[position]),
            due_at=due,
            expires_at=due + timedelta(seconds=seconds),
            hold=route.hold,
            urgent=route.urgent,
        )


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
