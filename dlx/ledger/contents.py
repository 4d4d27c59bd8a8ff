"""Rows: renditions, where the archive keeps their bytes, and the keys that seal them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import LargeBinary, bindparam, insert, literal_column, select, update

from dlx.errors import NotFound
from dlx.ledger import sqlite as backend
from dlx.ledger.tables import content, delivery_rendition
from dlx.ledger.tables import data_key as key_table
from dlx.ledger.tables import rendition as table
from dlx.ledger.times import moment_or_none, stamp
from dlx.ledger.tx import Prepared, Tx
from dlx.ledger.words import DataKey, Place, RenditionRow

_r = table.c
_ADD_KEY = Prepared(backend.insert_new(key_table))
_ADD_PLACE = Prepared(backend.insert_new(content))
_PLACE = Prepared(
    select(content)
    .join(key_table, key_table.c.id == content.c.data_key_id)
    .where(content.c.sha256 == bindparam("wanted"), key_table.c.destroyed_at.is_(None))
    .limit(literal_column("1"))
)
_OF_DELIVERY = Prepared(
    select(table)
    .join(delivery_rendition, delivery_rendition.c.rendition_id == _r.id)
    .where(delivery_rendition.c.delivery_id == bindparam("of_delivery"))
    .order_by(delivery_rendition.c.position)
)
_OF_REPORT = Prepared(select(table).where(_r.report_id == bindparam("of_report")).order_by(_r.id))
_ONE = Prepared(select(table).where(_r.id == bindparam("wanted")))
_COPY = Prepared(
    insert(delivery_rendition).from_select(
        ["delivery_id", "position", "rendition_id"],
        select(
            bindparam("to_delivery"),
            delivery_rendition.c.position,
            delivery_rendition.c.rendition_id,
        ).where(delivery_rendition.c.delivery_id == bindparam("of_delivery")),
    )
)
_KEY = Prepared(select(key_table).where(key_table.c.id == bindparam("wanted")))
_DESTROY = Prepared(
    update(key_table)
    .where(key_table.c.id == bindparam("wanted"), key_table.c.destroyed_at.is_(None))
    .values(destroyed_at=bindparam("at"), wrapped=bindparam("nothing", type_=LargeBinary))
)
_REWRAP = Prepared(
    update(key_table)
    .where(key_table.c.id == bindparam("wanted"), key_table.c.destroyed_at.is_(None))
    .values(wrapped=bindparam("sealed", type_=LargeBinary), kek_id=bindparam("kek"))
)


def add_contents(tx: Tx, keys: Sequence[DataKey], places: Sequence[Place]) -> None:
    """Remember where the archive put bytes; what is known already stays as it is."""
    tx.many(
        _ADD_KEY,
        [
            {"id": k.id, "wrapped": k.wrapped, "kek_id": k.kek_id, "destroyed_at": None}
            for k in keys
        ],
    )
    tx.many(
        _ADD_PLACE,
        [
            {
                "sha256": p.sha256,
                "data_key_id": p.data_key,
                "pack": p.pack,
                "start": p.offset,
                "length": p.length,
            }
            for p in places
        ],
    )


def place_of(tx: Tx, sha256: str) -> Place | None:
    """Where readable bytes of this hash are; None when unknown or every key of them destroyed."""
    row = tx.one(_PLACE, wanted=sha256)
    if row is None:
        return None
    return Place(sha256=row[0], data_key=row[1], pack=row[2], offset=row[3], length=row[4])


def data_key(tx: Tx, id: str) -> DataKey:
    """A content key, wrapped (empty once destroyed). Raises NotFound."""
    row = tx.one(_KEY, wanted=id)
    if row is None:
        raise NotFound(f"{id} : clé de contenu inconnue")
    return DataKey(
        id=row[0], wrapped=bytes(row[1]), kek_id=row[2], destroyed_at=moment_or_none(row[3])
    )


def rewrap_key(tx: Tx, id: str, wrapped: bytes, kek_id: str) -> None:
    """Put the same key under another key-encryption key. Raises NotFound when gone."""
    if not tx.run(_REWRAP, wanted=id, sealed=wrapped, kek=kek_id):
        raise NotFound(f"{id} : clé de contenu inconnue ou détruite")


def destroy_key(tx: Tx, id: str, actor: str, reason: str, now: datetime) -> None:
    """Forget a content key: what it sealed is unreadable from the COMMIT on. Repeatable."""
    data_key(tx, id)
    if tx.run(_DESTROY, wanted=id, at=stamp(now), nothing=b""):
        tx.event(f"key:{id}", "key destroyed", actor, now, detail={"reason": reason})


def _rendition(tx: Tx, row: Any) -> RenditionRow:
    id, report, format, options_hash, sha256, size, suffix, media_type, losses = row
    return RenditionRow(
        id=id,
        report=report,
        format=format,
        options_hash=options_hash,
        sha256=sha256,
        size=size,
        suffix=suffix,
        media_type=media_type,
        losses=tuple(json.loads(losses)) if losses != "[]" else (),
        place=place_of(tx, sha256),
    )


def renditions_of(tx: Tx, delivery: str) -> tuple[RenditionRow, ...]:
    """What a delivery carries, in the order of the formats."""
    return tuple([_rendition(tx, row) for row in tx.all(_OF_DELIVERY, of_delivery=delivery)])


def renditions_of_report(tx: Tx, report: str) -> tuple[RenditionRow, ...]:
    """Every rendition of one version."""
    return tuple([_rendition(tx, row) for row in tx.all(_OF_REPORT, of_report=report)])


def rendition(tx: Tx, id: str) -> RenditionRow:
    """One rendition by its full id. Raises NotFound."""
    row = tx.one(_ONE, wanted=id)
    if row is None:
        raise NotFound(f"{id} : rendu inconnu")
    return _rendition(tx, row)


def copy_renditions(tx: Tx, of_delivery: str, to_delivery: str) -> None:
    """Give a resend exactly what the first delivery carried."""
    tx.run(_COPY, of_delivery=of_delivery, to_delivery=to_delivery)
