"""Rows: workers and their leases: heartbeat, what an end of lease means, giving up in time."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeAlias

from sqlalchemy import bindparam, func, insert, literal_column, select, update

from dlx.delivery import Result, State
from dlx.ledger.attempts import close_attempt
from dlx.ledger.dispatch import doubt, settle
from dlx.ledger.moves import MOVING, Moving, fail, is_in, wait
from dlx.ledger.tables import delivery
from dlx.ledger.tables import worker as table
from dlx.ledger.times import moment, stamp
from dlx.ledger.tx import Prepared, Tx
from dlx.ledger.words import (
    Doubtful,
    DoubtPolicy,
    Failure,
    Worker,
)

Policies: TypeAlias = Callable[[str], DoubtPolicy]

_d = delivery.c
_UNDER_WAY = is_in(State.CLAIMED, State.SENDING)
_BEAT = Prepared(
    update(table).where(table.c.id == bindparam("of_id")).values(heartbeat_at=bindparam("at"))
)
_ENROL_AGAIN = Prepared(
    update(table)
    .where(table.c.id == bindparam("of_id"))
    .values({n: bindparam(n) for n in ("host", "pid", "boot_id", "started_at", "heartbeat_at")})
)
_ENROL = Prepared(insert(table))
_EXTEND = Prepared(
    update(delivery)
    .where(_d.lease_owner == bindparam("of_owner"), _UNDER_WAY)
    .values(lease_until=bindparam("until"))
)
_ENDED = Prepared(
    select(*MOVING).where(_UNDER_WAY, _d.lease_until <= bindparam("until")).order_by(_d.lease_until)
)
_OF_OTHERS = Prepared(
    select(*MOVING)
    .where(_UNDER_WAY, _d.lease_owner != bindparam("of_owner"))
    .order_by(_d.lease_owner)
)
_EXPIRED = Prepared(
    select(*MOVING)
    .where(is_in(State.WAITING), _d.expires_at <= bindparam("until"))
    .order_by(_d.expires_at)
    .limit(bindparam("at_most"))
)
_CHANNELS = Prepared(
    select(_d.channel)
    .where(is_in(State.WAITING), _d.channel > bindparam("after"))
    .order_by(_d.channel)
    .limit(literal_column("1"))
)
_NEXT = tuple(
    Prepared(
        select(func.min(_d.due_at)).where(
            is_in(State.WAITING),
            _d.channel == bindparam("of_channel"),
            _d.priority == literal_column(str(priority)),
        )
    )
    for priority in (0, 1)
)


def enrol(tx: Tx, worker: Worker, now: datetime) -> None:
    """Declare a worker before it claims; the same id may come back after a restart."""
    told = {
        "host": worker.host,
        "pid": worker.pid,
        "boot_id": worker.boot_id,
        "started_at": stamp(now),
        "heartbeat_at": stamp(now),
    }
    if not tx.run(_ENROL_AGAIN, of_id=worker.id, **told):
        tx.run(_ENROL, id=worker.id, **told)


def heartbeat(tx: Tx, owner: str, now: datetime, lease_until: datetime) -> None:
    """Extend every lease of ``owner``: a slow peer must not cost it its delivery."""
    tx.run(_BEAT, of_id=owner, at=stamp(now))
    tx.run(_EXTEND, of_owner=owner, until=stamp(lease_until))


def reap(tx: Tx, now: datetime, policies: Policies) -> list[str]:
    """Take back leases that ended: ``claimed`` → waiting, ``sending`` → in_doubt and what follows.

    ``policies`` gives the DoubtPolicy of a channel. Returns the ids moved.
    """
    rows = tx.all(_ENDED, until=stamp(now))
    return _take_back(tx, rows, now, policies, "reaper", "le travail a été interrompu")


def recover(tx: Tx, owner: str, now: datetime, policies: Policies) -> list[str]:
    """R1 at start: take back the leases of every other owner, whatever their end.

    Only while holding the lock of the station, which proves that no other owner lives.
    """
    rows = tx.all(_OF_OTHERS, of_owner=owner)
    return _take_back(tx, rows, now, policies, "recovery", "la station s'est arrêtée")


def _take_back(
    tx: Tx, rows: list[Any], now: datetime, policies: Policies, actor: str, message: str
) -> list[str]:
    for values in rows:
        row = Moving._make(values)
        failure = Failure(code="lease-lost", message=message)
        if row.state == State.CLAIMED.value:
            close_attempt(tx, row, Result.NOT_SENT, failure, now)
            after = wait(
                tx,
                row,
                row.due_at,
                now,
                actor=actor,
                action="taken back",
                lease_gen=row.lease_gen + 1,
            )
        else:
            what = Doubtful(failure=failure, due_at=now, policy=policies(row.channel))
            after = doubt(tx, row, what, now, actor=actor)
        settle(tx, after, now)
    if rows:
        tx.passing("outcome")
    return [str(values[0]) for values in rows]


def expire(tx: Tx, now: datetime, limit: int = 500) -> list[str]:
    """waiting past ``expires_at`` → failed, with its notice. Returns the ids; call until empty."""
    rows = [Moving._make(row) for row in tx.all(_EXPIRED, until=stamp(now), at_most=limit)]
    for row in rows:
        failure = Failure(code="expired", message="délai d'envoi dépassé, abandonné")
        fail(tx, row, failure, now, actor="expiry", action="expired")
    return [row.id for row in rows]


def next_due(tx: Tx) -> dict[str, datetime]:
    """Earliest due time of each channel that has something waiting; it may lie in the past."""
    found: dict[str, datetime] = {}
    channel = ""
    while (row := tx.one(_CHANNELS, after=channel)) is not None:
        channel = row[0]
        times = [tx.one(statement, of_channel=channel)[0] for statement in _NEXT]
        found[channel] = moment(min(time for time in times if time is not None))
    return found
