"""Every table of the ledger, with a comment on every column.

Times are whole microseconds since 1970 in UTC, so that they sort, index and compare the same in
SQLite and PostgreSQL. States are the values of ``dlx.delivery.State``. No patient name, birth date
or result is stored here; what must be kept of them is a keyed hash or a sealed file elsewhere.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

SCHEMA = "0001"  # the revision of migrations/ that makes these tables

metadata = MetaData()


def _text(name: str, comment: str, *more: Any, **options: Any) -> Column[str]:
    return Column(name, Text, *more, nullable=False, comment=comment, **options)


def _time(name: str, comment: str, *, nullable: bool = False) -> Column[int]:
    return Column(name, BigInteger, nullable=nullable, comment=comment)


def _number(name: str, comment: str, *more: Any, **options: Any) -> Column[int]:
    return Column(name, Integer, *more, nullable=False, comment=comment, **options)


intake = Table(
    "intake",
    metadata,
    Column("id", String(10), primary_key=True, comment="I and nine characters"),
    _text("claim_id", "of the spool; begins the claimed file's name"),
    _text("original_name", "as it lay in the pickup"),
    _text("sha256", "of the whole original"),
    Column("size", BigInteger, nullable=False, comment="bytes"),
    _text("pickup", "name of the pickup"),
    _text("state", "registered, archived, rejected"),
    _text("code", "why rejected: stable code, or empty"),
    _text("reason", "why rejected: sentence, or empty"),
    _text("origin", "empty, or reconciled after a restore"),
    _text("config_hash", "configuration set that decided"),
    _time("first_seen", "when the station saw the file"),
    _time("registered_at", "when this row was written"),
    UniqueConstraint("claim_id", name="uq_intake_claim"),
)
Index(
    "uq_intake_content",
    intake.c.sha256,
    unique=True,
    sqlite_where=text("state IN ('registered', 'archived')"),
    postgresql_where=text("state IN ('registered', 'archived')"),
)

report = Table(
    "report",
    metadata,
    Column("id", String(10), primary_key=True, comment="R and nine characters; one version"),
    Column("intake_id", ForeignKey("intake.id"), nullable=False, comment="the file it came in"),
    _text("issuer", "who gave the number"),
    _text("number", "the laboratory's number of the request"),
    _text("report_key", "hash of issuer and number: the report over all its versions"),
    _number("version", "1, 2… given at registration"),
    _text("supersedes", "id of the version before, or empty"),
    _text("status", "partial, final, corrected, cancelled"),
    _text("facts", "JSON of what routing knows, without identity"),
    _text("withheld", "JSON of the routes not taken, for explain"),
    _text("prescriber", "number or name of the prescriber, for selections"),
    _text("establishment", "number or name of the establishment, for selections"),
    _text("patient_hash", "keyed hash of the identity, or empty"),
    _text("content_key", "equal when nothing that matters changed"),
    _text("message_id", "the sender's own id of the message"),
    _text("config_hash", "configuration set that decided"),
    _time("registered_at", "when"),
    UniqueConstraint("report_key", "version", name="uq_report_version"),
    Index("ix_report_number", "number", "version"),
    Index("ix_report_registered", "registered_at"),
    Index("ix_report_patient", "patient_hash"),
    Index("ix_report_intake", "intake_id"),
)

rendition = Table(
    "rendition",
    metadata,
    Column("id", String(16), primary_key=True, comment="report id, a dot, its number"),
    Column("report_id", ForeignKey("report.id"), nullable=False, comment="of which version"),
    _text("format", "word of the format"),
    _text("options_hash", "what it was made with; empty for the defaults"),
    _text("sha256", "of the bytes handed to the connector"),
    Column("size", BigInteger, nullable=False, comment="bytes, clear"),
    _text("suffix", "file ending with its dot"),
    _text("media_type", "with charset"),
    _text("losses", "JSON list of what the format could not carry"),
    Index("ix_rendition_report", "report_id"),
)

data_key = Table(
    "data_key",
    metadata,
    Column("id", String(64), primary_key=True, comment="given by the archive"),
    Column(
        "wrapped", LargeBinary, nullable=False, comment="the key, wrapped; empty once destroyed"
    ),
    _text("kek_id", "the key that wraps it"),
    _time("destroyed_at", "purged: content unreadable from then on", nullable=True),
)

content = Table(
    "content",
    metadata,
    Column("sha256", String(64), primary_key=True, comment="of the clear bytes"),
    Column(
        "data_key_id",
        ForeignKey("data_key.id"),
        primary_key=True,
        comment="equal bytes of two reports are kept under both keys: purging one keeps the other",
    ),
    _text("pack", "pack file, relative to the archive"),
    Column("start", BigInteger, nullable=False, comment="first byte in the pack"),
    Column("length", BigInteger, nullable=False, comment="sealed bytes"),
)

delivery = Table(
    "delivery",
    metadata,
    Column("id", String(10), primary_key=True, comment="D and nine characters, never reused"),
    Column("report_id", ForeignKey("report.id"), nullable=False, comment="of which version"),
    _text("report_key", "as in report: versions of one report find each other"),
    _number("version", "as in report"),
    _text("recipient", "profile id, or patient"),
    _text("recipient_name", "as printed"),
    _text("channel", "name of the way out"),
    _text("address", "mailbox, folder, or empty"),
    _text("options", "JSON: certificate, file name…"),
    _text("why", "file:line:column of the rule, then its words"),
    _text("config_hash", "configuration set that decided"),
    _text("idem_key", "hash of report key, version, recipient, channel, address, resend number"),
    _number("number", "resend number, 0 for the first"),
    Column("replaces", SmallInteger, nullable=False, comment="1: an earlier version was promised"),
    _text("state", "see MOVES"),
    Column("priority", SmallInteger, nullable=False, comment="0 urgent, 1 ordinary"),
    _time("created_at", "when it was promised"),
    _time("due_at", "not tried before"),
    _time("expires_at", "given up after; moves on while held", nullable=True),
    _time("held_at", "since when it is held", nullable=True),
    _text("hold_reason", "why it is held, or empty"),
    _time("moved_at", "last change of state"),
    _number("attempts", "how often it was claimed"),
    _number("tries", "the same since the back-off was reset"),
    _number("doubts", "attempts of which nobody knows the end"),
    Column("noticed", SmallInteger, nullable=False, comment="1: it may have an open notice"),
    _text("proof", "evidence that came while a worker had it: positive, negative, or empty"),
    _text("lease_owner", "worker that has it, or empty"),
    _number("lease_gen", "fencing number: grows with every lease and every taking away"),
    _time("lease_until", "end of the lease", nullable=True),
    _text("remote_id", "what a receipt will quote: of the last attempt that has one"),
    _text("last_code", "stable code of the last failure"),
    _text("last_error", "sentence and words of the last failure"),
    UniqueConstraint("idem_key", name="uq_delivery_idem"),
    Index("ix_delivery_family", "report_key", "recipient", "version"),
    Index("ix_delivery_report", "report_id"),
    Index("ix_delivery_recipient", "recipient", "created_at"),
    Index("ix_delivery_created", "created_at"),
)


def _partial(name: str, where: str, *columns: Column[Any]) -> None:
    Index(name, *columns, sqlite_where=text(where), postgresql_where=text(where))


_d = delivery.c
_partial("ix_delivery_due", "state = 'waiting'", _d.channel, _d.priority, _d.due_at, _d.id)
_partial("ix_delivery_expires", "state = 'waiting'", _d.expires_at)
_partial("ix_delivery_lease", "state IN ('claimed', 'sending')", _d.lease_until)
_partial("ix_delivery_owner", "state IN ('claimed', 'sending')", _d.lease_owner)
_partial("ix_delivery_accepted", "state = 'accepted'", _d.channel, _d.moved_at)
_partial("ix_delivery_held", "state = 'held'", _d.created_at)
_partial("ix_delivery_failed", "state = 'failed'", _d.created_at)

delivery_rendition = Table(
    "delivery_rendition",
    metadata,
    Column("delivery_id", ForeignKey("delivery.id"), primary_key=True, comment="the promise"),
    Column("position", Integer, primary_key=True, comment="order of the formats"),
    Column("rendition_id", ForeignKey("rendition.id"), nullable=False, comment="what it carries"),
)

attempt = Table(
    "attempt",
    metadata,
    Column("delivery_id", ForeignKey("delivery.id"), primary_key=True, comment="of what"),
    Column("n", Integer, primary_key=True, comment="1, 2…"),
    _number("generation", "lease under which it was made"),
    _text("owner", "worker"),
    _time("started_at", "claimed at"),
    _time("ended_at", "closed at", nullable=True),
    _text("phase", "connect, envelope, data, committed_to, replied"),
    _text("outcome", "accepted, deferred, refused, not_sent, in_doubt; empty while open"),
    _text("reply_code", "our stable code of a failure"),
    _text("message", "our sentence"),
    _text("reply_text", "the far side's own words"),
    _text("remote_id", "Message-ID, final path"),
    _text("peer", "who answered"),
    _text("tls", "how the line was protected"),
)
_partial("ix_attempt_remote", "remote_id <> ''", attempt.c.remote_id)

event = Table(
    "event",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False, comment="1, 2… without a gap"),
    _time("at", "when"),
    _text("subject", "delivery:D…, report:R…, intake:I…, notice:N…, channel:x, configuration:…"),
    _text("action", "what happened, one word"),
    _text("actor", "worker, rule or person"),
    _text("old", "state before, or empty"),
    _text("new", "state after, or empty"),
    _text("detail", "canonical JSON object"),
    _text("prev_hash", "hash of the event before; empty for the first"),
    _text("hash", "SHA-256 of prev_hash, a bar, the canonical JSON of the other columns"),
    Index("ix_event_subject", "subject", "id"),
    Index("ix_event_at", "at"),
)

receipt = Table(
    "receipt",
    metadata,
    Column("id", String(10), primary_key=True, comment="Q and nine characters"),
    _text("fingerprint", "hash of all it says: the same one fetched twice is one"),
    _text("delivery_id", "matched to, or empty"),
    _text("remote_id", "what it quotes"),
    _text("channel", "by which way it came"),
    Column("positive", SmallInteger, nullable=False, comment="1 proof, 0 refusal"),
    _text("kind", "dsn, mdn, ack, fetched…"),
    _text("words", "the far side's own words"),
    _time("at", "what it says of itself"),
    _time("recorded_at", "when it was written here"),
    UniqueConstraint("fingerprint", name="uq_receipt_fingerprint"),
)
_partial("ix_receipt_delivery", "delivery_id <> ''", receipt.c.delivery_id)
_partial("ix_receipt_unmatched", "delivery_id = ''", receipt.c.remote_id)

notice = Table(
    "notice",
    metadata,
    Column("id", String(10), primary_key=True, comment="N and nine characters"),
    _text("subject", "what it is about"),
    _text("kind", "see NoticeKind"),
    _text("cause", "groups equal notices; no medical data"),
    _text("words", "the far side's own words"),
    _text("command", "what to type next"),
    _text("delivery_id", "or empty"),
    _text("report_id", "or empty"),
    _text("channel", "or empty"),
    _text("recipient", "or empty"),
    _time("opened_at", "when"),
    _time("last_at", "when the cause was last seen"),
    _number("repeats", "how often the cause was seen again while open"),
    _text("owner", "who takes care of it, or empty"),
    _time("closed_at", "or null while open", nullable=True),
    _text("closed_by", "person, or station"),
    _text("closing_reason", "why closed"),
    Index("ix_notice_opened", "opened_at"),
    Index("ix_notice_subject", "subject"),
)
Index(
    "uq_notice_open",
    notice.c.subject,
    notice.c.kind,
    unique=True,
    sqlite_where=text("closed_at IS NULL"),
    postgresql_where=text("closed_at IS NULL"),
)

outbox = Table(
    "outbox",
    metadata,
    Column(
        "id",
        BigInteger().with_variant(Integer, "sqlite"),
        primary_key=True,
        autoincrement=True,
        comment="order of telling",
    ),
    _text("topic", "notice.opened, notice.closed"),
    _text("payload", "JSON object"),
    _time("at", "when it happened"),
    _time("done_at", "told, or null", nullable=True),
)
_partial("ix_outbox_pending", "done_at IS NULL", outbox.c.id)

worker = Table(
    "worker",
    metadata,
    Column("id", String(64), primary_key=True, comment="name of the owner of leases"),
    _text("host", "machine"),
    _number("pid", "process"),
    _text("boot_id", "of the machine: tells a reboot from a restart"),
    _time("started_at", "when"),
    _time("heartbeat_at", "last sign of life"),
)

configuration = Table(
    "configuration",
    metadata,
    Column("hash", String(64), primary_key=True, comment="of the accepted set"),
    _text("body", "the set itself"),
    _time("accepted_at", "last time it was accepted"),
    _text("actor", "by whom"),
)

stop = Table(
    "stop",
    metadata,
    Column("subject", String(200), primary_key=True, comment="channel:x or profile:x"),
    _text("reason", "why"),
    _text("actor", "who"),
    _time("at", "since when"),
)

counter = Table(
    "counter",
    metadata,
    Column("state", String(16), primary_key=True, comment="of deliveries"),
    Column("channel", String(200), primary_key=True, comment="of deliveries"),
    Column("n", BigInteger, nullable=False, comment="how many; kept with every move"),
)
