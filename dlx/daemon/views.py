"""Rows of the ledger as JSON for the command line; members may be added, never renamed."""

from __future__ import annotations

from datetime import datetime
from typing import Any, TypeAlias

from dlx.delivery import LETTERS, Attempt, Receipt, State
from dlx.ledger import (
    DeliveryRow,
    DeliveryView,
    Event,
    NoticeRow,
    RenditionRow,
    ReportView,
    VersionRow,
)

Json: TypeAlias = dict[str, Any]


def stamp(when: datetime | None) -> str | None:
    """ISO 8601 in UTC, to the second."""
    return when.isoformat(timespec="seconds") if when else None


def delivery(row: DeliveryRow) -> Json:
    """One line of ``dlx queue list``."""
    d = row.delivery
    return {
        "id": d.id,
        "state": d.state.value,
        "letter": LETTERS[d.state],
        "report": d.report,
        "number": row.number,
        "version": d.version,
        "status": row.status.value,
        "recipient": d.recipient,
        "recipient_name": d.recipient_name,
        "channel": d.channel,
        "address": d.address,
        "why": d.why,
        "created_at": stamp(d.created_at),
        "due_at": stamp(d.due_at) if d.state is State.WAITING else None,
        "moved_at": stamp(row.moved_at),
        "attempts": d.attempts,
        "doubts": d.doubts,
        "urgent": d.urgent,
        "duplicata": d.number,
        "hold_reason": row.hold_reason,
        "last_code": row.last_code,
        "last_error": row.last_error,
        "remote_id": row.remote_id,
        "config_hash": row.config_hash,
    }


def attempt(one: Attempt) -> Json:
    """One try, with the far side's words."""
    return {
        "number": one.number,
        "started_at": stamp(one.started_at),
        "ended_at": stamp(one.ended_at),
        "phase": one.phase.value,
        "result": one.result.value if one.result else None,
        "code": one.code,
        "words": one.words,
        "remote_id": one.remote_id,
        "peer": one.peer,
        "tls": one.tls,
    }


def receipt(one: Receipt) -> Json:
    """Evidence that came back."""
    return {
        "kind": one.kind,
        "positive": one.positive,
        "words": one.words,
        "at": stamp(one.at),
        "remote_id": one.remote_id,
    }


def rendition(row: RenditionRow) -> Json:
    """What was made, and what the format could not carry."""
    return {
        "id": row.id,
        "format": row.format,
        "sha256": row.sha256,
        "size": row.size,
        "media_type": row.media_type,
        "losses": list(row.losses),
        "kept": row.place is not None,
    }


def event(one: Event) -> Json:
    """One line of the journal."""
    return {
        "id": one.id,
        "at": stamp(one.at),
        "subject": one.subject,
        "action": one.action,
        "actor": one.actor,
        "old": one.old,
        "new": one.new,
        "detail": dict(one.detail),
    }


def notice(row: NoticeRow) -> Json:
    """One notice."""
    n = row.notice
    return {
        "id": n.id,
        "kind": n.kind.value,
        "subject": n.subject,
        "cause": n.cause,
        "words": n.words,
        "command": n.command,
        "opened_at": stamp(n.opened_at),
        "owner": n.owner,
        "closed_at": stamp(n.closed_at),
        "closing_reason": n.closing_reason,
        "repeats": row.repeats,
        "delivery": row.delivery,
        "report": row.report,
        "channel": row.channel,
        "recipient": row.recipient,
    }


def delivery_view(view: DeliveryView) -> Json:
    """``dlx queue show``."""
    return {
        **delivery(view.row),
        "renditions": [rendition(r) for r in view.renditions],
        "attempts_made": [attempt(a) for a in view.attempts],
        "receipts": [receipt(r) for r in view.receipts],
        "events": [event(e) for e in view.events],
        "notices": [notice(n) for n in view.notices],
    }


def version(row: VersionRow) -> Json:
    """One version of a report."""
    return {
        "id": row.id,
        "issuer": row.issuer,
        "number": row.number,
        "version": row.version,
        "status": row.status.value,
        "supersedes": row.supersedes,
        "intake": row.intake,
        "original_sha256": row.original_sha256,
        "config_hash": row.config_hash,
        "registered_at": stamp(row.registered_at),
    }


def report_view(view: ReportView) -> Json:
    """A report with its versions, renditions, deliveries and journal."""
    return {
        **version(view.version),
        "versions": [version(v) for v in view.versions],
        "renditions": [rendition(r) for r in view.renditions],
        "deliveries": [delivery(d) for d in view.deliveries],
        "events": [event(e) for e in view.events],
    }
