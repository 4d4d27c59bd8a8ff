"""Rows: a delivery on its way out: claimed, sending, finished; each step durable before the next.

After a crash the state alone tells the truth: ``claimed`` = nothing can have arrived, ``sending`` =
it may have. Every statement is guarded by the generation of the lease (P8).
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, assert_never

from sqlalchemy import (
    ColumnElement,
    Select,
    bindparam,
    exists,
    literal_column,
    or_,
    select,
    update,
)

from dlx.delivery import Accepted, Delivery, NoticeKind, Result, State
from dlx.errors import LeaseLost
from dlx.ledger.attempts import attempt_committed, close_attempt, open_attempt
from dlx.ledger.contents import renditions_of
from dlx.ledger.moves import (
    MOVING,
    Moving,
    deliver_by_proof,
    error_text,
    fail,
    hold_in_doubt,
    is_in,
    move,
    moving,
    wait,
)
from dlx.ledger.notices import clear_of_delivery, open_for_delivery
from dlx.ledger.tables import delivery, receipt, report, stop
from dlx.ledger.times import moment, moment_or_none, stamp
from dlx.ledger.tx import Prepared, Tx
from dlx.ledger.words import (
    Claimed,
    Deferred,
    Doubtful,
    Failed,
    Failure,
    Outcome,
)
from dlx.report import ReportStatus

_d = delivery.c
_older = delivery.alias("older")
_MORE = (
    _d.recipient_name,
    _d.address,
    _d.options,
    _d.why,
    _d.created_at,
    _d.tries,
    _d.number,
    _d.priority,
    _d.replaces,
    _d.config_hash,
    report.c.issuer,
    report.c.number,
    report.c.status,
)


def _older_under_way() -> ColumnElement[bool]:
    """P7: an older version for the same recipient is on its way or may have arrived."""
    o = _older.c
    return exists(
        select(o.id).where(
            o.report_key == _d.report_key,
            o.recipient == _d.recipient,
            o.version < _d.version,
            o.state.in_([literal_column(f"'{s}'") for s in ("claimed", "sending", "in_doubt")]),
        )
    )


def _due(priority: int) -> Select[Any]:
    """Due deliveries of one channel and priority, in order; read along ix_delivery_due."""
    stopped = exists(
        select(stop.c.subject).where(
            stop.c.subject == literal_column("'profile:'").op("||")(_d.recipient)
        )
    )
    return (
        select(*MOVING, *_MORE)
        .join(report, report.c.id == _d.report_id)
        .where(
            is_in(State.WAITING),
            _d.channel == bindparam("of_channel"),
            _d.priority == literal_column(str(priority)),
            _d.due_at <= bindparam("until"),
            or_(_d.expires_at.is_(None), _d.expires_at > bindparam("until")),
            ~_older_under_way(),
            ~stopped,
        )
        .order_by(_d.due_at, _d.id)
        .limit(bindparam("at_most"))
    )


_DUE = (Prepared(_due(0)), Prepared(_due(1)))
_EARLY = Prepared(
    select(receipt.c.id, receipt.c.positive, receipt.c.kind).where(
        receipt.c.delivery_id == literal_column("''"),
        receipt.c.remote_id == bindparam("of_remote"),
        receipt.c.channel == bindparam("of_channel"),
    )
)
_MATCH = Prepared(
    update(receipt)
    .where(receipt.c.id == bindparam("of_id"))
    .values(delivery_id=bindparam("to_delivery"))
)
_KNOWN = len(Moving._fields)


def claim_due(
    tx: Tx, channel: str, limit: int, now: datetime, owner: str, lease_until: datetime
) -> list[Claimed]:
    """waiting → claimed for at most ``limit`` deliveries of ``channel`` that are due.

    Urgent ones first, then by due time. Never one whose older version is under way or in doubt for
    the same recipient (P7), never one of a stopped profile. Each gets a new generation and an open
    attempt. Nothing can have left before ``commit_intent``.
    """
    rows = tx.all(_DUE[0], of_channel=channel, until=stamp(now), at_most=limit)
    if len(rows) < limit:
        rows += tx.all(_DUE[1], of_channel=channel, until=stamp(now), at_most=limit - len(rows))
    claimed = [_claim(tx, row, now, owner, lease_until) for row in _one_per_family(rows)]
    if claimed:
        tx.passing("delivery_claim")
    return claimed


def _one_per_family(rows: list[Any]) -> list[Any]:
    """Two versions that are due together leave one after the other, the older first (P7)."""
    oldest: dict[tuple[str, str], int] = {}
    for row in rows:
        key = (row[2], row[4])
        oldest[key] = min(row[3], oldest.get(key, row[3]))
    return [row for row in rows if row[3] == oldest[row[2], row[4]]]


def _claim(tx: Tx, row: Any, now: datetime, owner: str, lease_until: datetime) -> Claimed:
    known = Moving._make(row[:_KNOWN])
    name, address, options, why, created, tries, number, priority, replaces, config, *key = row[
        _KNOWN:
    ]
    taken = move(
        tx,
        known,
        State.CLAIMED,
        now,
        actor=owner,
        action="claimed",
        lease_owner=owner,
        lease_gen=known.lease_gen + 1,
        lease_until=stamp(lease_until),
        attempts=known.attempts + 1,
        tries=tries + 1,
    )
    open_attempt(tx, taken, now)
    return Claimed(
        delivery=Delivery(
            id=taken.id,
            report=taken.report_id,
            version=taken.version,
            recipient=taken.recipient,
            recipient_name=name,
            channel=taken.channel,
            address=address,
            options=json.loads(options),
            state=State.CLAIMED,
            why=why,
            created_at=moment(created),
            due_at=moment(taken.due_at),
            expires_at=moment_or_none(taken.expires_at),
            attempts=taken.attempts,
            doubts=taken.doubts,
            generation=taken.lease_gen,
            number=number,
            urgent=priority == 0,
            replaces=bool(replaces),
        ),
        renditions=renditions_of(tx, taken.id),
        config_hash=config,
        tries=tries + 1,
        warned=bool(taken.noticed),
        issuer=key[0],
        number=key[1],
        status=ReportStatus(key[2]),
    )


def _leased(tx: Tx, id: str, generation: int) -> Moving:
    row = moving(tx, id)
    if row.lease_gen != generation or row.state not in ("claimed", "sending"):
        raise LeaseLost(f"{id} : le bail {generation} n'est plus valable")
    return row


def commit_intent(tx: Tx, id: str, generation: int, now: datetime) -> None:
    """claimed → sending: the last thing written before a byte that can commit the far side.

    Raises LeaseLost: stop at once, nothing may be sent.
    """
    row = _leased(tx, id, generation)
    if row.state != State.CLAIMED.value:
        raise LeaseLost(f"{id} : l'intention du bail {generation} est déjà écrite")
    move(tx, row, State.SENDING, now, actor=row.lease_owner, action="sending")
    attempt_committed(tx, row)
    tx.passing("intent")


def release_claim(tx: Tx, id: str, generation: int, now: datetime, reason: str) -> None:
    """claimed → waiting, due at once: the worker gives it back untouched (shutdown, channel down).

    The attempt is closed as ``not_sent``. Raises LeaseLost, also once ``sending`` is written.
    """
    row = _leased(tx, id, generation)
    if row.state != State.CLAIMED.value:
        raise LeaseLost(f"{id} : déjà en cours d'envoi, le bail ne peut pas être rendu")
    failure = Failure(code="released", message=reason)
    close_attempt(tx, row, Result.NOT_SENT, failure, now)
    settle(tx, wait(tx, row, row.due_at, now, actor=row.lease_owner, action="released"), now)


def finish(tx: Tx, id: str, generation: int, outcome: Outcome, now: datetime) -> State:
    """Write what came of an attempt and return the state the delivery comes to rest in.

    Accepted → accepted, or delivered when proven. Deferred → waiting. Failed → failed and a notice.
    Doubtful → in_doubt, then waiting or held with a notice. In the same transaction the attempt is
    closed, the journal written, and evidence that came too early is applied. A delivery that would
    wait although a newer version exists is superseded.

    Raises LeaseLost: the delivery belongs to somebody else now; do nothing more.
    """
    row = _leased(tx, id, generation)
    tx.passing("outcome")
    if isinstance(outcome, Accepted):
        after = _accept(tx, row, outcome, now)
    elif isinstance(outcome, Deferred):
        after = _defer(tx, row, outcome, now)
    elif isinstance(outcome, Failed):
        close_attempt(tx, row, outcome.result, outcome.failure, now)
        after = fail(
            tx,
            row,
            outcome.failure,
            now,
            actor=row.lease_owner,
            action="failed",
            notice=outcome.notice,
        )
    elif isinstance(outcome, Doubtful):
        after = doubt(tx, row, outcome, now, actor=row.lease_owner)
    else:
        assert_never(outcome)
    return State(settle(tx, after, now).state)


def _accept(tx: Tx, row: Moving, yes: Accepted, now: datetime) -> Moving:
    actor = row.lease_owner
    told = Failure(
        code="", message="", words=yes.words, peer=yes.peer, tls=yes.tls, remote_id=yes.remote_id
    )
    close_attempt(tx, row, Result.ACCEPTED, told, now)
    if row.state == State.CLAIMED.value:  # a connector that forgot to tell; the truth is kept
        row = move(tx, row, State.SENDING, now, actor=actor, action="sending late")
    new = State.DELIVERED if yes.proven else State.ACCEPTED
    done = move(
        tx,
        row,
        new,
        now,
        actor=actor,
        action=new.value,
        lease_owner="",
        lease_until=None,
        remote_id=yes.remote_id,
        noticed=0,
    )
    clear_of_delivery(tx, row.id, row.noticed, "parti", now)
    return _early_evidence(tx, done, now) if yes.remote_id else done


def _early_evidence(tx: Tx, row: Moving, now: datetime) -> Moving:
    """Receipts may be read before our own « accepted » is written: match them now."""
    for id, positive, kind in tx.all(_EARLY, of_remote=row.remote_id, of_channel=row.channel):
        tx.run(_MATCH, of_id=id, to_delivery=row.id)
        if row.state == State.ACCEPTED.value:
            row = row._replace(proof=f"{'positive' if positive else 'negative'} {kind}")
    return row


def _defer(tx: Tx, row: Moving, later: Deferred, now: datetime) -> Moving:
    close_attempt(tx, row, later.result, later.failure, now)
    noticed = row.noticed
    if later.notice is not None:
        open_for_delivery(tx, row, later.notice, now)
        noticed = 1
    return wait(
        tx,
        row._replace(noticed=noticed),
        stamp(later.due_at),
        now,
        actor=row.lease_owner,
        action="deferred",
        detail={"code": later.failure.code},
        noticed=noticed,
        last_code=later.failure.code,
        last_error=error_text(later.failure),
    )


def doubt(tx: Tx, row: Moving, what: Doubtful, now: datetime, *, actor: str) -> Moving:
    """sending → in_doubt → waiting for a repeat, or held with a notice (P4, P5)."""
    close_attempt(tx, row, Result.IN_DOUBT, what.failure, now)
    if row.state == State.CLAIMED.value:  # told of a doubt without an intent: believe the doubt
        row = move(tx, row, State.SENDING, now, actor=actor, action="sending late")
    row = move(
        tx,
        row,
        State.IN_DOUBT,
        now,
        actor=actor,
        action="in doubt",
        detail={"code": what.failure.code},
        doubts=row.doubts + 1,
        remote_id=what.failure.remote_id or row.remote_id,
        last_code=what.failure.code,
        last_error=error_text(what.failure),
    )
    if row.proof.startswith("positive"):
        return row  # `settle` ends it
    if what.policy.repeats(row.doubts):
        return wait(tx, row, stamp(what.due_at), now, actor=actor, action="will repeat")
    return hold_in_doubt(tx, row, what.failure, now, actor)


def settle(tx: Tx, row: Moving, now: datetime) -> Moving:
    """Apply evidence that came while a worker had the delivery."""
    if not row.proof or row.state in ("delivered", "superseded"):
        return row
    sort, _, kind = row.proof.partition(" ")
    if sort == "positive":
        return deliver_by_proof(tx, row, now, "receipt", kind)
    if row.state != State.ACCEPTED.value:
        return row
    refusal = Failure(
        code="refused-later", message=f"accepté puis refusé par le destinataire ({kind})"
    )
    return fail(tx, row, refusal, now, actor="receipt", action="refused", kind=NoticeKind.FAILED)
