"""Rows as people ask for them: lists by selection, one delivery, one report, figures."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, func, or_, select

from dlx.delivery import Attempt, Delivery, Phase, Receipt, Result, State
from dlx.errors import NotFound
from dlx.ledger.contents import renditions_of, renditions_of_report
from dlx.ledger.ids import full_id
from dlx.ledger.journal import events
from dlx.ledger.leases import next_due
from dlx.ledger.notices import notices, open_by_kind
from dlx.ledger.operators import stopped
from dlx.ledger.rows import (
    DeliveryRow,
    DeliveryView,
    ReportView,
    Selection,
    Status,
    VersionRow,
)
from dlx.ledger.tables import attempt as attempt_table
from dlx.ledger.tables import counter, intake
from dlx.ledger.tables import delivery as table
from dlx.ledger.tables import receipt as receipt_table
from dlx.ledger.tables import report as report_table
from dlx.ledger.times import moment, moment_or_none, stamp
from dlx.ledger.tx import Tx
from dlx.report import ReportStatus

_d = table.c
_r = report_table.c
_LISTED = select(
    table,
    _r.issuer.label("issuer"),
    _r.number.label("report_number"),
    _r.status.label("report_status"),
).join(report_table, _r.id == _d.report_id)


def _state_condition(states: Iterable[State]) -> ColumnElement[bool]:
    """One equality per state, so that each can use its own partial index."""
    return or_(*[_d.state == state.value for state in sorted(states, key=lambda s: s.value)])


def _like(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"


def _selected(tx: Tx, chosen: Selection) -> Select[Any]:
    wanted = _LISTED
    if chosen.ids:
        wanted = wanted.where(_d.id.in_([full_id(tx, "D", id) for id in chosen.ids]))
    if chosen.states:
        wanted = wanted.where(_state_condition(chosen.states))
    if chosen.report:
        wanted = wanted.where(_of_report(tx, chosen.report))
    equal = (
        (_d.channel, chosen.channel),
        (_d.recipient, chosen.recipient),
        (_r.prescriber, chosen.prescriber),
        (_r.establishment, chosen.establishment),
    )
    for column, value in equal:
        if value:
            wanted = wanted.where(column == value)
    if chosen.since is not None:
        wanted = wanted.where(_d.created_at >= stamp(chosen.since))
    for before in (chosen.until, chosen.older_than):
        if before is not None:
            wanted = wanted.where(_d.created_at < stamp(before))
    if chosen.error:
        wanted = wanted.where(_d.last_error.ilike(_like(chosen.error), escape="\\"))
    return wanted.order_by(_d.created_at.desc(), _d.id).limit(chosen.limit)


def _of_report(tx: Tx, named: str) -> ColumnElement[bool]:
    """An R… id (or its beginning), else the laboratory's number."""
    try:
        return _d.report_id == full_id(tx, "R", named)
    except NotFound:
        return _r.number == named


def _delivery_row(row: Any) -> DeliveryRow:
    return DeliveryRow(
        delivery=Delivery(
            id=row.id,
            report=row.report_id,
            version=row.version,
            recipient=row.recipient,
            recipient_name=row.recipient_name,
            channel=row.channel,
            address=row.address,
            options=json.loads(row.options),
            state=State(row.state),
            why=row.why,
            created_at=moment(row.created_at),
            due_at=moment(row.due_at),
            expires_at=moment_or_none(row.expires_at),
            attempts=row.attempts,
            doubts=row.doubts,
            generation=row.lease_gen,
            number=row.number,
            urgent=row.priority == 0,
            replaces=bool(row.replaces),
        ),
        issuer=row.issuer,
        number=row.report_number,
        status=ReportStatus(row.report_status),
        config_hash=row.config_hash,
        moved_at=moment(row.moved_at),
        hold_reason=row.hold_reason,
        last_code=row.last_code,
        last_error=row.last_error,
        remote_id=row.remote_id,
    )


def deliveries(tx: Tx, selection: Selection) -> list[DeliveryRow]:
    """Deliveries for which every condition holds, newest first. Raises NotFound for unknown ids."""
    return [_delivery_row(row) for row in tx.rows(_selected(tx, selection))]


def _attempt(row: Any) -> Attempt:
    return Attempt(
        delivery=row.delivery_id,
        number=row.n,
        started_at=moment(row.started_at),
        ended_at=moment_or_none(row.ended_at),
        phase=Phase(row.phase),
        result=Result(row.outcome) if row.outcome else None,
        code=row.reply_code,
        words=row.reply_text or row.message,
        remote_id=row.remote_id,
        peer=row.peer,
        tls=row.tls,
    )


def _receipt(row: Any) -> Receipt:
    return Receipt(
        delivery=row.delivery_id,
        remote_id=row.remote_id,
        positive=bool(row.positive),
        kind=row.kind,
        words=row.words,
        at=moment(row.at),
    )


def delivery(tx: Tx, id: str) -> DeliveryView:
    """All about one delivery, by its id or a unique beginning. Raises NotFound."""
    full = full_id(tx, "D", id)
    a, q = attempt_table.c, receipt_table.c
    attempts = tx.rows(select(attempt_table).where(a.delivery_id == full).order_by(a.n))
    receipts = tx.rows(
        select(receipt_table)
        .where(q.delivery_id == full, q.delivery_id != "")
        .order_by(q.recorded_at)
    )
    return DeliveryView(
        row=_delivery_row(tx.rows(_LISTED.where(_d.id == full))[0]),
        renditions=renditions_of(tx, full),
        attempts=tuple(_attempt(row) for row in attempts),
        receipts=tuple(_receipt(row) for row in receipts),
        events=tuple(events(tx, subject=f"delivery:{full}", limit=10_000)),
        notices=tuple(notices(tx, open_only=False, subject=f"delivery:{full}")),
    )


_VERSION = select(report_table, intake.c.sha256.label("original_sha256")).join(
    intake, intake.c.id == _r.intake_id
)


def _version(row: Any) -> VersionRow:
    return VersionRow(
        id=row.id,
        issuer=row.issuer,
        number=row.number,
        version=row.version,
        status=ReportStatus(row.status),
        supersedes=row.supersedes,
        facts=row.facts,
        withheld=row.withheld,
        prescriber=row.prescriber,
        establishment=row.establishment,
        patient_hash=row.patient_hash,
        content_key=row.content_key,
        message_id=row.message_id,
        intake=row.intake_id,
        original_sha256=row.original_sha256,
        config_hash=row.config_hash,
        registered_at=moment(row.registered_at),
    )


def report(tx: Tx, id: str) -> ReportView:
    """One version by its R… id, or the newest one by the laboratory's number.

    Raises NotFound; also when two issuers gave the same number.
    """
    try:
        chosen = tx.rows(_VERSION.where(_r.id == full_id(tx, "R", id)))
    except NotFound:
        chosen = tx.rows(_VERSION.where(_r.number == id).order_by(_r.version.desc()))
    if not chosen:
        raise NotFound(f"{id} : compte rendu inconnu")
    if len({row.report_key for row in chosen}) > 1:
        raise NotFound(f"{id} : plusieurs laboratoires ont donné ce numéro ; donnez l'id R…")
    one = chosen[0]
    versions = tx.rows(_VERSION.where(_r.report_key == one.report_key).order_by(_r.version))
    listed = tx.rows(_LISTED.where(_d.report_key == one.report_key).order_by(_d.created_at, _d.id))
    return ReportView(
        version=_version(one),
        versions=tuple(_version(row) for row in versions),
        renditions=renditions_of_report(tx, one.id),
        deliveries=tuple(_delivery_row(row) for row in listed),
        events=tuple(events(tx, subject=f"report:{one.id}", limit=10_000)),
    )


def reports(
    tx: Tx,
    *,
    number: str = "",
    since: datetime | None = None,
    until: datetime | None = None,
    limit: int = 200,
) -> list[VersionRow]:
    """Versions registered in [since, until), newest first."""
    wanted = _VERSION.order_by(_r.registered_at.desc(), _r.id).limit(limit)
    if number:
        wanted = wanted.where(_r.number == number)
    if since is not None:
        wanted = wanted.where(_r.registered_at >= stamp(since))
    if until is not None:
        wanted = wanted.where(_r.registered_at < stamp(until))
    return [_version(row) for row in tx.rows(wanted)]


def counts(tx: Tx) -> dict[tuple[State, str], int]:
    """How many deliveries by (state, channel), exact, without counting rows."""
    c = counter.c
    rows = tx.rows(select(c.state, c.channel, c.n).where(c.n != 0))
    return {(State(row.state), str(row.channel)): int(row.n) for row in rows}


def intake_counts(tx: Tx) -> dict[str, int]:
    """How many files by what became of them: ``registered``, ``archived``, ``rejected``; exact."""
    i = intake.c
    rows = tx.rows(select(i.state, func.count().label("number")).group_by(i.state))
    return {str(row.state): int(row.number) for row in rows}


def status(tx: Tx) -> Status:
    """One screen of figures; cheap however many reports there are."""
    due = next_due(tx)
    return Status(
        counts=counts(tx),
        oldest_waiting={channel: _oldest(tx, channel) for channel in due},
        next_due=due,
        open_notices=open_by_kind(tx),
        stopped=stopped(tx),
    )


def _oldest(tx: Tx, channel: str) -> datetime:
    """Creation of the oldest delivery that waits on a channel; one must."""
    waiting = select(func.min(_d.created_at)).where(
        _d.state == State.WAITING.value, _d.channel == channel
    )
    return moment(tx.rows(waiting)[0][0])
