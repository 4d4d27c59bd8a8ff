"""Rows: notices, and the outbox that makes sure each opening and closing is told outside.

At most one notice is open on one (subject, kind); seeing the cause again counts a repeat. A closed
one allows a new one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Protocol

from sqlalchemy import bindparam, func, insert, literal_column, select, update

from dlx.delivery import Notice, NoticeKind
from dlx.errors import Refused
from dlx.ledger.ids import full_id, new_id
from dlx.ledger.rows import NoticeRow, OutboxRow
from dlx.ledger.tables import notice as table
from dlx.ledger.tables import outbox
from dlx.ledger.times import moment, moment_or_none, stamp
from dlx.ledger.tx import Prepared, Tx, canonical

STATION = "station"

_n = table.c
_OPEN_ONE = Prepared(
    select(_n.id).where(
        _n.subject == bindparam("subject"), _n.kind == bindparam("kind"), _n.closed_at.is_(None)
    )
)
_OPEN_OF_SUBJECT = Prepared(
    select(_n.id).where(_n.subject == bindparam("subject"), _n.closed_at.is_(None))
)
_REPEAT = Prepared(
    update(table)
    .where(_n.id == bindparam("of_id"))
    .values(
        repeats=_n.repeats + literal_column("1"),
        last_at=bindparam("at"),
        cause=bindparam("cause"),
        words=bindparam("words"),
    )
)
_ADD = Prepared(insert(table))
_TAKE = Prepared(
    update(table)
    .where(_n.id == bindparam("of_id"), _n.closed_at.is_(None))
    .values(owner=bindparam("owner"))
)
_CLOSE = Prepared(
    update(table)
    .where(_n.id == bindparam("of_id"), _n.closed_at.is_(None))
    .values(closed_at=bindparam("at"), closed_by=bindparam("by"), closing_reason=bindparam("why"))
)
_TELL = Prepared(
    insert(outbox)
    .values(
        topic=bindparam("topic"), payload=bindparam("payload"), at=bindparam("at"), done_at=None
    )
    .inline()
)
_DONE = Prepared(
    update(outbox).where(outbox.c.id == bindparam("of_id")).values(done_at=bindparam("at"))
)


class About(Protocol):
    """The delivery a notice is about."""

    @property
    def id(self) -> str: ...  # noqa: D102
    @property
    def report_id(self) -> str: ...  # noqa: D102
    @property
    def channel(self) -> str: ...  # noqa: D102
    @property
    def recipient(self) -> str: ...  # noqa: D102


def _tell(tx: Tx, topic: str, now: datetime, **payload: str) -> None:
    tx.run(_TELL, topic=topic, payload=canonical(payload), at=stamp(now))


def _open(tx: Tx, notice: Notice, now: datetime, **about: str) -> str:
    known = tx.one(_OPEN_ONE, subject=notice.subject, kind=notice.kind.value)
    if known is not None:
        tx.run(_REPEAT, of_id=known[0], at=stamp(now), cause=notice.cause, words=notice.words)
        return str(known[0])
    id = new_id(tx, "N")
    tx.run(
        _ADD,
        id=id,
        subject=notice.subject,
        kind=notice.kind.value,
        cause=notice.cause,
        words=notice.words,
        command=notice.command,
        delivery_id=about.get("delivery_id", ""),
        report_id=about.get("report_id", ""),
        channel=about.get("channel", ""),
        recipient=about.get("recipient", ""),
        opened_at=stamp(now),
        last_at=stamp(now),
        repeats=0,
        owner="",
        closed_at=None,
        closed_by="",
        closing_reason="",
    )
    _tell(tx, "notice.opened", now, notice=id, kind=notice.kind.value, subject=notice.subject)
    tx.event(
        notice.subject,
        "notice opened",
        STATION,
        now,
        detail={"notice": id, "kind": notice.kind.value},
    )
    return id


def open_notice(tx: Tx, notice: Notice, now: datetime) -> str:
    """Open a notice, or count a repeat when one is open on (subject, kind). Returns its N… id.

    What it concerns is taken from the subject: ``delivery:D…``, ``report:R…``, ``channel:x``.
    """
    sort, _, name = notice.subject.partition(":")
    about = {f"{sort}_id": name} if sort in ("delivery", "report") else {}
    if sort == "channel":
        about = {"channel": name}
    return _open(tx, notice, now, **about)


def open_for_delivery(tx: Tx, about: About, notice: Notice, now: datetime) -> str:
    """The same for a delivery at hand, so that lists can be filtered by channel and recipient."""
    return _open(
        tx,
        notice,
        now,
        delivery_id=about.id,
        report_id=about.report_id,
        channel=about.channel,
        recipient=about.recipient,
    )


def _close(tx: Tx, id: str, actor: str, reason: str, now: datetime) -> bool:
    if not tx.run(_CLOSE, of_id=id, at=stamp(now), by=actor, why=reason):
        return False
    _tell(tx, "notice.closed", now, notice=id, by=actor)
    tx.event(f"notice:{id}", "notice closed", actor, now, detail={"reason": reason})
    return True


def take_notice(tx: Tx, id: str, actor: str, now: datetime) -> None:
    """Become the owner of an open notice. Raises NotFound; Refused when it is closed."""
    full = full_id(tx, "N", id)
    if not tx.run(_TAKE, of_id=full, owner=actor):
        raise Refused(f"{full} : cet avis est déjà clos")
    tx.event(f"notice:{full}", "notice taken", actor, now)


def close_notice(tx: Tx, id: str, actor: str, reason: str, now: datetime) -> None:
    """Close by a person. Raises NotFound; Refused without a reason or when already closed."""
    full = full_id(tx, "N", id)
    if not reason.strip():
        raise Refused(f"{full} : clore un avis demande un motif (--reason)")
    if not _close(tx, full, actor, reason, now):
        raise Refused(f"{full} : cet avis est déjà clos")


def clear_notice(tx: Tx, subject: str, kind: NoticeKind, reason: str, now: datetime) -> bool:
    """Close by the station because the cause is gone; True when one was open."""
    known = tx.one(_OPEN_ONE, subject=subject, kind=kind.value)
    return known is not None and _close(tx, str(known[0]), STATION, reason, now)


def clear_of_delivery(
    tx: Tx, id: str, noticed: int, reason: str, now: datetime, actor: str = STATION
) -> None:
    """Close every notice open about a delivery; ``noticed`` 0 spares the look-up."""
    if noticed:
        for (notice_id,) in tx.all(_OPEN_OF_SUBJECT, subject=f"delivery:{id}"):
            _close(tx, notice_id, actor, reason, now)


def notice_row(row: Any) -> NoticeRow:
    """A row of the table as a record."""
    return NoticeRow(
        notice=Notice(
            subject=row.subject,
            kind=NoticeKind(row.kind),
            cause=row.cause,
            words=row.words,
            command=row.command,
            id=row.id,
            opened_at=moment(row.opened_at),
            owner=row.owner,
            closed_at=moment_or_none(row.closed_at),
            closing_reason=row.closing_reason,
        ),
        repeats=row.repeats,
        last_at=moment(row.last_at),
        delivery=row.delivery_id,
        report=row.report_id,
        channel=row.channel,
        recipient=row.recipient,
    )


def notices(
    tx: Tx,
    *,
    open_only: bool = True,
    subject: str = "",
    kind: NoticeKind | None = None,
    limit: int = 200,
) -> list[NoticeRow]:
    """Notices that match, newest first."""
    wanted = select(table).order_by(_n.opened_at.desc(), _n.id).limit(limit)
    if open_only:
        wanted = wanted.where(_n.closed_at.is_(None))
    if subject:
        wanted = wanted.where(_n.subject == subject)
    if kind is not None:
        wanted = wanted.where(_n.kind == kind.value)
    return [notice_row(row) for row in tx.rows(wanted)]


def notice(tx: Tx, id: str) -> NoticeRow:
    """One notice by its id or a unique beginning. Raises NotFound."""
    return notice_row(tx.rows(select(table).where(_n.id == full_id(tx, "N", id)))[0])


def open_by_kind(tx: Tx) -> dict[NoticeKind, int]:
    """How many are open, by kind."""
    number = func.count().label("number")
    wanted = select(_n.kind, number).where(_n.closed_at.is_(None)).group_by(_n.kind)
    return {NoticeKind(row.kind): int(row.number) for row in tx.rows(wanted)}


def outbox_pending(tx: Tx, limit: int = 100) -> list[OutboxRow]:
    """What is still to be told outside, oldest first."""
    o = outbox.c
    wanted = select(outbox).where(o.done_at.is_(None)).order_by(o.id).limit(limit)
    return [
        OutboxRow(id=row.id, topic=row.topic, payload=json.loads(row.payload), at=moment(row.at))
        for row in tx.rows(wanted)
    ]


def outbox_done(tx: Tx, ids: Iterable[int], now: datetime) -> None:
    """Mark rows as told."""
    tx.many(_DONE, [{"of_id": id, "at": stamp(now)} for id in ids])
