"""Rows: receipts, matched or not. Evidence always counts, however late it comes.

=========== ============================== ================================================
state        proof                          refusal
=========== ============================== ================================================
waiting      delivered                      stays (an earlier copy was refused; it is tried again)
held         delivered                      stays, notice
claimed      delivered once the worker ends noted; an « accepted » of this attempt then fails
sending      the same                       the same
in_doubt     delivered                      failed, notice
accepted     delivered                      failed, notice
failed       delivered                      stays
delivered    stays                          stays, notice
cancelled    stays                          stays
superseded   stays                          stays
=========== ============================== ================================================
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import bindparam, insert, literal_column, select

from dlx.delivery import NoticeKind, Receipt, State
from dlx.errors import NotFound
from dlx.ledger.ids import full_id, new_id
from dlx.ledger.moves import (
    MOVING,
    Moving,
    change,
    deliver_by_proof,
    fail,
    is_in,
    moving,
    notice_of,
)
from dlx.ledger.notices import open_for_delivery
from dlx.ledger.rows import Recorded
from dlx.ledger.tables import attempt, delivery
from dlx.ledger.tables import receipt as table
from dlx.ledger.times import stamp
from dlx.ledger.tx import Prepared, Tx
from dlx.ledger.words import Failure

_d = delivery.c
_SEEN = Prepared(
    select(table.c.id, table.c.delivery_id).where(table.c.fingerprint == bindparam("wanted"))
)
_ADD = Prepared(insert(table))
_BY_REMOTE = Prepared(
    select(attempt.c.delivery_id)
    .join(delivery, _d.id == attempt.c.delivery_id)
    .where(
        attempt.c.remote_id == bindparam("of_remote"),
        attempt.c.remote_id != literal_column("''"),
        _d.channel == bindparam("of_channel"),
    )
    .order_by(attempt.c.started_at.desc())
    .limit(literal_column("1"))
)
_UNPROVEN = Prepared(
    select(*MOVING)
    .where(
        is_in(State.ACCEPTED),
        _d.channel == bindparam("of_channel"),
        _d.moved_at <= bindparam("until"),
    )
    .order_by(_d.moved_at)
    .limit(bindparam("at_most"))
)
_PROVABLE = (State.WAITING, State.HELD, State.IN_DOUBT, State.ACCEPTED, State.FAILED)
_UNDER_WAY = (State.CLAIMED, State.SENDING)


@dataclass(frozen=True, slots=True)
class _Match:
    row: Moving | None

    @property
    def state(self) -> State | None:
        return State(self.row.state) if self.row else None

    @property
    def id(self) -> str:
        return self.row.id if self.row else ""


def _fingerprint(receipt: Receipt, channel: str) -> str:
    said = (
        receipt.delivery,
        receipt.remote_id,
        channel,
        receipt.kind,
        str(receipt.positive),
        receipt.words,
        str(stamp(receipt.at)),
    )
    return hashlib.sha256("\x1f".join(said).encode()).hexdigest()


def _match(tx: Tx, receipt: Receipt, channel: str) -> _Match:
    """By the delivery id it quotes (it must be of this channel), else by the remote id."""
    if receipt.delivery:
        try:
            row = moving(tx, full_id(tx, "D", receipt.delivery))
        except NotFound:
            row = None
        if row is not None and row.channel == channel:
            return _Match(row)
    if receipt.remote_id:
        found = tx.one(_BY_REMOTE, of_remote=receipt.remote_id, of_channel=channel)
        if found is not None:
            return _Match(moving(tx, found[0]))
    return _Match(None)


def record_receipt(tx: Tx, receipt: Receipt, channel: str, now: datetime) -> Recorded:
    """Keep a receipt and apply what it proves; see the table above. Repeatable.

    ``channel`` is where it was read: a receipt can only speak of deliveries of its own channel. One
    that matches nothing is kept and matched when the « accepted » it quotes is written.
    """
    fingerprint = _fingerprint(receipt, channel)
    seen = tx.one(_SEEN, wanted=fingerprint)
    if seen is not None:
        state = State(moving(tx, seen[1]).state) if seen[1] else None
        return Recorded(id=seen[0], delivery=seen[1], before=state, after=state, fresh=False)
    match = _match(tx, receipt, channel)
    id = new_id(tx, "Q")
    tx.run(
        _ADD,
        id=id,
        fingerprint=fingerprint,
        delivery_id=match.id,
        remote_id=receipt.remote_id,
        channel=channel,
        positive=int(receipt.positive),
        kind=receipt.kind,
        words=receipt.words,
        at=stamp(receipt.at),
        recorded_at=stamp(now),
    )
    subject = f"delivery:{match.id}" if match.id else f"receipt:{id}"
    detail = {"receipt": id, "kind": receipt.kind, "positive": str(receipt.positive).lower()}
    tx.event(subject, "receipt", f"channel:{channel}", now, detail=detail)
    tx.passing("outcome")
    after = _apply(tx, match.row, receipt, now) if match.row else None
    return Recorded(id=id, delivery=match.id, before=match.state, after=after, fresh=True)


def _apply(tx: Tx, row: Moving, receipt: Receipt, now: datetime) -> State:
    state = State(row.state)
    if state in _UNDER_WAY:  # the worker's own outcome is written first, then `settle` applies it
        sort = "positive" if receipt.positive else "negative"
        if not row.proof.startswith("positive"):
            change(tx, row, proof=f"{sort} {receipt.kind}")
        return state
    if receipt.positive:
        if state not in _PROVABLE:
            return state
        return State(deliver_by_proof(tx, row, now, "receipt", receipt.kind).state)
    return _refused(tx, row, state, receipt, now)


def _refused(tx: Tx, row: Moving, state: State, receipt: Receipt, now: datetime) -> State:
    failure = Failure(
        code="refused-later",
        message=f"refusé par le destinataire après le départ ({receipt.kind})",
        words=receipt.words,
    )
    if state in (State.ACCEPTED, State.IN_DOUBT):
        return State(fail(tx, row, failure, now, actor="receipt", action="refused").state)
    if state in (State.DELIVERED, State.HELD):
        change(tx, row, noticed=1)
        open_for_delivery(tx, row, notice_of(row, failure, NoticeKind.FAILED), now)
    return state


def silent(tx: Tx, channel: str, before: datetime, now: datetime, limit: int = 500) -> list[str]:
    """accepted on ``channel`` since ``before`` or longer, never confirmed → failed + notice SILENT.

    ``before`` is now less the channel's ``receipt_within``. Returns the ids; call until empty.
    """
    rows = tx.all(_UNPROVEN, of_channel=channel, until=stamp(before), at_most=limit)
    for values in rows:
        row = Moving._make(values)
        failure = Failure(code="silent", message="accepté mais jamais confirmé")
        fail(tx, row, failure, now, actor="settling", action="silent", kind=NoticeKind.SILENT)
    return [str(values[0]) for values in rows]
