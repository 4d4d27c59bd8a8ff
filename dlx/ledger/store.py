"""The open store: one writer thread with group commit, any number of readers.

The writer drains whatever waits into one transaction, each work in its own savepoint, commits once
and then wakes all waiters: while one commit is in its fsync the next batch gathers by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, select, text
from sqlalchemy.exc import SQLAlchemyError

from dlx.errors import StoreError
from dlx.failpoints import failpoint
from dlx.ledger import journal, sqlite
from dlx.ledger.tables import SCHEMA, metadata
from dlx.ledger.tx import Tx

T = TypeVar("T")

log = logging.getLogger("dlx.ledger")

BATCH = 512  # works in one commit; bounds how long the first one waits
FULL_RETRY_SECONDS = 1.0
SHORT_BYTES = 16 << 20


@dataclass(slots=True)
class _Job:
    """One work, and who waits for it: a thread (``loop`` None) or a task of an event loop."""

    work: Callable[[Tx], Any]
    future: Future[Any] | asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop | None
    result: Any = None
    error: BaseException | None = None


def _settle(jobs: list[_Job]) -> None:
    for job in jobs:
        if job.future.done():  # the task was cancelled; the work is committed all the same
            continue
        if job.error is None:
            job.future.set_result(job.result)
        else:
            job.future.set_exception(job.error)


def _wake(jobs: list[_Job]) -> None:
    """Tell everybody, with one call into each event loop."""
    by_loop: dict[asyncio.AbstractEventLoop | None, list[_Job]] = {}
    for job in jobs:
        by_loop.setdefault(job.loop, []).append(job)
    for loop, waiting in by_loop.items():
        if loop is None:
            _settle(waiting)
        elif not loop.is_closed():
            loop.call_soon_threadsafe(_settle, waiting)


class _Writer:
    """The writer thread. Everything but ``jobs``, ``commits`` and ``full`` belongs to the thread.

    A full disk is a pause (P10): the batch is tried again until there is room, so that no outcome
    that is known is ever thrown away; meanwhile nothing is claimed, for that is a write too.
    """

    def __init__(self, path: Path) -> None:
        self.jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self.commits = 0
        self.full = False
        self._folder = path.parent
        self._ending = threading.Event()
        self._engine = sqlite.engine_of(path, writer=True)
        self._head: journal.Head | None = None
        self._ready: Future[None] = Future()
        self._thread = threading.Thread(target=self._live, name="ledger-writer", daemon=True)

    def start(self) -> None:
        self._thread.start()
        self._ready.result()

    def stop(self) -> None:
        self._ending.set()
        self.jobs.put(None)
        self._thread.join()
        while not self.jobs.empty():  # somebody wrote while another thread was closing
            late = self.jobs.get()
            if late is not None:
                late.error = StoreError("la base de la station est fermée")
                _wake([late])
        self._engine.dispose()

    def _live(self) -> None:
        try:
            connection = self._engine.connect()
        except SQLAlchemyError as error:
            self._ready.set_exception(StoreError(f"base de la station : {error}"))
            return
        self._ready.set_result(None)
        with connection:
            while (batch := self._next_batch())[0]:
                self._run(connection, batch[0])
                _wake(batch[0])
                if batch[1]:
                    break
            with contextlib.suppress(sqlite.DatabaseError):  # a full disk: the log stays, as good
                sqlite.checkpoint(connection.connection.dbapi_connection)

    def _next_batch(self) -> tuple[list[_Job], bool]:
        """What waits now, at least one; and whether the end was asked for."""
        first = self.jobs.get()
        if first is None:
            return [], True
        batch = [first]
        while len(batch) < BATCH:
            try:
                job = self.jobs.get_nowait()
            except queue.Empty:
                break
            if job is None:
                return batch, True
            batch.append(job)
        return batch, False

    def _run(self, connection: Connection, jobs: list[_Job]) -> None:
        """One transaction for all; a store that fails gives every job a StoreError."""
        while True:
            try:
                self._transact(connection, jobs)
                self._tell_full(False)
                return
            except (SQLAlchemyError, sqlite.DatabaseError) as error:
                self._head = None
                if sqlite.is_full(error) and self._short_of_room():
                    self._tell_full(True)
                    if not self._ending.wait(FULL_RETRY_SECONDS):
                        continue
                refusal = StoreError(f"la base de la station a refusé d'écrire : {error}")
                for job in jobs:
                    job.error = refusal
                return

    def _short_of_room(self) -> bool:
        """True when it is the disk that is full, not a limit set on the store."""
        figures = os.statvfs(self._folder)
        return figures.f_bavail * figures.f_frsize < SHORT_BYTES

    def _tell_full(self, full: bool) -> None:
        if full != self.full:
            self.full = full
            log.error("event=disk_full" if full else "event=disk_full_over")

    def _transact(self, connection: Connection, jobs: list[_Job]) -> None:
        raw: Any = connection.connection.dbapi_connection
        before = sqlite.changes(raw)
        with connection.begin():
            whole = self._work(connection, raw.cursor(), jobs)
            head = journal.flush(whole, self._head or journal.head(whole))
            for point in whole.points:
                failpoint(f"{point}.before_commit")
        self._head = head
        if sqlite.changes(raw) != before:
            self.commits += 1
        for point in whole.points:
            failpoint(f"{point}.after_commit")

    def _work(self, connection: Connection, cursor: Any, jobs: list[_Job]) -> Tx:
        whole = Tx(connection, cursor)
        for job in jobs:
            part = whole.part()
            job.error = None  # of a try before the disk had room
            cursor.execute("SAVEPOINT work")
            try:
                job.result = job.work(part)
            except BaseException as error:  # belongs to the caller, whatever it is
                if sqlite.is_full(error) and self._short_of_room():
                    raise
                job.error = _as_store_error(error)
                cursor.execute("ROLLBACK TO work")  # raises when the whole transaction is gone
            else:
                whole.adopt([part])
            cursor.execute("RELEASE work")
        return whole


def _as_store_error(error: BaseException) -> BaseException:
    if isinstance(error, SQLAlchemyError | sqlite.DatabaseError):
        wrapped = StoreError(f"base de la station : {error}")
        wrapped.__cause__ = error
        return wrapped
    return error


class Ledger:
    """The open store. Made by ``Ledger.open``; usable from any thread until ``close``."""

    def __init__(self, path: Path) -> None:
        self._writer = _Writer(path)
        self._reader = sqlite.engine_of(path, writer=False)
        self._closed = False

    @classmethod
    def open(cls, path: Path, *, create: bool) -> Ledger:
        """Open the store; ``create`` makes a new one where there is none. Never migrates.

        Raises StoreError (with what to type) when it is absent, of a newer or older schema, or when
        the SQLite library is too old to be trusted.
        """
        if not path.exists() or _is_blank(path):
            if not create:
                raise StoreError(f"pas de base à {path} : dlx run en crée une")
            _create(path)
        _check_schema(path)
        ledger = cls(path)
        ledger._writer.start()
        return ledger

    async def write(self, work: Callable[[Tx], T]) -> T:
        """Run ``work`` in the next group commit; return what it returned, after COMMIT.

        What ``work`` raises is raised here and undoes only this work. Raises StoreError when the
        commit fails: nothing of it is known to be written. A cancelled wait does not undo it.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._send(_Job(work, future, loop))
        return await future

    def write_now(self, work: Callable[[Tx], T]) -> T:
        """The same, blocking; for commands and tests without an event loop."""
        future: Future[T] = Future()
        self._send(_Job(work, future, None))
        return future.result()

    def _send(self, job: _Job) -> None:
        if self._closed:
            raise StoreError("la base de la station est fermée")
        self._writer.jobs.put(job)

    def read(self, work: Callable[[Tx], T]) -> T:
        """Run ``work`` on a read-only connection, in one snapshot; from any thread."""
        try:
            with self._reader.connect() as connection, connection.begin():
                raw: Any = connection.connection.dbapi_connection
                return work(Tx(connection, raw.cursor()))
        except (SQLAlchemyError, sqlite.DatabaseError) as error:
            raise StoreError(f"lecture de la base de la station : {error}") from error

    @property
    def commits(self) -> int:
        """How many transactions that changed something were committed: one fsync each."""
        return self._writer.commits

    @property
    def full(self) -> bool:
        """True while a commit waits for room on the disk; reading goes on."""
        return self._writer.full

    def close(self) -> None:
        """Finish what is queued, bring the log home, close. Harmless when repeated."""
        if not self._closed:
            self._closed = True
            self._writer.stop()
            self._reader.dispose()


def _create(path: Path) -> None:
    engine = sqlite.engine_of(path, writer=True, create=True)
    try:
        with engine.begin() as connection:
            metadata.create_all(connection)
            for trigger in sqlite.TRIGGERS:
                connection.exec_driver_sql(trigger)
            connection.exec_driver_sql(
                "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL, "
                "CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))"
            )
            connection.execute(
                text("INSERT INTO alembic_version (version_num) VALUES (:v)"), {"v": SCHEMA}
            )
    except SQLAlchemyError as error:
        raise StoreError(f"création de la base {path} : {error}") from error
    finally:
        engine.dispose()


def _is_blank(path: Path) -> bool:
    """True for a file without any table: a creation that was cut short."""
    engine = sqlite.engine_of(path, writer=False)
    try:
        with engine.connect() as connection:
            return not connection.execute(text("SELECT name FROM sqlite_master")).all()
    except SQLAlchemyError as error:
        raise StoreError(f"{path} n'est pas une base de DLX : {error}") from error
    finally:
        engine.dispose()


def schema_of(path: Path) -> str:
    """The revision of a store, "" when it has none. Raises StoreError: not a store of ours."""
    engine = sqlite.engine_of(path, writer=False)
    try:
        with engine.connect() as connection:
            rows = connection.execute(select(text("version_num FROM alembic_version"))).all()
    except SQLAlchemyError as error:
        raise StoreError(f"{path} n'est pas une base de DLX : {error}") from error
    finally:
        engine.dispose()
    return str(rows[0][0]) if rows else ""


def _check_schema(path: Path) -> None:
    found = schema_of(path)
    if found == SCHEMA:
        return
    if found > SCHEMA:
        raise StoreError(
            f"la base est d'une version plus récente ({found}) que ce programme ({SCHEMA}) : "
            "réinstallez la version qui l'a écrite"
        )
    raise StoreError(
        f"la base est d'une version plus ancienne ({found} au lieu de {SCHEMA}) : "
        "arrêtez la station, puis : dlx migrate"
    )
