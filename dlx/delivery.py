"""From a routed report to proof: routes, renditions, deliveries, attempts, receipts, notices.

A delivery (« envoi ») is the promise to bring the renditions of one version of one report to one
recipient by one channel. Its states and their moves are the one literal table MOVES.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum


class State(Enum):
    """Where a delivery stands."""

    WAITING = "waiting"  # en attente: due at some time
    HELD = "held"  # retenu: a person or a rule said not yet; does not age
    CLAIMED = "claimed"  # en cours: a worker has it, nothing can have arrived
    SENDING = "sending"  # en cours: past the point of no return, may have arrived
    IN_DOUBT = "in_doubt"  # à vérifier: the far side never answered
    ACCEPTED = "accepted"  # pris en charge: the next hop took responsibility
    DELIVERED = "delivered"  # remis: proof came back
    FAILED = "failed"  # échec définitif: a notice is open
    CANCELLED = "cancelled"  # annulé by a person, with a reason
    SUPERSEDED = "superseded"  # remplacé: a newer version took its place before it left


MOVES: Mapping[State, frozenset[State]] = {
    State.WAITING: frozenset(
        {
            State.CLAIMED,
            State.HELD,
            State.CANCELLED,
            State.SUPERSEDED,
            State.FAILED,
            State.DELIVERED,
        }
    ),
    State.HELD: frozenset(  # accepted: a person knows that it arrived
        {State.WAITING, State.CANCELLED, State.SUPERSEDED, State.ACCEPTED, State.DELIVERED}
    ),
    State.CLAIMED: frozenset({State.SENDING, State.WAITING, State.FAILED}),
    State.SENDING: frozenset(
        {State.ACCEPTED, State.DELIVERED, State.WAITING, State.FAILED, State.IN_DOUBT}
    ),
    State.IN_DOUBT: frozenset(
        {State.ACCEPTED, State.DELIVERED, State.WAITING, State.HELD, State.FAILED}
    ),
    State.ACCEPTED: frozenset({State.DELIVERED, State.FAILED}),
    State.FAILED: frozenset({State.WAITING, State.CANCELLED, State.DELIVERED}),
    State.DELIVERED: frozenset(),
    State.CANCELLED: frozenset(),
    State.SUPERSEDED: frozenset(),
}

ENDS = frozenset(state for state, moves in MOVES.items() if not moves)
OPEN = frozenset({State.WAITING, State.HELD, State.CLAIMED, State.SENDING, State.IN_DOUBT})

LETTERS: Mapping[State, str] = {
    State.WAITING: "W",
    State.HELD: "H",
    State.CLAIMED: "S",
    State.SENDING: "S",
    State.IN_DOUBT: "?",
    State.ACCEPTED: "A",
    State.DELIVERED: "D",
    State.FAILED: "F",
    State.CANCELLED: "X",
    State.SUPERSEDED: "R",
}


class Phase(Enum):
    """How far an attempt got before it ended."""

    CONNECT = "connect"
    ENVELOPE = "envelope"
    DATA = "data"
    COMMITTED_TO = "committed_to"
    REPLIED = "replied"


class Result(Enum):
    """How an attempt ended."""

    ACCEPTED = "accepted"
    DEFERRED = "deferred"  # the far side said: not now
    REFUSED = "refused"  # the far side said: never
    NOT_SENT = "not_sent"  # broken before the point of no return
    IN_DOUBT = "in_doubt"


class NoticeKind(Enum):
    """What a person must see."""

    FAILED = "failed"  # a delivery ended in failure
    DELAYED = "delayed"  # still tried, for too long
    IN_DOUBT = "in_doubt"  # may have arrived; a person decides
    SILENT = "silent"  # accepted but never confirmed
    REJECTED = "rejected"  # a file could not be taken
    UNROUTED = "unrouted"  # a report nobody is to receive, or a prescriber nobody knows
    CHANNEL = "channel"  # a way out is down or refuses us
    CERTIFICATE = "certificate"  # expired or about to
    STATION = "station"  # disk, configuration, clock


@dataclass(frozen=True, slots=True, kw_only=True)
class Fallback:
    """Where a delivery goes when nothing proves it in time (``if_undelivered`` of a profile).

    Attributes:
        after_seconds: counted from the creation of the first delivery.
        channel, address, options: as in ``Route``. formats: empty means the same as before.
        why: ``file:line:column`` of the rule, then its words.
    """

    after_seconds: float
    channel: str
    address: str = ""
    formats: tuple[str, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One decision: who gets what by which way, and why.

    Attributes:
        recipient: profile id (``dr-lefevre``), or ``patient``.
        recipient_name: how the recipient is called in renditions and lists.
        channel: name of a channel of the configuration.
        address: mailbox, folder or "" where the channel knows it.
        formats: words of formats, in order; all go in one delivery.
        format_options: per format, options that override its defaults.
        options: for the connector: certificate, file name…
        why: ``file:line:column`` of the rule that decided, then its words.
        hold: "" or the reason why the delivery must wait for a person or a later version.
        not_before: earliest time to send, or None.
        urgent: goes before the others and is tried again sooner.
        identity: identifiers of the recipient for renditions (RPPS, FINESS).
        fallback: what to do when nothing proves this delivery in time, or None.
    """

    recipient: str
    recipient_name: str = ""
    channel: str
    address: str = ""
    formats: tuple[str, ...]
    format_options: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)
    why: str
    hold: str = ""
    not_before: datetime | None = None
    urgent: bool = False
    identity: Mapping[str, str] = field(default_factory=dict)
    fallback: Fallback | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Withheld:
    """A route that was considered and not taken, for ``explain``."""

    recipient: str
    channel: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendition:
    """One report as the bytes one format makes of it.

    Attributes:
        format: word of the format. suffix: file ending with its dot. media_type: with charset.
        content: the bytes handed to the connector, unchanged.
        losses: what the format could not carry, one French sentence each, without medical data.
    """

    format: str
    suffix: str
    media_type: str
    content: bytes
    losses: tuple[str, ...] = ()

    @property
    def sha256(self) -> str:
        """Hexadecimal digest of the content."""
        return hashlib.sha256(self.content).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A promise, as the connector and the operator see it.

    Attributes:
        id: ``D`` and nine characters, never reused; opaque, so it may travel in names and headers.
        report: ``R…`` id of the report; version: of this delivery.
        number: resend number, 0 for the first; a resend is marked « duplicata ».
        generation: of the lease under which it is being worked on.
    """

    id: str
    report: str
    version: int
    recipient: str
    recipient_name: str = ""
    channel: str
    address: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    state: State = State.WAITING
    why: str = ""
    created_at: datetime
    due_at: datetime
    expires_at: datetime | None = None
    attempts: int = 0
    doubts: int = 0
    generation: int = 0
    number: int = 0
    urgent: bool = False
    replaces: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """A connector's yes.

    Attributes:
        remote_id: what a later receipt will quote: Message-ID, final path.
        proven: True when this already is proof of delivery.
        words: the far side's reply. peer, tls: who answered and how the line was protected.
    """

    remote_id: str
    proven: bool = False
    words: str = ""
    peer: str = ""
    tls: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try of a delivery."""

    delivery: str
    number: int
    started_at: datetime
    ended_at: datetime | None
    phase: Phase
    result: Result | None
    code: str = ""
    words: str = ""
    remote_id: str = ""
    peer: str = ""
    tls: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """Evidence from outside about one delivery.

    Attributes:
        delivery: its id when the evidence quotes it, else "" and ``remote_id`` must match.
        positive: True for proof, False for a refusal.
        kind: ``dsn``, ``mdn``, ``ack``, ``fetched``, ``imap``…
    """

    delivery: str = ""
    remote_id: str = ""
    positive: bool
    kind: str
    words: str = ""
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Incoming:
    """A file that a clinic left for us."""

    name: str
    content: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """A non-delivery (or another trouble) that a person must see.

    Attributes:
        subject: what it is about: ``delivery:D…``, ``intake:I…``, ``report:R…``, ``channel:x``.
        cause: words that group equal notices; no medical data.
        words: the far side's own words. command: what to type next.
    """

    subject: str
    kind: NoticeKind
    cause: str
    words: str = ""
    command: str = ""
    id: str = ""
    opened_at: datetime | None = None
    owner: str = ""
    closed_at: datetime | None = None
    closing_reason: str = ""
