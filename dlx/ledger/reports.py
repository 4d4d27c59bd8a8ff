"""Rows: files taken in, and the versions of reports they bring, with all that they promise."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, literal_column, select, update

from dlx.delivery import Notice, NoticeKind
from dlx.errors import NotFound
from dlx.ledger.contents import add_contents
from dlx.ledger.ids import new_id
from dlx.ledger.notices import open_notice
from dlx.ledger.promises import ADD, INTAKE, Batch, Promise, add_renditions, report_key
from dlx.ledger.tables import intake, report
from dlx.ledger.times import moment, stamp
from dlx.ledger.tx import Prepared, Tx
from dlx.ledger.words import (
    IntakeRow,
    LatestVersion,
    Registered,
    Registration,
    Rejection,
    ReportEntry,
)
from dlx.report import ReportStatus

_BY_CONTENT = Prepared(
    select(intake).where(
        intake.c.sha256 == bindparam("wanted"),
        intake.c.state.in_([literal_column("'registered'"), literal_column("'archived'")]),
    )
)
_BY_CLAIM = Prepared(select(intake.c.id).where(intake.c.claim_id == bindparam("wanted")))
_REPORTS_OF = Prepared(
    select(report.c.id).where(report.c.intake_id == bindparam("of_intake")).order_by(report.c.id)
)
_LAST = Prepared(
    select(
        report.c.id,
        report.c.version,
        report.c.status,
        report.c.patient_hash,
        report.c.content_key,
        report.c.message_id,
    )
    .where(report.c.report_key == bindparam("wanted"))
    .order_by(report.c.version.desc())
    .limit(literal_column("1"))
)
_ARCHIVED = Prepared(
    update(intake)
    .where(intake.c.sha256 == bindparam("wanted"), intake.c.state == literal_column("'registered'"))
    .values(state="archived")
)


def register(tx: Tx, registration: Registration, now: datetime) -> Registered:
    """One file and all it promises; see ``register_many``."""
    return register_many(tx, [registration], now)[0]


def register_many(tx: Tx, registrations: Sequence[Registration], now: datetime) -> list[Registered]:
    """Write files, versions, renditions, deliveries, notices and events: all or none.

    Repeatable: a file whose sha256 is registered or archived adds nothing (``existed``). A
    version's number is the last one + 1. Waiting and held deliveries of older versions to the same
    recipients become superseded, whatever their channel (P7). The order given is kept.
    """
    batch = Batch(stamp(now))
    done = [_register(tx, batch, registration, now) for registration in registrations]
    batch.write(tx)
    tx.passing("register")
    return done


def _register(tx: Tx, batch: Batch, file: Registration, now: datetime) -> Registered:
    known = batch.contents.get(file.sha256) or _registered(tx, file.sha256)
    if known is not None:
        tx.event(
            f"intake:{known.intake}", "seen again", INTAKE, now, detail={"claim": file.claim_id}
        )
        return replace(known, existed=True, deliveries=(), superseded=())
    id = new_id(tx, "I")
    add_contents(tx, file.data_keys, file.places)
    batch.add(**_intake(file, id, "registered", now))
    tx.event(f"intake:{id}", "registered", INTAKE, now, detail={"origin": file.origin})
    made = [_entry(tx, batch, file, id, entry, now) for entry in file.reports]
    for notice in file.notices:
        open_notice(tx, _about(notice, f"intake:{id}"), now)
    result = Registered(
        intake=id,
        reports=tuple(report for report, _, _ in made),
        deliveries=tuple(d for _, deliveries, _ in made for d in deliveries),
        superseded=tuple(s for _, _, superseded in made for s in superseded),
        existed=False,
    )
    batch.contents[file.sha256] = result
    return result


def _registered(tx: Tx, sha256: str) -> Registered | None:
    row = tx.one(_BY_CONTENT, wanted=sha256)
    if row is None:
        return None
    reports = tuple(r[0] for r in tx.all(_REPORTS_OF, of_intake=row[0]))
    return Registered(intake=row[0], reports=reports, deliveries=(), superseded=(), existed=True)


def _intake(file: Registration, id: str, state: str, now: datetime) -> dict[str, Any]:
    return {
        "table": "intake",
        "id": id,
        "claim_id": file.claim_id,
        "original_name": file.original_name,
        "sha256": file.sha256,
        "size": file.size,
        "pickup": file.pickup,
        "state": state,
        "code": "",
        "reason": "",
        "origin": file.origin,
        "config_hash": file.config_hash,
        "first_seen": stamp(file.first_seen),
        "registered_at": stamp(now),
    }


def _about(notice: Notice, subject: str) -> Notice:
    return notice if notice.subject else replace(notice, subject=subject)


def _last(tx: Tx, batch: Batch, key: str) -> LatestVersion | None:
    known = batch.versions.get(key)
    if known is None:
        row = tx.one(_LAST, wanted=key)
        known = None if row is None else _latest(row)
    return known


def _latest(row: Any) -> LatestVersion:
    id, version, status, patient, content, message = row
    return LatestVersion(
        report=id,
        version=version,
        status=ReportStatus(status),
        patient_hash=patient,
        content_key=content,
        message_id=message,
    )


_Made = tuple[str, list[str], list[str]]  # report id, deliveries made, deliveries superseded


def _entry(
    tx: Tx, batch: Batch, file: Registration, intake_id: str, entry: ReportEntry, now: datetime
) -> _Made:
    key = report_key(entry.issuer, entry.number)
    last = _last(tx, batch, key)
    if entry.unchanged and last is not None:
        tx.event(f"report:{last.report}", "repeated", INTAKE, now, detail={"intake": intake_id})
        return last.report, [], []
    id = new_id(tx, "R")
    version = last.version + 1 if last else 1
    batch.versions[key] = LatestVersion(
        report=id,
        version=version,
        status=entry.status,
        patient_hash=entry.patient_hash,
        content_key=entry.content_key,
        message_id=entry.message_id,
    )
    batch.add(
        "report",
        id=id,
        intake_id=intake_id,
        issuer=entry.issuer,
        number=entry.number,
        report_key=key,
        version=version,
        supersedes=last.report if last else "",
        status=entry.status.value,
        facts=entry.facts,
        withheld=entry.withheld,
        prescriber=entry.prescriber,
        establishment=entry.establishment,
        patient_hash=entry.patient_hash,
        content_key=entry.content_key,
        message_id=entry.message_id,
        config_hash=file.config_hash,
        registered_at=batch.now,
    )
    told = {"version": str(version), "status": entry.status.value}
    tx.event(f"report:{id}", "registered", INTAKE, now, detail=told)
    renditions = add_renditions(batch, id, entry.renditions)
    hold = "retrouvé après une restauration" if file.origin else ""
    promise = Promise(tx, batch, id, key, version, file.config_hash, now, hold=hold)
    made = [promise.make(planned, renditions) for planned in entry.deliveries]
    for notice in entry.notices:
        open_notice(tx, _about(notice, f"report:{id}"), now)
    return id, [d for d in made if d], promise.superseded


def reject(tx: Tx, rejection: Rejection, now: datetime) -> str:
    """A file that could not be taken: intake row ``rejected`` and notice REJECTED, together.

    Returns its I… id. Repeatable by claim id. Its ``.why`` file is the spool's.
    """
    known = tx.one(_BY_CLAIM, wanted=rejection.claim_id)
    if known is not None:
        return str(known[0])
    id = new_id(tx, "I")
    file = Registration(
        claim_id=rejection.claim_id,
        original_name=rejection.original_name,
        sha256=rejection.sha256,
        size=rejection.size,
        pickup=rejection.pickup,
        first_seen=rejection.first_seen,
    )
    row = _intake(file, id, "rejected", now) | {"code": rejection.code, "reason": rejection.message}
    tx.run(ADD[row.pop("table")], **row)
    tx.event(f"intake:{id}", "rejected", INTAKE, now, detail={"code": rejection.code})
    notice = Notice(
        subject=f"intake:{id}",
        kind=NoticeKind.REJECTED,
        cause=f"{rejection.code} : {rejection.message}",
        command=f"dlx reject show {rejection.claim_id}",
    )
    open_notice(tx, notice, now)
    tx.passing("register")
    return id


def archived(tx: Tx, sha256s: Iterable[str], now: datetime) -> None:
    """registered → archived: the claimed file is gone, the original is in the archive."""
    tx.many(_ARCHIVED, [{"wanted": sha256} for sha256 in sha256s])


def known(tx: Tx, sha256s: Iterable[str]) -> dict[str, IntakeRow]:
    """Registered or archived files by the hash of the original."""
    rows = (tx.one(_BY_CONTENT, wanted=sha256) for sha256 in sha256s)
    return {row[3]: intake_row(row) for row in rows if row is not None}


def intake_row(row: Any) -> IntakeRow:
    """A row of the table as a record."""
    id, claim, name, sha256, size, pickup, state, code, reason, origin, _, first, at = row
    return IntakeRow(
        id=id,
        claim_id=claim,
        original_name=name,
        sha256=sha256,
        size=size,
        pickup=pickup,
        state=state,
        code=code,
        reason=reason,
        first_seen=moment(first),
        registered_at=moment(at),
        origin=origin,
    )


def latest(tx: Tx, keys: Iterable[tuple[str, str]]) -> dict[tuple[str, str], LatestVersion]:
    """The newest version by (issuer, number); a report never seen is absent."""
    found: dict[tuple[str, str], LatestVersion] = {}
    for issuer, number in keys:
        row = tx.one(_LAST, wanted=report_key(issuer, number))
        if row is not None:
            found[issuer, number] = _latest(row)
    return found


def intake_of_claim(tx: Tx, claim: str) -> str:
    """The subject (``intake:I…``) of the file that was claimed under ``claim``. NotFound."""
    row = tx.one(_BY_CLAIM, wanted=claim)
    if row is None:
        raise NotFound(f"aucun fichier pris sous {claim}")
    return f"intake:{row[0]}"
