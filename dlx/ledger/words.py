"""The records that stages give to the ledger and work with: frozen, typed, no SQL.

Times are aware datetimes in UTC, always given by the caller; the ledger never reads a clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeAlias

from dlx.delivery import Accepted, Delivery, Notice, Result
from dlx.report import ReportStatus

# --- what intake writes -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class DataKey:
    """A wrapped content key; ``wrapped`` is opaque here, ``kek_id`` names the key that wraps it."""

    id: str
    wrapped: bytes
    kek_id: str
    destroyed_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the archive keeps the sealed form of the bytes whose hash is ``sha256``.

    Attributes:
        pack: name of the pack file, relative to the archive. offset, length: in bytes, sealed.
    """

    sha256: str
    data_key: str
    pack: str
    offset: int
    length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedRendition:
    """One rendition of a report, already kept by the archive.

    Attributes:
        ref: how ``PlannedDelivery.renditions`` names it, unique within its ReportEntry.
        options_hash: what it was made with (format options, addressee); "" for the defaults.
        size: of the clear content in bytes.
    """

    ref: str
    format: str
    options_hash: str = ""
    sha256: str
    size: int
    suffix: str
    media_type: str
    losses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedDelivery:
    """One promise to make.

    Attributes:
        recipient, recipient_name, channel, address, options, why, urgent: as in ``Route``.
        renditions: refs of PlannedRendition, in the order of the formats.
        due_at: first time to try. expires_at: given up after that, or None.
        hold: "" or the reason why it starts as ``held``.
        failure: set when no rendition could be made: it starts as ``failed`` with a notice.
    """

    recipient: str
    recipient_name: str = ""
    channel: str
    address: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    why: str = ""
    renditions: tuple[str, ...] = ()
    due_at: datetime
    expires_at: datetime | None = None
    hold: str = ""
    urgent: bool = False
    failure: Failure | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportEntry:
    """One version of one report to record; its number is last + 1, given by the ledger.

    Attributes:
        facts: JSON of the facts without identity. patient_hash: keyed hash or "".
        content_key: equal when nothing that matters changed. message_id: the sender's, or "".
        deliveries, renditions: what is promised; notices: about this report, their ``subject`` may
            be "" and becomes ``report:R…``.
        withheld: JSON of the routes considered and not taken, for explain.
        prescriber, establishment: number or name, for the selections of commands.
        unchanged: repeats what the last version says: recorded as no new version, only an event.
    """

    issuer: str
    number: str
    status: ReportStatus
    facts: str
    patient_hash: str = ""
    content_key: str = ""
    message_id: str = ""
    renditions: tuple[PlannedRendition, ...] = ()
    deliveries: tuple[PlannedDelivery, ...] = ()
    notices: tuple[Notice, ...] = ()
    withheld: str = "[]"
    prescriber: str = ""
    establishment: str = ""
    unchanged: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """One file taken in, and everything it promises.

    Attributes:
        claim_id: of the spool, unique. original_name: as it lay in the pickup.
        sha256, size: of the whole original. pickup: name of the pickup.
        config_hash: of the configuration set that decided.
        places, data_keys: what the archive kept for it (original and renditions).
        origin: "" or ``reconciled`` (found in the archive after a restore: all is held).
    """

    claim_id: str
    original_name: str
    sha256: str
    size: int
    pickup: str
    first_seen: datetime
    config_hash: str = ""
    reports: tuple[ReportEntry, ...] = ()
    places: tuple[Place, ...] = ()
    data_keys: tuple[DataKey, ...] = ()
    notices: tuple[Notice, ...] = ()
    origin: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """What registering did.

    Attributes:
        intake: ``I…``. reports: ``R…`` ids in order of the entries (unchanged ones: the last id).
        deliveries: ids of the deliveries made now. superseded: ids of those that this replaced.
        existed: True when the content was already in the ledger: nothing was added.
    """

    intake: str
    reports: tuple[str, ...]
    deliveries: tuple[str, ...]
    superseded: tuple[str, ...]
    existed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """A file that could not be taken. ``code`` and ``message`` are those of the ``.why`` file."""

    claim_id: str
    original_name: str
    sha256: str
    size: int
    pickup: str
    first_seen: datetime
    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IntakeRow:
    """One file as the ledger knows it; ``state``: registered, archived or rejected."""

    id: str
    claim_id: str
    original_name: str
    sha256: str
    size: int
    pickup: str
    state: str
    code: str
    reason: str
    first_seen: datetime
    registered_at: datetime
    origin: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LatestVersion:
    """The newest version of a report."""

    report: str
    version: int
    status: ReportStatus
    patient_hash: str
    content_key: str
    message_id: str


# --- dispatch ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class RenditionRow:
    """A rendition as stored, with the place of its bytes (None once purged)."""

    id: str
    report: str
    format: str
    options_hash: str
    sha256: str
    size: int
    suffix: str
    media_type: str
    losses: tuple[str, ...]
    place: Place | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """A delivery leased to a worker.

    Attributes:
        delivery: ``generation`` is that of this lease, ``attempts`` counts this one.
        renditions: in the order of the formats.
        tries: attempts since the last reset of the back-off, this one included.
        warned: a notice « delayed » was already opened.
        issuer, number: the laboratory's key of the report; status: of this version.
    """

    delivery: Delivery
    renditions: tuple[RenditionRow, ...]
    config_hash: str
    tries: int
    warned: bool
    issuer: str
    number: str
    status: ReportStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why an attempt did not succeed: our stable code, our sentence, the far side's own words."""

    code: str
    message: str
    words: str = ""
    cure: str = ""
    phase: str = ""
    peer: str = ""
    tls: str = ""
    remote_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deferred:
    """Nothing arrived, try again: back to ``waiting`` until ``due_at``.

    ``result`` is DEFERRED when the far side said « not now », NOT_SENT when the line broke before
    the point of no return. ``notice`` (kind DELAYED) is opened when it has been tried for too long.
    """

    due_at: datetime
    failure: Failure
    result: Result = Result.DEFERRED
    notice: Notice | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """Nothing arrived and never will: ``failed``, and a notice in the same transaction.

    ``notice`` None makes the ordinary one from the failure.
    """

    failure: Failure
    notice: Notice | None = None
    result: Result = Result.REFUSED


@dataclass(frozen=True, slots=True, kw_only=True)
class DoubtPolicy:
    """What follows a doubt (P5): a channel that finds repeats looks again; others repeat at most
    ``max_doubt`` times, then a person decides."""

    finds_repeats: bool = False
    max_doubt: int = 1

    def repeats(self, doubts: int) -> bool:
        """True when a delivery that is in doubt for the ``doubts``-th time is tried again."""
        return self.finds_repeats or doubts <= self.max_doubt


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubtful:
    """It may have arrived: ``in_doubt``, then ``waiting`` until ``due_at`` or ``held`` + notice."""

    failure: Failure
    due_at: datetime
    policy: DoubtPolicy = DoubtPolicy()


Outcome: TypeAlias = Accepted | Deferred | Failed | Doubtful


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """A process that may hold leases. ``boot_id`` tells a reboot from a restart."""

    id: str
    host: str
    pid: int
    boot_id: str
