"""What the control socket answers: each verb of the command line, asked of the running station."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, TypeVar

from dlx import __version__
from dlx import ledger as store
from dlx.control import Handler, Request
from dlx.daemon import views
from dlx.daemon.asking import reason_of, selection_of
from dlx.daemon.rejects import RejectDesk
from dlx.daemon.replay import Replay
from dlx.daemon.station import Station
from dlx.errors import NotFound, Refused
from dlx.intake import FACTS
from dlx.ledger import Tx
from dlx.routing import routes_for

T = TypeVar("T")
Json = dict[str, Any]

ASK_ABOVE = 20


class Desk:
    """Handlers bound to one station."""

    def __init__(self, station: Station) -> None:
        self._station = station

    def handlers(self) -> dict[str, Handler]:
        """Verb → handler."""
        return {
            "status": self.status,
            "queue.list": self.queue_list,
            "queue.show": self.queue_show,
            "queue.part": self.queue_part,
            "queue.hold": self.each(store.hold, reason=True),
            "queue.release": self.each(store.release),
            "queue.cancel": self.each(store.cancel, reason=True),
            "queue.retry": self.retry,
            "queue.confirm": self.each(store.confirm, reason=True),
            "channel.hold": self.channel_hold,
            "channel.release": self.channel_release,
            "resend": self.resend,
            "replay": self.replay,
            "notices.list": self.notices_list,
            "notices.show": self.notices_show,
            "notices.take": self.notices_take,
            "notices.close": self.notices_close,
            **RejectDesk(self._station).handlers(),
            "explain": self.explain,
            "reload": self.reload,
            "audit.verify": self.audit_verify,
            "stop": self.stop,
        }

    def _read(self, work: Callable[[Tx], T]) -> T:
        return self._station.ledger.read(work)

    async def _write(self, work: Callable[[Tx, datetime], T]) -> T:
        now = self._station.clock()
        result = await self._station.ledger.write(lambda tx: work(tx, now))
        self._station.promised(set(self._station.dispatchers))
        return result

    # --- looking -------------------------------------------------------------------------------

    async def status(self, request: Request) -> Json:
        """One screen of figures; ``attention`` is True when a person should look."""
        s, now = self._station, self._station.clock()
        status = self._read(store.status)
        taken = self._read(store.intake_counts)
        channels = []
        for name, d in sorted(s.dispatchers.items()):
            oldest = status.oldest_waiting.get(name)
            states = {st.value: n for (st, ch), n in status.counts.items() if ch == name and n}
            channels.append(
                {
                    "name": name,
                    "type": d.settings.type,
                    "word": _word(d, now),
                    "states": states,
                    "oldest_waiting_seconds": int((now - oldest).total_seconds())
                    if oldest
                    else None,
                    "last_success": views.stamp(d.last_success),
                    "last_error": d.last_error if d.pace.down_since else "",
                    "held": status.stopped.get(f"channel:{name}", ""),
                }
            )
        totals: dict[str, int] = {}
        for (state, _), count in status.counts.items():
            totals[state.value] = totals.get(state.value, 0) + count
        notices = {kind.value: n for kind, n in status.open_notices.items() if n}
        down = [c["name"] for c in channels if c["word"] not in ("ok", "repos")]
        return {
            "version": __version__,
            "laboratory": s.settings.laboratory.name,
            "started_at": views.stamp(s.started_at),
            "config": s.settings.hash[:12],
            "intake": {
                "paused": s.taker.paused,
                "received": taken.get("registered", 0) + taken.get("archived", 0),
                "rejected": taken.get("rejected", 0),
                "pickups": [
                    {"name": x.settings.name, "directory": str(x.settings.directory)}
                    for x in s.taker.sources
                ],
            },
            "channels": channels,
            "totals": totals,
            "notices": notices,
            "attention": bool(notices or down or s.taker.paused),
        }

    async def queue_list(self, request: Request) -> list[Json]:
        """Deliveries not finished, or those that the selection names."""
        selection = selection_of(request.arguments, self._station.clock())
        return [
            views.delivery(row) for row in self._read(lambda tx: store.deliveries(tx, selection))
        ]

    async def queue_show(self, request: Request) -> Json:
        """One delivery with attempts, renditions, receipts."""
        id = str(request.arguments["id"])
        return views.delivery_view(self._read(lambda tx: store.delivery(tx, id)))

    async def queue_part(self, request: Request) -> Json:
        """The bytes of one rendition; reading content is written to the journal."""
        id, wanted = str(request.arguments["id"]), str(request.arguments["part"])
        view = self._read(lambda tx: store.delivery(tx, id))
        row = next((r for r in view.renditions if r.format == wanted), None)
        if row is None or row.place is None:
            raise NotFound(f"pas de rendu {wanted} dans cet envoi")
        content = self._station.contents.read(row.place)
        await self._write(
            lambda tx, now: store.record(
                tx,
                subject=f"delivery:{view.row.delivery.id}",
                action="content_read",
                actor=request.actor,
                now=now,
                detail={"part": wanted},
            )
        )
        return {"suffix": row.suffix, "content": content.hex()}

    async def explain(self, request: Request) -> Json:
        """Every delivery and non-delivery of a report with the rule that decided."""
        wanted, s = str(request.arguments["report"]), self._station
        view = self._read(lambda tx: store.report(tx, wanted))
        answer = views.report_view(view)
        rows = []
        for version in view.versions:
            rows += [
                {"version": version.version, "recipient": r, "channel": c, "why": w}
                for r, c, w in (json.loads(version.withheld) if version.withheld else [])
            ]
        answer["withheld"] = rows
        subject = f"report:{view.version.id}"
        answer["notices"] = [
            views.notice(n) for n in self._read(lambda tx: store.notices(tx, subject=subject))
        ]
        why_not = request.arguments.get("why_not")
        if why_not:
            answer["why_not"] = _why_not(str(why_not), view, s)
        return answer

    # --- changing ------------------------------------------------------------------------------

    def each(self, change: Callable[..., None], *, reason: bool = False) -> Handler:
        """A handler that applies ``change`` to every delivery named; all of them or none."""

        async def handler(request: Request) -> Json:
            why = reason_of(request.arguments, needed=reason)
            ids = self._chosen(request.arguments)
            if request.arguments.get("dry_run"):
                return {"would_change": ids}

            def work(tx: Tx, now: datetime) -> None:
                for id in ids:
                    change(tx, id, request.actor, why, now)

            await self._write(work)
            return {"changed": ids}

        return handler

    def _chosen(self, arguments: Mapping[str, Any]) -> list[str]:
        """Full ids of the deliveries named; more than 20 need ``confirmed``."""
        if arguments.get("all"):
            selection = selection_of({**arguments, "limit": 100_000}, self._station.clock())
            rows = self._read(lambda tx: store.deliveries(tx, selection))
            ids = [row.delivery.id for row in rows]
        else:
            ids = [
                self._read(lambda tx, i=str(i): store.delivery(tx, i)).row.delivery.id  # type: ignore[misc]
                for i in arguments.get("ids", ())
            ]
        if not ids:
            raise NotFound("aucun envoi ne correspond")
        if len(ids) > ASK_ABOVE and not (arguments.get("confirmed") or arguments.get("dry_run")):
            raise Refused(f"{len(ids)} envois concernés : confirmez avec --yes")
        return list(dict.fromkeys(ids))

    async def retry(self, request: Request) -> Json:
        """Try now; the back-off starts again."""
        ids = self._chosen(request.arguments)
        if request.arguments.get("dry_run"):
            return {"would_change": ids}
        why = reason_of(request.arguments, needed=False)
        channels = self._station.settings.channels

        def work(tx: Tx, now: datetime) -> None:
            for id in ids:
                channel = channels.get(store.delivery(tx, id).row.delivery.channel)
                seconds = channel.retry.give_up_seconds if channel else 259_200.0
                store.retry(
                    tx, id, request.actor, why, now, expires_at=now + timedelta(seconds=seconds)
                )

        await self._write(work)
        for dispatcher in self._station.dispatchers.values():
            dispatcher.pace.unpause()
            dispatcher.wake()
        return {"changed": ids}

    async def channel_hold(self, request: Request) -> Json:
        """Nothing leaves by this channel until released; survives a restart."""
        name = self._channel(request)
        why = reason_of(request.arguments, needed=True)
        await self._write(
            lambda tx, now: store.stop(tx, f"channel:{name}", request.actor, why, now)
        )
        self._station.dispatchers[name].stopped = True
        return {"held": name}

    async def channel_release(self, request: Request) -> Json:
        """Undo ``channel_hold``."""
        name = self._channel(request)
        why = reason_of(request.arguments, needed=False)
        await self._write(
            lambda tx, now: store.resume(tx, f"channel:{name}", request.actor, why, now)
        )
        self._station.dispatchers[name].stopped = False
        self._station.dispatchers[name].wake()
        return {"released": name}

    def _channel(self, request: Request) -> str:
        name = str(request.arguments["channel"])
        if name not in self._station.dispatchers:
            raise NotFound(f"canal inconnu : {name}")
        return name

    async def resend(self, request: Request) -> Json:
        """New delivery of the same bytes: exactly one report and one recipient."""
        a = request.arguments
        why = reason_of(a, needed=True)
        view = self._read(lambda tx: store.report(tx, str(a["report"])))
        rows = [
            r
            for r in view.deliveries
            if r.delivery.recipient == a["to"] and r.delivery.report == view.version.id
        ]
        if not rows:
            raise NotFound(f"ce compte rendu n'a pas d'envoi vers {a['to']}")
        last = max(rows, key=lambda r: (r.delivery.number, r.delivery.created_at))
        via = str(a.get("via") or "")
        options: dict[str, Any] = {}
        if via:
            rule = self._rule(str(a["to"]), via)
            options = {"channel": via, "address": rule.to, "options": rule.options}
        channel = self._station.settings.channels.get(via or last.delivery.channel)
        if channel is None:
            raise Refused(f"le canal {last.delivery.channel} n'existe plus : choisissez --via")
        seconds = channel.retry.give_up_seconds
        if a.get("dry_run"):
            return {"would_resend": last.delivery.id, "via": via or last.delivery.channel}
        id = await self._write(
            lambda tx, now: store.resend(
                tx,
                last.delivery.id,
                request.actor,
                why,
                now,
                even_if_delivered=bool(a.get("confirmed")),
                expires_at=now + timedelta(seconds=seconds),
                **options,
            )
        )
        return {"delivery": id, "duplicata_of": last.delivery.id}

    def _rule(self, recipient: str, via: str) -> Any:
        profile = self._station.settings.book.profiles.get(recipient)
        for rule in profile.deliver if profile else ():
            if rule.via == via:
                return rule
        raise Refused(f"la fiche {recipient} ne prévoit pas le canal {via} : ajoutez-le d'abord")

    async def replay(self, request: Request) -> Json:
        """Route and render again with today's configuration; a plan unless ``apply``."""
        a = request.arguments
        apply = bool(a.get("apply"))
        why = reason_of(a, needed=apply)
        run = Replay(self._station, even_if_delivered=bool(a.get("even_if_delivered")))
        rows = await run.plan(a, self._station.clock())
        planned = sum(len(r["new"]) for r in rows)
        if not apply:
            return {"plan": rows, "deliveries": planned}
        if planned > ASK_ABOVE and not a.get("confirmed"):
            raise Refused(f"{planned} envois seraient créés : confirmez avec --yes")
        made = await run.apply(rows, actor=request.actor, reason=why)
        self._station.promised(set(self._station.dispatchers))
        return {"plan": rows, "made": made}

    # --- notices -------------------------------------------------------------------------------

    async def notices_list(self, request: Request) -> list[Json]:
        """Open notices, newest first; all of them with ``all``."""
        everything = bool(request.arguments.get("all"))
        rows = self._read(lambda tx: store.notices(tx, open_only=not everything, limit=1000))
        return [views.notice(row) for row in rows]

    async def notices_show(self, request: Request) -> Json:
        """One notice."""
        id = str(request.arguments["id"])
        return views.notice(self._read(lambda tx: store.notice(tx, id)))

    async def notices_take(self, request: Request) -> Json:
        """Become the owner."""
        ids = [str(i) for i in request.arguments["ids"]]

        def work(tx: Tx, now: datetime) -> None:
            for id in ids:
                store.take_notice(tx, id, request.actor, now)

        await self._write(work)
        return {"changed": ids}

    async def notices_close(self, request: Request) -> Json:
        """Close with a reason."""
        ids = [str(i) for i in request.arguments["ids"]]
        why = reason_of(request.arguments, needed=True)

        def work(tx: Tx, now: datetime) -> None:
            for id in ids:
                store.close_notice(tx, id, request.actor, why, now)

        await self._write(work)
        return {"changed": ids}

    # --- station -------------------------------------------------------------------------------

    async def reload(self, request: Request) -> Json:
        """Check and switch; refused when the configuration is wrong."""
        before = self._station.settings.hash
        after = await self._station.reload(request.actor)
        return {"config": after[:12], "changed": before != after}

    async def audit_verify(self, request: Request) -> Json:
        """Check the chain of events."""
        broken = await asyncio.to_thread(self._read, store.verify_chain)
        last, digest = self._read(store.chain_head)
        return {"broken_at": broken, "last": last, "hash": digest}

    async def stop(self, request: Request) -> Json:
        """Stop the station (the demo uses it; operators use systemctl)."""
        self._station.stop()
        return {"stopping": True}


def _word(dispatcher: Any, now: datetime) -> str:
    if dispatcher.stopped:
        return "retenu"
    if not dispatcher.settings.enabled:
        return "désactivé"
    if dispatcher.pace.down_since is not None:
        return "en panne"
    return "ok" if dispatcher.last_success else "repos"


def _why_not(channel: str, view: store.ReportView, station: Station) -> list[Json]:
    """Route the stored facts again and say for each recipient why not by ``channel``."""
    facts = FACTS.validate_json(view.version.facts)
    routing = routes_for(facts, station.settings.book, station.clock())
    rows: list[Json] = [
        {"recipient": w.recipient, "why": w.why}
        for w in routing.withheld
        if w.channel in (channel, "")
    ]
    reached = {r.recipient for r in routing.routes if r.channel == channel}
    for recipient in dict.fromkeys(r.recipient for r in routing.routes):
        if recipient not in reached:
            rows.append(
                {"recipient": recipient, "why": "non demandé : la fiche ne nomme pas ce canal"}
            )
    return rows
