"""Rows: the journal, chained by hashes; accepted configurations; the exact counters.

``hash = SHA-256(prev_hash | canonical JSON)``. There is one writer, hence one chain: numbers and
hashes are given in one go just before COMMIT, so a work that is undone leaves no hole.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import bindparam, insert, select, update

from dlx.ledger.rows import Event
from dlx.ledger.tables import configuration, counter, event
from dlx.ledger.times import moment, stamp
from dlx.ledger.tx import PendingEvent, Prepared, Tx, canonical

_ADD = Prepared(insert(event))
_COLUMNS = ("id", *PendingEvent._fields, "prev_hash", "hash")
_HEAD = Prepared(select(event.c.id, event.c.hash).order_by(event.c.id.desc()).limit(1))
_CHAIN = Prepared(
    select(event).where(event.c.id > bindparam("after")).order_by(event.c.id).limit(5000)
)
_COUNT = Prepared(
    update(counter)
    .where(counter.c.state == bindparam("of_state"), counter.c.channel == bindparam("of_channel"))
    .values(n=counter.c.n + bindparam("difference"))
)
_FIRST_COUNT = Prepared(insert(counter))


class Head(NamedTuple):
    """The last event: its number (0 before the first) and its hash."""

    id: int
    hash: str


def chained(previous: str, values: Sequence[Any]) -> str:
    """Hash of an event after ``previous``; ``values``: id, at, subject, action, actor, old, new,
    detail."""
    return hashlib.sha256(f"{previous}|{canonical(values)}".encode()).hexdigest()


def head(tx: Tx) -> Head:
    """The end of the chain."""
    row = tx.one(_HEAD)
    return Head(row[0], row[1]) if row else Head(0, "")


def chain_head(tx: Tx) -> tuple[int, str]:
    """(last event id, its hash), for anchors outside the store; (0, "") when there is none."""
    last = head(tx)
    return last.id, last.hash


def flush(tx: Tx, last: Head) -> Head:
    """Write what the works of a batch told: events, chained after ``last``, and counters."""
    rows: list[dict[str, Any]] = []
    number, previous = last
    for pending in tx.events:
        number += 1
        hashed = chained(previous, (number, *pending))
        rows.append(dict(zip(_COLUMNS, (number, *pending, previous, hashed), strict=True)))
        previous = hashed
    tx.many(_ADD, rows)
    for (state, channel), difference in tx.counts.items():
        if difference and not tx.run(
            _COUNT, of_state=state, of_channel=channel, difference=difference
        ):
            tx.run(_FIRST_COUNT, state=state, channel=channel, n=difference)
    return Head(number, previous)


def record(
    tx: Tx,
    *,
    subject: str,
    action: str,
    actor: str,
    now: datetime,
    detail: Mapping[str, str] | None = None,
) -> None:
    """Append an event: who read or changed what. ``detail`` holds no medical data."""
    tx.event(subject, action, actor, now, detail=detail)


def _event(row: Any) -> Event:
    return Event(
        id=row.id,
        at=moment(row.at),
        subject=row.subject,
        action=row.action,
        actor=row.actor,
        old=row.old,
        new=row.new,
        detail=json.loads(row.detail),
    )


def events(
    tx: Tx, *, subject: str = "", since: datetime | None = None, limit: int = 200
) -> list[Event]:
    """The last ``limit`` events that match, oldest first."""
    wanted = select(event).order_by(event.c.id.desc()).limit(limit)
    if subject:
        wanted = wanted.where(event.c.subject == subject)
    if since is not None:
        wanted = wanted.where(event.c.at >= stamp(since))
    return [_event(row) for row in reversed(tx.rows(wanted))]


def _all_events(tx: Tx) -> Iterator[Any]:
    after = 0
    while rows := tx.all(_CHAIN, after=after):
        yield from rows
        after = rows[-1][0]


def verify_chain(tx: Tx) -> int | None:
    """Recompute every hash. Returns the id of the first event that does not fit, or None.

    A gap in the numbers is reported at the event after it. Removed last events can only be seen
    against an anchor (``chain_head`` kept elsewhere).
    """
    previous = ""
    for number, row in enumerate(_all_events(tx), 1):
        *values, told_previous, told = row
        if values[0] != number or told_previous != previous or told != chained(previous, values):
            return int(values[0])
        previous = told
    return None


_ACCEPT_AGAIN = Prepared(
    update(configuration)
    .where(configuration.c.hash == bindparam("of_hash"))
    .values(accepted_at=bindparam("at"), actor=bindparam("by"))
)
_ACCEPT = Prepared(insert(configuration))


def accept_configuration(tx: Tx, hash: str, text: str, actor: str, now: datetime) -> None:
    """Keep an accepted set under its hash; accepting it again moves its date."""
    if not tx.run(_ACCEPT_AGAIN, of_hash=hash, at=stamp(now), by=actor):
        tx.run(_ACCEPT, hash=hash, body=text, accepted_at=stamp(now), actor=actor)
    tx.event(f"configuration:{hash}", "accepted", actor, now)


def configurations(tx: Tx, limit: int = 50) -> list[tuple[str, datetime, str]]:
    """(hash, last accepted at, by whom), newest first."""
    c = configuration.c
    wanted = select(c.hash, c.accepted_at, c.actor).order_by(c.accepted_at.desc()).limit(limit)
    return [(row.hash, moment(row.accepted_at), row.actor) for row in tx.rows(wanted)]


def configuration_text(tx: Tx, hash: str) -> str | None:
    """The set accepted under ``hash``, or None."""
    row = tx.rows(select(configuration.c.body).where(configuration.c.hash == hash))
    return str(row[0].body) if row else None
