"""The settings as the rest of the station reads them: frozen, typed, every path absolute."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, time
from pathlib import Path
from typing import Any

from dlx.errors import ConfigProblem
from dlx.profiles import Book


@dataclass(frozen=True, slots=True, kw_only=True)
class Laboratory:
    """Who sends. ``timezone`` is an IANA name, ``language`` is ``fr`` or ``en``."""

    name: str
    finess: str = ""
    timezone: str = "Europe/Paris"
    language: str = "fr"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadyWhen:
    """When a file of a pickup is complete (reliability §5).

    Attributes:
        rule: ``rename``, ``marker`` or ``quiet``. marker: suffix of the marker file.
        quiet_seconds: how long size and date must not have changed.
    """

    rule: str = "rename"
    marker: str = ""
    quiet_seconds: float = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Silence:
    """When the lack of files is worth an alert; ``expect`` is ``learned`` or ``off``."""

    expect: str = "learned"
    alert_after_seconds: float = 2700.0
    start: time = time(7, 0)
    end: time = time(20, 0)
    days: str = "working-days"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pickup:
    """One folder where the laboratory's system leaves files.

    Attributes:
        pattern: shell pattern of names to take. format: the only format expected, or "" for any.
        reading: options for the readers (``charset``…), as text.
        duplicates: ``archive`` (with an event, no notice) or ``reject``.
        patients: ``one`` (two patients outside a batch are quarantined) or ``several``.
        correction_wait_seconds: how long a correction waits for its original.
    """

    name: str
    directory: Path
    pattern: str = "*"
    format: str = ""
    reading: Mapping[str, str] = field(default_factory=dict)
    ready_when: ReadyWhen = ReadyWhen()
    max_size_bytes: int = 20_000_000
    duplicates: str = "archive"
    patients: str = "one"
    correction_wait_seconds: float = 300.0
    silence: Silence | None = None
    enabled: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """Back-off of a delivery (reliability §4), in seconds."""

    first_seconds: float = 60.0
    factor: float = 3.0
    max_seconds: float = 14_400.0
    give_up_seconds: float = 259_200.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How long things are kept, in days; counted from the end of the last delivery."""

    delivered_days: int = 100
    portal_days: int = 100
    history_values_days: int = 1826
    audit_days: int = 3652


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertMail:
    """A plain relay for operators' alerts, which hold counts, ids and links only."""

    host: str
    port: int
    sender: str
    tls: str = "starttls"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alerts:
    """Who is told, how, and from when on (seconds; counts)."""

    mail_to: tuple[str, ...] = ()
    mail: AlertMail | None = None
    heartbeat: str = ""
    channel_down_seconds: float = 600.0
    delivery_waiting_seconds: float = 7200.0
    notices_open: int = 1
    digest_at: time = time(7, 30)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the render workers may use, and how much is taken at once."""

    workers: int = 2
    batch: int = 50
    job_seconds: float = 20.0
    job_memory_bytes: int = 512_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Hours in which a channel may be used, in the laboratory's zone; equal times mean always."""

    start: time = time(0, 0)
    end: time = time(0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """At most ``count`` deliveries in ``seconds``."""

    count: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class ChannelSettings:
    """One channel.

    Attributes:
        type: word of a connector. connector: an instance of that connector's ``Settings``.
        concurrency: deliveries at once, or None for the connector's own default.
        receipt_within_seconds: after this without proof, an accepted delivery is silent; None =
            acceptance is the end.
        max_doubt: automatic repeats of a delivery in doubt. critical: down is urgent.
        recipients_in: name of the list of domains that addresses must belong to, or "".
        domains: the domains of that list, lower case; empty when there is none.
        place: ``file:line:column``.
    """

    name: str
    type: str
    connector: Any
    enabled: bool = True
    critical: bool = False
    retry: Retry = Retry()
    concurrency: int | None = None
    receipt_within_seconds: float | None = None
    rate: Rate | None = None
    window: Window | None = None
    max_doubt: int = 1
    recipients_in: str = ""
    domains: frozenset[str] = frozenset()
    place: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """One line of ``expect`` or ``expect_not`` of a route test; "" and () mean not said."""

    to: str
    via: str = ""
    formats: tuple[str, ...] = ()
    when: str = ""
    visible: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteTest:
    """One route test: the facts of an imaginary report, and what must (not) come of it."""

    name: str
    given: Mapping[str, tuple[str, ...]]
    expect: tuple[Expected, ...] = ()
    expect_not: tuple[Expected, ...] = ()
    place: str


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything the operator said, checked.

    Attributes:
        folder: where the files were read. prefix: what relative paths were resolved against.
        hash: SHA-256 of the canonical content of all files; each delivery records it.
        files: content of each file by its relative name, for the history of configurations.
        retry: the default back-off. default_formats: where a deliver item names none.
        tests_required: a reload is refused when a route test fails.
        database: path of the SQLite file, or a ``postgresql://`` URL.
        state, spool: folders of the archive and database, and of the spool rooms.
        warnings: what is allowed and deserves a look.
    """

    folder: Path
    prefix: Path
    hash: str
    files: Mapping[str, bytes]
    laboratory: Laboratory
    pickups: tuple[Pickup, ...]
    default_formats: tuple[str, ...]
    retry: Retry
    retention: Retention
    alerts: Alerts
    limits: Limits
    tests_required: bool
    database: str
    state: Path
    spool: Path
    control_socket: Path
    channels: Mapping[str, ChannelSettings]
    book: Book
    holidays: frozenset[date] = frozenset()
    tests: tuple[RouteTest, ...] = ()
    warnings: tuple[ConfigProblem, ...] = ()
