"""The records that come out of the ledger for people and pages: frozen, typed, no SQL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from dlx.delivery import Attempt, Delivery, Notice, NoticeKind, Receipt, State
from dlx.ledger.words import RenditionRow
from dlx.report import ReportStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """What a receipt did: ``delivery`` "" when nothing matched; ``fresh`` False for a duplicate."""

    id: str
    delivery: str
    before: State | None
    after: State | None
    fresh: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class NoticeRow:
    """A notice with what only the ledger knows; ``repeats`` counts re-openings while open."""

    notice: Notice
    repeats: int
    last_at: datetime
    delivery: str = ""
    report: str = ""
    channel: str = ""
    recipient: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxRow:
    """Something to tell outside, at least once: topic ``notice.opened`` or ``notice.closed``."""

    id: int
    topic: str
    payload: Mapping[str, str]
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which deliveries: every condition given must hold (operator-ux §4, selection options).

    Attributes:
        ids: full ids or unique beginnings. states: empty means all.
        report: R… id or the laboratory's number. since, until: of creation.
        older_than: created before that. error: text found in the last error.
        limit: at most that many, newest first.
    """

    ids: tuple[str, ...] = ()
    states: frozenset[State] = frozenset()
    channel: str = ""
    recipient: str = ""
    prescriber: str = ""
    establishment: str = ""
    report: str = ""
    since: datetime | None = None
    until: datetime | None = None
    older_than: datetime | None = None
    error: str = ""
    limit: int = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryRow:
    """A delivery in a list: the word of layer 1 and the last error, if any."""

    delivery: Delivery
    issuer: str
    number: str
    status: ReportStatus
    config_hash: str
    moved_at: datetime
    hold_reason: str = ""
    last_code: str = ""
    last_error: str = ""
    remote_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One line of the journal. ``old`` and ``new`` are states, or "" when none changed."""

    id: int
    at: datetime
    subject: str
    action: str
    actor: str
    old: str = ""
    new: str = ""
    detail: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryView:
    """Everything about one delivery, oldest first."""

    row: DeliveryRow
    renditions: tuple[RenditionRow, ...]
    attempts: tuple[Attempt, ...]
    receipts: tuple[Receipt, ...]
    events: tuple[Event, ...]
    notices: tuple[NoticeRow, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionRow:
    """One version of a report."""

    id: str
    issuer: str
    number: str
    version: int
    status: ReportStatus
    supersedes: str
    facts: str
    withheld: str
    prescriber: str
    establishment: str
    patient_hash: str
    content_key: str
    message_id: str
    intake: str
    original_sha256: str
    config_hash: str
    registered_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportView:
    """A report with all its versions (oldest first), their renditions and deliveries."""

    version: VersionRow
    versions: tuple[VersionRow, ...]
    renditions: tuple[RenditionRow, ...]
    deliveries: tuple[DeliveryRow, ...]
    events: tuple[Event, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """One screen's worth of figures."""

    counts: Mapping[tuple[State, str], int]
    oldest_waiting: Mapping[str, datetime]
    next_due: Mapping[str, datetime]
    open_notices: Mapping[NoticeKind, int]
    stopped: Mapping[str, str]
