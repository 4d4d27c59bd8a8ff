"""Rows: the deliveries that a version promises, and what they carry."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, func, insert, literal_column, select

from dlx.delivery import Notice, NoticeKind, State
from dlx.errors import NotFound, Refused
from dlx.ledger.contents import add_contents
from dlx.ledger.ids import new_id
from dlx.ledger.moves import MOVING, Moving, error_text, is_in, supersede
from dlx.ledger.notices import open_for_delivery
from dlx.ledger.tables import delivery, delivery_rendition, intake, rendition, report
from dlx.ledger.times import stamp, stamp_or_none
from dlx.ledger.tx import Prepared, Tx, canonical
from dlx.ledger.words import (
    DataKey,
    Failure,
    LatestVersion,
    Place,
    PlannedDelivery,
    PlannedRendition,
    Registered,
)

INTAKE = "intake"  # the actor of what follows from rules alone

_d = delivery.c
ADD = {
    table.name: Prepared(insert(table))
    for table in (intake, report, rendition, delivery, delivery_rendition)
}
_UNSENT = Prepared(
    select(*MOVING).where(
        _d.report_key == bindparam("of_report"),
        _d.recipient == bindparam("of_recipient"),
        _d.version < bindparam("below"),
        is_in(State.WAITING, State.HELD),
    )
)
_PROMISED = Prepared(
    select(_d.id)
    .where(
        _d.report_key == bindparam("of_report"),
        _d.recipient == bindparam("of_recipient"),
        _d.version < bindparam("below"),
    )
    .limit(literal_column("1"))
)
_VERSION = Prepared(
    select(report.c.report_key, report.c.version).where(report.c.id == bindparam("wanted"))
)
_NEWER = Prepared(
    select(_d.version)
    .where(
        _d.report_key == bindparam("of_report"),
        _d.recipient == bindparam("of_recipient"),
        _d.version > bindparam("above"),
        _d.state != literal_column("'cancelled'"),
    )
    .limit(literal_column("1"))
)
_LAST_NUMBER = Prepared(
    select(func.max(_d.number)).where(
        _d.report_id == bindparam("of_report"), _d.recipient == bindparam("of_recipient")
    )
)
_RENDITIONS = Prepared(select(func.count()).where(rendition.c.report_id == bindparam("of_report")))


def report_key(issuer: str, number: str) -> str:
    """The report over all its versions: hash of who numbered it and its number."""
    return hashlib.sha256(f"{issuer}\x1f{number}".encode()).hexdigest()


def idem_key(
    key: str, version: int, recipient: str, channel: str, address: str, number: int
) -> str:
    """What makes two deliveries the same promise; a resend has its own ``number``."""
    said = "\x1f".join((key, str(version), recipient, channel, address, str(number)))
    return hashlib.sha256(said.encode()).hexdigest()


def next_number(tx: Tx, report_id: str, recipient: str) -> int:
    """The number of one more delivery of a version to a recipient; 0 for the first."""
    last = tx.one(_LAST_NUMBER, of_report=report_id, of_recipient=recipient)[0]
    return 0 if last is None else int(last) + 1


@dataclass(slots=True)
class Batch:
    """Rows of several registrations, written table by table in few statements."""

    now: int
    rows: dict[str, list[dict[str, Any]]] = field(
        default_factory=lambda: {name: [] for name in ADD}
    )
    versions: dict[str, LatestVersion] = field(default_factory=dict)
    contents: dict[str, Registered] = field(default_factory=dict)

    def add(self, table: str, **row: Any) -> None:
        """Keep a row for later."""
        self.rows[table].append(row)

    def write(self, tx: Tx) -> None:
        """Insert what was kept, parents before children."""
        for name, rows in self.rows.items():
            tx.many(ADD[name], rows)
            rows.clear()


def add_renditions(
    batch: Batch, report_id: str, planned: Sequence[PlannedRendition], known: int = 0
) -> dict[str, str]:
    """Write renditions after the ``known`` first ones; ids by the ref that deliveries use."""
    ids: dict[str, str] = {}
    for number, made in enumerate(planned, known + 1):
        ids[made.ref] = f"{report_id}.{number:02d}"
        batch.add(
            "rendition",
            id=ids[made.ref],
            report_id=report_id,
            format=made.format,
            options_hash=made.options_hash,
            sha256=made.sha256,
            size=made.size,
            suffix=made.suffix,
            media_type=made.media_type,
            losses=canonical(made.losses) if made.losses else "[]",
        )
    return ids


FRESH: dict[str, Any] = {
    "attempts": 0,
    "tries": 0,
    "doubts": 0,
    "noticed": 0,
    "proof": "",
    "lease_owner": "",
    "lease_gen": 0,
    "lease_until": None,
    "remote_id": "",
    "last_code": "",
    "last_error": "",
}
ADD_DELIVERY = ADD["delivery"]


@dataclass(slots=True)
class Promise:
    """Makes the deliveries of one version."""

    tx: Tx
    batch: Batch
    report_id: str
    key: str
    version: int
    config_hash: str
    now: datetime
    actor: str = INTAKE
    hold: str = ""  # why everything starts held, or empty
    superseded: list[str] = field(default_factory=list)
    _made: set[str] = field(default_factory=set)

    def make(self, planned: PlannedDelivery, renditions: Mapping[str, str], number: int = 0) -> str:
        """Promise one delivery; returns its id, "" when this call promised the same already.

        ``number`` is not 0 for one that repeats an earlier promise on purpose.
        """
        idem = idem_key(
            self.key, self.version, planned.recipient, planned.channel, planned.address, number
        )
        if idem in self._made:
            return ""
        self._made.add(idem)
        id = new_id(self.tx, "D")
        state = self._first_state(planned)
        row = self._row(planned, id, idem, state) | {"number": number}
        self.batch.add("delivery", **row)
        for position, ref in enumerate(planned.renditions):
            self.batch.add(
                "delivery_rendition",
                delivery_id=id,
                position=position,
                rendition_id=renditions[ref],
            )
        self.tx.count(state, planned.channel, 1)
        self.tx.event(
            f"delivery:{id}",
            "promised",
            self.actor,
            self.now,
            new=state.value,
            detail={"report": self.report_id, "why": planned.why},
        )
        if self.version > 1:
            self._supersede(planned.recipient, id)
        if planned.failure is not None:
            self._tell(row, planned.failure)
        return id

    def _first_state(self, planned: PlannedDelivery) -> State:
        if planned.failure is not None:
            return State.FAILED
        return State.HELD if planned.hold or self.hold else State.WAITING

    def _row(self, planned: PlannedDelivery, id: str, idem: str, state: State) -> dict[str, Any]:
        failure = planned.failure
        return {
            "id": id,
            "report_id": self.report_id,
            "report_key": self.key,
            "version": self.version,
            "recipient": planned.recipient,
            "recipient_name": planned.recipient_name,
            "channel": planned.channel,
            "address": planned.address,
            "options": canonical(dict(planned.options)) if planned.options else "{}",
            "why": planned.why,
            "config_hash": self.config_hash,
            "idem_key": idem,
            "number": 0,
            "replaces": int(self.version > 1 and self._promised_before(planned.recipient)),
            "state": state.value,
            "priority": 0 if planned.urgent else 1,
            "created_at": self.batch.now,
            "due_at": stamp(planned.due_at),
            "expires_at": stamp_or_none(planned.expires_at),
            "held_at": self.batch.now if state is State.HELD else None,
            "hold_reason": (planned.hold or self.hold) if state is State.HELD else "",
            "moved_at": self.batch.now,
            **FRESH,
            "noticed": int(failure is not None),
            "last_code": failure.code if failure else "",
            "last_error": error_text(failure) if failure else "",
        }

    def _promised_before(self, recipient: str) -> bool:
        self.batch.write(self.tx)  # an earlier version may be in this very batch
        return (
            self.tx.one(_PROMISED, of_report=self.key, of_recipient=recipient, below=self.version)
            is not None
        )

    def _supersede(self, recipient: str, by: str) -> None:
        self.batch.write(self.tx)
        for row in self.tx.all(
            _UNSENT, of_report=self.key, of_recipient=recipient, below=self.version
        ):
            ended = supersede(self.tx, Moving._make(row), (by, self.version), self.now, self.actor)
            self.superseded.append(ended.id)

    def _tell(self, row: dict[str, Any], failure: Failure) -> None:
        about = Moving._make(row[name] for name in Moving._fields)
        notice = Notice(
            subject=about.subject,
            kind=NoticeKind.FAILED,
            cause=failure.message,
            words=failure.words,
            command=failure.cure or f"dlx queue show {about.id}",
        )
        open_for_delivery(self.tx, about, notice, self.now)


def promise(
    tx: Tx,
    report_id: str,
    *,
    renditions: Sequence[PlannedRendition],
    deliveries: Sequence[PlannedDelivery],
    places: Sequence[Place] = (),
    data_keys: Sequence[DataKey] = (),
    config_hash: str,
    actor: str,
    reason: str,
    now: datetime,
) -> list[str]:
    """Promise more deliveries of a version already registered (replay, fallback); their ids.

    One to a recipient who was promised this version before gets the next number and is marked
    « duplicata ». Raises NotFound; Refused without a reason, or when a newer version was promised
    to one of the recipients (P7).
    """
    known = tx.one(_VERSION, wanted=report_id)
    if known is None:
        raise NotFound(f"{report_id} : compte rendu inconnu")
    if not reason.strip():
        raise Refused(f"{report_id} : il faut un motif (--reason)")
    key, version = known
    for planned in deliveries:
        found = tx.one(_NEWER, of_report=key, of_recipient=planned.recipient, above=version)
        if found is not None:
            raise Refused(
                f"{report_id} : {planned.recipient} a déjà la version {found[0]} ; "
                "une version plus ancienne ne part plus"
            )
    add_contents(tx, data_keys, places)
    batch = Batch(stamp(now))
    before = int(tx.one(_RENDITIONS, of_report=report_id)[0])
    ids = add_renditions(batch, report_id, renditions, before)
    made = Promise(tx, batch, report_id, key, version, config_hash, now, actor)
    numbers = [next_number(tx, report_id, planned.recipient) for planned in deliveries]
    done = [
        made.make(planned, ids, number) for planned, number in zip(deliveries, numbers, strict=True)
    ]
    batch.write(tx)
    told = {"reason": reason, "deliveries": " ".join(id for id in done if id)}
    tx.event(f"report:{report_id}", "promised more", actor, now, detail=told)
    tx.passing("register")
    return [id for id in done if id]
