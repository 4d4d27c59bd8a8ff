"""Rows: what people decide about deliveries; each with its actor, its reason and its event."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import bindparam, delete, insert, select

from dlx.delivery import State
from dlx.errors import NotFound, Refused
from dlx.ledger.contents import copy_renditions
from dlx.ledger.ids import full_id, new_id
from dlx.ledger.moves import Moving, change, move, moving, newer
from dlx.ledger.notices import clear_of_delivery
from dlx.ledger.promises import ADD_DELIVERY, FRESH, idem_key, next_number
from dlx.ledger.tables import delivery
from dlx.ledger.tables import stop as stop_table
from dlx.ledger.times import stamp, stamp_or_none
from dlx.ledger.tx import Prepared, Tx, canonical

_d = delivery.c
_WHOLE = Prepared(select(delivery).where(_d.id == bindparam("wanted")))
_STOP = Prepared(insert(stop_table))
_STOPPED = Prepared(select(stop_table.c.subject).where(stop_table.c.subject == bindparam("wanted")))
_RESUME = Prepared(delete(stop_table).where(stop_table.c.subject == bindparam("wanted")))


def _reason(id: str, reason: str) -> dict[str, str]:
    if not reason.strip():
        raise Refused(f"{id} : il faut un motif (--reason)")
    return {"reason": reason}


def _require(row: Moving, what: str, *states: State) -> None:
    """MOVES tells what may ever happen; a person's word may mean only some of it."""
    if State(row.state) not in states:
        raise Refused(f"{row.id} : un envoi « {row.state} » ne peut pas être {what}")


def _refuse_if_newer(tx: Tx, row: Moving) -> None:
    found = newer(tx, row)
    if found is not None:
        raise Refused(
            f"{row.id} : la version {found[1]} existe pour ce destinataire ({found[0]}) ; "
            f"une version plus ancienne ne part plus. Pour clore : dlx queue cancel {row.id}"
        )


def hold(tx: Tx, id: str, actor: str, reason: str, now: datetime) -> None:
    """waiting → held; its give-up clock stops. Raises NotFound; Refused: reason missing, state."""
    row = moving(tx, full_id(tx, "D", id))
    told = _reason(row.id, reason)
    _require(row, "retenu", State.WAITING)
    move(
        tx,
        row,
        State.HELD,
        now,
        actor=actor,
        action="held",
        detail=told,
        held_at=stamp(now),
        hold_reason=reason,
    )


def release(tx: Tx, id: str, actor: str, reason: str, now: datetime) -> None:
    """held → waiting, due now or later as planned; the time held is added to its give-up time.

    Raises NotFound; Refused: not held, or a newer version exists for this recipient.
    """
    row = moving(tx, full_id(tx, "D", id))
    _require(row, "remis en file", State.HELD)
    _refuse_if_newer(tx, row)
    held = stamp(now) - (row.held_at if row.held_at is not None else stamp(now))
    move(
        tx,
        row,
        State.WAITING,
        now,
        actor=actor,
        action="released",
        detail={"reason": reason},
        due_at=max(row.due_at, stamp(now)),
        expires_at=None if row.expires_at is None else row.expires_at + max(held, 0),
        held_at=None,
        hold_reason="",
        noticed=0,
    )
    clear_of_delivery(tx, row.id, row.noticed, f"remis en file : {reason}", now, actor)


def cancel(tx: Tx, id: str, actor: str, reason: str, now: datetime) -> None:
    """waiting, held or failed → cancelled: it will never be sent. Closes its notices.

    Raises NotFound; Refused: reason missing, or the state forbids it.
    """
    row = moving(tx, full_id(tx, "D", id))
    told = _reason(row.id, reason)
    move(
        tx,
        row,
        State.CANCELLED,
        now,
        actor=actor,
        action="cancelled",
        detail=told,
        held_at=None,
        noticed=0,
    )
    clear_of_delivery(tx, row.id, row.noticed, f"annulé : {reason}", now, actor)


def retry(
    tx: Tx, id: str, actor: str, reason: str, now: datetime, expires_at: datetime | None = None
) -> None:
    """The same delivery, now: waiting becomes due, failed → waiting; the back-off starts again.

    ``expires_at`` is the new give-up time; None keeps the one it has when that lies ahead, else
    gives 72 hours. Raises NotFound; Refused: other states, a newer version exists.
    """
    row = moving(tx, full_id(tx, "D", id))
    until = stamp_or_none(expires_at) or row.expires_at
    if until is not None and until <= stamp(now):
        until = stamp(now + timedelta(hours=72))
    values: dict[str, Any] = {"due_at": stamp(now), "tries": 0, "expires_at": until}
    if row.state == State.WAITING.value:
        change(tx, row, **values)
        tx.event(row.subject, "retry asked", actor, now, detail={"reason": reason})
        return
    _require(row, "relancé", State.FAILED)
    _refuse_if_newer(tx, row)
    move(
        tx,
        row,
        State.WAITING,
        now,
        actor=actor,
        action="retry asked",
        detail={"reason": reason},
        noticed=0,
        **values,
    )
    clear_of_delivery(tx, row.id, row.noticed, f"relancé : {reason}", now, actor)


def confirm(tx: Tx, id: str, actor: str, reason: str, now: datetime) -> None:
    """held → accepted: a person knows that it arrived. Raises NotFound; Refused: reason, state."""
    row = moving(tx, full_id(tx, "D", id))
    told = _reason(row.id, reason)
    _require(row, "confirmé par une personne", State.HELD)
    move(
        tx,
        row,
        State.ACCEPTED,
        now,
        actor=actor,
        action="confirmed",
        detail=told,
        held_at=None,
        hold_reason="",
        noticed=0,
    )
    clear_of_delivery(tx, row.id, row.noticed, f"arrivé : {reason}", now, actor)


def resend(
    tx: Tx,
    id: str,
    actor: str,
    reason: str,
    now: datetime,
    *,
    channel: str = "",
    address: str = "",
    options: Mapping[str, str] | None = None,
    expires_at: datetime | None = None,
    even_if_delivered: bool = False,
) -> str:
    """A new delivery (« duplicata ») of exactly what delivery ``id`` carries; returns its id.

    Another ``channel`` needs its own ``address`` and ``options``. Raises NotFound; Refused: reason
    missing, the first is still on its way, delivered and not ``even_if_delivered``, or a newer
    version exists for this recipient.
    """
    row = moving(tx, full_id(tx, "D", id))
    told = _reason(row.id, reason)
    _refuse_if_newer(tx, row)
    state = State(row.state)
    if state is State.DELIVERED and not even_if_delivered:
        raise Refused(f"{row.id} : déjà remis ; confirmez le renvoi avec --yes")
    if state in (State.WAITING, State.CLAIMED, State.SENDING, State.IN_DOUBT):
        raise Refused(f"{row.id} : encore en cours ({state.value}) ; dlx queue retry {row.id}")
    columns = [column.name for column in delivery.columns]
    first = dict(zip(columns, tx.one(_WHOLE, wanted=row.id), strict=True))
    number = next_number(tx, row.report_id, row.recipient)
    again = _again(first, channel, address, options) | {
        "id": new_id(tx, "D"),
        "number": number,
        "created_at": stamp(now),
        "due_at": stamp(now),
        "moved_at": stamp(now),
        "expires_at": stamp_or_none(expires_at),
    }
    again["idem_key"] = idem_key(
        row.report_key, row.version, row.recipient, again["channel"], again["address"], number
    )
    tx.run(ADD_DELIVERY, **again)
    copy_renditions(tx, row.id, again["id"])
    tx.count(State.WAITING, again["channel"], 1)
    told = told | {"of": row.id, "report": row.report_id}
    tx.event(f"delivery:{again['id']}", "resent", actor, now, new="waiting", detail=told)
    tx.event(row.subject, "resend asked", actor, now, detail={"as": again["id"], **told})
    return str(again["id"])


def _again(
    first: dict[str, Any], channel: str, address: str, options: Mapping[str, str] | None
) -> dict[str, Any]:
    """The columns of a resend that do not depend on the moment."""
    elsewhere = bool(channel) and channel != first["channel"]
    return {
        **first,
        **FRESH,
        "state": State.WAITING.value,
        "channel": channel or first["channel"],
        "address": address or ("" if elsewhere else first["address"]),
        "options": canonical(dict(options))
        if options is not None
        else ("{}" if elsewhere else first["options"]),
        "held_at": None,
        "hold_reason": "",
    }


def stop(tx: Tx, subject: str, actor: str, reason: str, now: datetime) -> None:
    """Nothing more leaves by ``channel:x`` or to ``profile:x`` until ``resume``; survives restarts.

    The ledger itself keeps deliveries of a stopped profile from being claimed; the dispatcher does
    not ask for those of a stopped channel. Raises Refused: reason missing, or stopped already.
    """
    told = _reason(subject, reason)
    if tx.one(_STOPPED, wanted=subject) is not None:
        raise Refused(f"{subject} : déjà arrêté")
    tx.run(_STOP, subject=subject, reason=reason, actor=actor, at=stamp(now))
    tx.event(subject, "stopped", actor, now, detail=told)


def resume(tx: Tx, subject: str, actor: str, reason: str, now: datetime) -> None:
    """Undo ``stop``. Raises NotFound when it was not stopped."""
    if not tx.run(_RESUME, wanted=subject):
        raise NotFound(f"{subject} : n'est pas arrêté")
    tx.event(subject, "resumed", actor, now, detail={"reason": reason})


def stopped(tx: Tx) -> dict[str, str]:
    """What is stopped, with its reason."""
    s = stop_table.c
    return {row.subject: row.reason for row in tx.rows(select(s.subject, s.reason))}
