"""The one place that changes the state of a delivery.

Every move is checked against ``dlx.delivery.MOVES``, guarded in SQL by the state and the lease
generation that were read, counted, and told to the journal.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, bindparam, literal_column, select, update

from dlx.delivery import MOVES, Notice, NoticeKind, State
from dlx.errors import LeaseLost, NotFound, Refused
from dlx.ledger.notices import clear_of_delivery, open_for_delivery
from dlx.ledger.tables import delivery
from dlx.ledger.times import moment, stamp
from dlx.ledger.tx import Prepared, Tx
from dlx.ledger.words import Failure

_d = delivery.c


class Moving(NamedTuple):
    """What must be known of a delivery to move it; columns of the table, in this order."""

    id: str
    report_id: str
    report_key: str
    version: int
    recipient: str
    channel: str
    state: str
    due_at: int
    expires_at: int | None
    held_at: int | None
    attempts: int
    doubts: int
    noticed: int
    proof: str
    lease_owner: str
    lease_gen: int
    remote_id: str

    @property
    def subject(self) -> str:
        """How events and notices name it."""
        return f"delivery:{self.id}"


MOVING = tuple(delivery.c[name] for name in Moving._fields)
_GET = Prepared(select(*MOVING).where(_d.id == bindparam("wanted")))
_NEWER = Prepared(
    select(_d.id, _d.version)
    .where(
        _d.report_key == bindparam("report_key"),
        _d.recipient == bindparam("recipient"),
        _d.version > bindparam("version"),
        _d.state != literal_column("'cancelled'"),
    )
    .order_by(_d.version.desc())
    .limit(1)
)


def is_in(*states: State) -> ColumnElement[bool]:
    """A condition with the states written out, as a partial index needs them."""
    words = [f"'{state.value}'" for state in states]
    if len(words) == 1:
        return _d.state == literal_column(words[0])
    return _d.state.in_([literal_column(word) for word in words])


def moving(tx: Tx, id: str) -> Moving:
    """Read one delivery by its full id. Raises NotFound."""
    row = tx.one(_GET, wanted=id)
    if row is None:
        raise NotFound(f"{id} : envoi inconnu")
    return Moving._make(row)


@cache
def _update(columns: tuple[str, ...]) -> Prepared:
    return Prepared(
        update(delivery)
        .where(
            _d.id == bindparam("of_id"),
            _d.state == bindparam("of_state"),
            _d.lease_gen == bindparam("of_generation"),
        )
        .values({name: bindparam(name) for name in columns})
    )


def change(tx: Tx, row: Moving, **values: Any) -> None:
    """Write columns of a delivery that is still as it was read. Raises LeaseLost otherwise."""
    changed = tx.run(
        _update(tuple(values)),
        of_id=row.id,
        of_state=row.state,
        of_generation=row.lease_gen,
        **values,
    )
    if changed != 1:
        raise LeaseLost(f"{row.id} : le bail {row.lease_gen} n'est plus valable")


def move(
    tx: Tx,
    row: Moving,
    new: State,
    now: datetime,
    *,
    actor: str,
    action: str,
    detail: Mapping[str, str] | None = None,
    **values: Any,
) -> Moving:
    """Move a delivery and return it as it is then; ``values`` are further columns to write.

    Raises Refused when MOVES has no such move, LeaseLost when the row is not as it was read.
    """
    old = State(row.state)
    if new not in MOVES[old]:
        raise Refused(f"{row.id} : un envoi « {old.value} » ne peut pas devenir « {new.value} »")
    change(tx, row, state=new.value, moved_at=stamp(now), **values)
    tx.count(old, row.channel, -1)
    tx.count(new, row.channel, 1)
    tx.event(row.subject, action, actor, now, old=old.value, new=new.value, detail=detail)
    kept = {name: value for name, value in values.items() if name in Moving._fields}
    return row._replace(state=new.value, **kept)


def newer(tx: Tx, row: Moving) -> tuple[str, int] | None:
    """(id, version) of a delivery of a newer version to the same recipient, not cancelled."""
    found = tx.one(_NEWER, report_key=row.report_key, recipient=row.recipient, version=row.version)
    return None if found is None else (str(found[0]), int(found[1]))


def supersede(tx: Tx, row: Moving, by: tuple[str, int], now: datetime, actor: str) -> Moving:
    """waiting or held → superseded; says by which newer delivery."""
    id, version = by
    ended = move(
        tx,
        row,
        State.SUPERSEDED,
        now,
        actor=actor,
        action="superseded",
        detail={"by": id, "version": str(version)},
        held_at=None,
        noticed=0,
    )
    clear_of_delivery(tx, row.id, row.noticed, "remplacé par une version plus récente", now)
    return ended


def wait(
    tx: Tx, row: Moving, due_at: int, now: datetime, *, actor: str, action: str, **more: Any
) -> Moving:
    """Back to waiting; superseded at once when a newer version was promised meanwhile (P7)."""
    detail = more.pop("detail", None)
    waiting = move(
        tx,
        row,
        State.WAITING,
        now,
        actor=actor,
        action=action,
        detail=detail,
        due_at=due_at,
        lease_owner="",
        lease_until=None,
        **more,
    )
    found = newer(tx, waiting)
    return waiting if found is None else supersede(tx, waiting, found, now, actor)


def fail(
    tx: Tx,
    row: Moving,
    failure: Failure,
    now: datetime,
    *,
    actor: str,
    action: str,
    notice: Notice | None = None,
    kind: NoticeKind = NoticeKind.FAILED,
) -> Moving:
    """→ failed, with its notice in the same transaction (P3)."""
    failed = move(
        tx,
        row,
        State.FAILED,
        now,
        actor=actor,
        action=action,
        detail={"code": failure.code},
        lease_owner="",
        lease_until=None,
        noticed=1,
        last_code=failure.code,
        last_error=error_text(failure),
    )
    open_for_delivery(tx, row, notice or notice_of(row, failure, kind), now)
    return failed


def notice_of(row: Moving, failure: Failure, kind: NoticeKind) -> Notice:
    """The ordinary notice of a failure."""
    return Notice(
        subject=row.subject,
        kind=kind,
        cause=failure.message,
        words=failure.words,
        command=failure.cure or f"dlx queue show {row.id}",
    )


def hold_in_doubt(tx: Tx, row: Moving, failure: Failure, now: datetime, actor: str) -> Moving:
    """in_doubt → held, with a notice: a person decides (P5)."""
    held = move(
        tx,
        row,
        State.HELD,
        now,
        actor=actor,
        action="held",
        detail={"doubts": str(row.doubts)},
        held_at=stamp(now),
        hold_reason="peut-être arrivé : à vérifier avec le destinataire",
        lease_owner="",
        lease_until=None,
        noticed=1,
    )
    doubt = Notice(
        subject=row.subject,
        kind=NoticeKind.IN_DOUBT,
        cause=f"peut-être arrivé, sans réponse complète ({row.doubts} fois) : {failure.message}",
        words=failure.words,
        command=f"dlx queue release {row.id} (le renvoie), ou dlx queue confirm {row.id}",
    )
    open_for_delivery(tx, held, doubt, now)
    return held


def deliver_by_proof(tx: Tx, row: Moving, now: datetime, actor: str, kind: str) -> Moving:
    """→ delivered because evidence came; closes what was open about it."""
    ended = move(
        tx,
        row,
        State.DELIVERED,
        now,
        actor=actor,
        action="proven",
        detail={"kind": kind},
        held_at=None,
        lease_owner="",
        lease_until=None,
        proof="",
        noticed=0,
    )
    clear_of_delivery(tx, row.id, row.noticed, f"remis : preuve reçue ({kind})", now)
    return ended


def error_text(failure: Failure) -> str:
    """Sentence and far side's words, as lists show them."""
    return f"{failure.message} — {failure.words}" if failure.words else failure.message


def older_than(due_at: int, now: datetime) -> bool:
    """True when a stored time has passed."""
    return moment(due_at) <= now
