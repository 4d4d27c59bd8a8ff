"""Everything that only SQLite needs, in one place: opening, triggers, upserts, backup.

A PostgreSQL counterpart has to offer the same names: ``engine_of``, ``insert_new``, ``TRIGGERS``,
``DatabaseError``, ``changes``, ``backup``, ``checkpoint``. Nothing else in the ledger is SQLite's.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pysqlite3.dbapi2 as pysqlite3
from sqlalchemy import Engine, Table, create_engine, event
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.pool import NullPool, QueuePool
from sqlalchemy.sql.dml import Insert

from dlx.errors import StoreError

BUSY_MILLISECONDS = 10_000
_FIXED_BRANCHES: dict[tuple[int, ...], int] = {(3, 44): 6, (3, 50): 7}  # got the WAL-reset fix
_LEAST = (3, 51, 3)

# Append only, also for somebody who has the file open with another program.
TRIGGERS = tuple(
    f"CREATE TRIGGER event_no_{verb.lower()} BEFORE {verb} ON event "
    "BEGIN SELECT RAISE(ABORT, 'event is append only'); END"
    for verb in ("UPDATE", "DELETE")
)

DatabaseError: type[Exception] = pysqlite3.DatabaseError


def library_refusal(version: str) -> str:
    """Why this SQLite library must not be used, or "" (race in WAL reset before 3.51.3)."""
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:3])
    least = _FIXED_BRANCHES.get(numbers[:2])
    if numbers >= _LEAST or (least is not None and numbers[2] >= least):
        return ""
    return (
        f"SQLite {version} peut abîmer la base ; il faut 3.51.3 ou plus : pip install -U pysqlite3"
    )


def library_version() -> str:
    """The version of the SQLite library in use."""
    return str(pysqlite3.sqlite_version)


def _settings(connection: Any, *, writer: bool) -> None:
    connection.isolation_level = None  # BEGIN is ours, see `_begin`
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout={BUSY_MILLISECONDS}")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.execute("PRAGMA temp_store=MEMORY")
    cursor.execute("PRAGMA trusted_schema=OFF")
    if writer:
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute("PRAGMA secure_delete=ON")
    else:
        cursor.execute("PRAGMA query_only=ON")
    cursor.close()


def engine_of(path: Path, *, writer: bool, create: bool = False) -> Engine:
    """An engine on the file ``path``; a reader can never write, a writer begins IMMEDIATE.

    Raises StoreError when the library is too old.
    """
    refusal = library_refusal(library_version())
    if refusal:
        raise StoreError(refusal)
    mode = ("rwc" if create else "rw") if writer else "ro"
    address = f"file:{quote(str(path))}?mode={mode}"

    def connect() -> Any:
        return pysqlite3.connect(address, uri=True, check_same_thread=writer)

    engine = create_engine(
        "sqlite://",
        module=pysqlite3,
        creator=connect,
        poolclass=NullPool if writer else QueuePool,
    )
    event.listen(engine, "connect", lambda raw, _record: _settings(raw, writer=writer))
    begin = "BEGIN IMMEDIATE" if writer else "BEGIN"
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(begin))
    return engine


def is_full(error: BaseException) -> bool:
    """True when an error of the driver, or one that SQLAlchemy made of it, says « disk full »."""
    origin = getattr(error, "orig", None) or error
    return bool(getattr(origin, "sqlite_errorcode", None) == pysqlite3.SQLITE_FULL)


def insert_new(table: Table) -> Insert:
    """INSERT that leaves an existing row alone (ON CONFLICT DO NOTHING)."""
    return insert(table).on_conflict_do_nothing()


def changes(raw: Any) -> int:
    """Rows changed since the connection was opened: tells a real commit from an empty one."""
    return int(raw.total_changes)


def backup(path: Path, target: Path) -> None:
    """Copy the store, consistent, to a file that must not exist yet (VACUUM INTO)."""
    connection = pysqlite3.connect(f"file:{quote(str(path))}?mode=rw", uri=True)
    try:
        connection.execute("VACUUM INTO ?", (str(target),))
    except pysqlite3.Error as error:
        raise StoreError(f"copie de la base vers {target} : {error}") from error
    finally:
        connection.close()


def checkpoint(raw: Any) -> None:
    """Bring the write-ahead log home and empty it; only the writer does this."""
    raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
