"""The ledger: the only SQL, the memory of every promise and of what became of it.

    ledger = Ledger.open(path, create=True)
    registered = await ledger.write(lambda tx: register(tx, registration, now))
    rows = ledger.read(lambda tx: deliveries(tx, Selection(states=frozenset({State.WAITING}))))

Functions take a transaction first. Those that change something run in ``Ledger.write`` (await) or
``write_now`` (blocking); the others also in ``Ledger.read``. A work function runs in the writer
thread: it must not block and must touch nothing but its transaction and its arguments. Times are
aware datetimes given by the caller. Any of them raises StoreError when the store cannot be trusted:
stop and recover.

Ids (I… intake, R… report version, D… delivery, N… notice) may be shortened to a unique beginning
wherever people type them: views, operators' decisions, notices. Workers give them in full.
"""

from __future__ import annotations

from dlx.ledger.contents import (
    add_contents,
    data_key,
    destroy_key,
    place_of,
    rendition,
    rewrap_key,
)
from dlx.ledger.dispatch import claim_due, commit_intent, finish, release_claim
from dlx.ledger.ids import full_id
from dlx.ledger.journal import (
    accept_configuration,
    chain_head,
    configuration_text,
    configurations,
    events,
    record,
    verify_chain,
)
from dlx.ledger.leases import Policies, enrol, expire, heartbeat, next_due, reap, recover
from dlx.ledger.migrating import migrate
from dlx.ledger.notices import (
    clear_notice,
    close_notice,
    notice,
    notices,
    open_notice,
    outbox_done,
    outbox_pending,
    take_notice,
)
from dlx.ledger.operators import (
    cancel,
    confirm,
    hold,
    release,
    resend,
    resume,
    retry,
    stop,
    stopped,
)
from dlx.ledger.promises import promise
from dlx.ledger.receipts import record_receipt, silent
from dlx.ledger.reports import (
    archived,
    intake_of_claim,
    known,
    latest,
    register,
    register_many,
    reject,
)
from dlx.ledger.rows import (
    DeliveryRow,
    DeliveryView,
    Event,
    NoticeRow,
    OutboxRow,
    Recorded,
    ReportView,
    Selection,
    Status,
    VersionRow,
)
from dlx.ledger.store import Ledger
from dlx.ledger.tx import Tx
from dlx.ledger.views import (
    counts,
    deliveries,
    delivery,
    intake_counts,
    report,
    reports,
    status,
)
from dlx.ledger.words import (
    Claimed,
    DataKey,
    Deferred,
    Doubtful,
    DoubtPolicy,
    Failed,
    Failure,
    IntakeRow,
    LatestVersion,
    Outcome,
    Place,
    PlannedDelivery,
    PlannedRendition,
    Registered,
    Registration,
    Rejection,
    RenditionRow,
    ReportEntry,
    Worker,
)

__all__ = [
    "Claimed",
    "DataKey",
    "Deferred",
    "DeliveryRow",
    "DeliveryView",
    "DoubtPolicy",
    "Doubtful",
    "Event",
    "Failed",
    "Failure",
    "IntakeRow",
    "LatestVersion",
    "Ledger",
    "NoticeRow",
    "OutboxRow",
    "Outcome",
    "Place",
    "PlannedDelivery",
    "PlannedRendition",
    "Policies",
    "Recorded",
    "Registered",
    "Registration",
    "Rejection",
    "RenditionRow",
    "ReportEntry",
    "ReportView",
    "Selection",
    "Status",
    "Tx",
    "VersionRow",
    "Worker",
    "accept_configuration",
    "add_contents",
    "archived",
    "cancel",
    "chain_head",
    "claim_due",
    "clear_notice",
    "close_notice",
    "commit_intent",
    "configuration_text",
    "configurations",
    "confirm",
    "counts",
    "data_key",
    "deliveries",
    "delivery",
    "destroy_key",
    "enrol",
    "events",
    "expire",
    "finish",
    "full_id",
    "heartbeat",
    "hold",
    "intake_counts",
    "intake_of_claim",
    "known",
    "latest",
    "migrate",
    "next_due",
    "notice",
    "notices",
    "open_notice",
    "outbox_done",
    "outbox_pending",
    "place_of",
    "promise",
    "reap",
    "record",
    "record_receipt",
    "recover",
    "register",
    "register_many",
    "reject",
    "release",
    "release_claim",
    "rendition",
    "report",
    "reports",
    "resend",
    "resume",
    "retry",
    "rewrap_key",
    "silent",
    "status",
    "stop",
    "stopped",
    "take_notice",
    "verify_chain",
]
