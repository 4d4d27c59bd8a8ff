"""Rows: attempts, one a try, opened with the claim and closed with the outcome."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import and_, bindparam, insert, literal_column, select, update

from dlx.delivery import Phase, Result
from dlx.ledger.moves import Moving
from dlx.ledger.tables import attempt
from dlx.ledger.times import stamp
from dlx.ledger.tx import Prepared, Tx
from dlx.ledger.words import Failure

_OPEN_ATTEMPT = Prepared(insert(attempt))
_OPEN = {
    "ended_at": None,
    "phase": Phase.CONNECT.value,
    "outcome": "",
    **dict.fromkeys(("reply_code", "message", "reply_text", "remote_id", "peer", "tls"), ""),
}
_REACHED = Prepared(
    update(attempt)
    .where(
        attempt.c.delivery_id == bindparam("of_delivery"),
        attempt.c.n == bindparam("of_n"),
        attempt.c.generation == bindparam("of_generation"),
    )
    .values(phase=bindparam("phase"))
)
_CLOSE_ATTEMPT = Prepared(
    update(attempt)
    .where(
        and_(
            attempt.c.delivery_id == bindparam("of_delivery"),
            attempt.c.n == bindparam("of_n"),
            attempt.c.outcome == literal_column("''"),
        )
    )
    .values(
        {
            name: bindparam(name)
            for name in (
                [
                    "ended_at",
                    "phase",
                    "outcome",
                    "reply_code",
                    "message",
                    "reply_text",
                    "remote_id",
                    "peer",
                    "tls",
                ]
            )
        }
    )
)
_PHASE = Prepared(
    select(attempt.c.phase).where(
        attempt.c.delivery_id == bindparam("of_delivery"), attempt.c.n == bindparam("of_n")
    )
)


def open_attempt(tx: Tx, row: Moving, now: datetime) -> None:
    """The attempt of a delivery that was just claimed."""
    tx.run(
        _OPEN_ATTEMPT,
        delivery_id=row.id,
        n=row.attempts,
        generation=row.lease_gen,
        owner=row.lease_owner,
        started_at=stamp(now),
        **_OPEN,
    )


def attempt_committed(tx: Tx, row: Moving) -> None:
    """The attempt has passed the point of no return."""
    tx.run(
        _REACHED,
        of_delivery=row.id,
        of_n=row.attempts,
        of_generation=row.lease_gen,
        phase=Phase.COMMITTED_TO.value,
    )


def close_attempt(tx: Tx, row: Moving, result: Result, told: Failure, now: datetime) -> None:
    """End the open attempt of a delivery: result, code, sentence, words, phase, peer."""
    phase = told.phase
    if result is Result.ACCEPTED:
        phase = Phase.REPLIED.value
    elif not phase:
        found = tx.one(_PHASE, of_delivery=row.id, of_n=row.attempts)
        phase = found[0] if found else Phase.CONNECT.value
    tx.run(
        _CLOSE_ATTEMPT,
        of_delivery=row.id,
        of_n=row.attempts,
        ended_at=stamp(now),
        phase=phase,
        outcome=result.value,
        reply_code=told.code,
        message=told.message,
        reply_text=told.words,
        remote_id=told.remote_id,
        peer=told.peer,
        tls=told.tls,
    )
