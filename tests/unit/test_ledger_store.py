"""The store: group commit, isolation of works, schema, journal, copies."""

import asyncio
import re
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pysqlite3.dbapi2 as sqlite
import pytest

from dlx import ledger as store
from dlx.errors import StoreError
from dlx.ledger import Ledger, Tx
from dlx.ledger.migrating import migrate, upgrade
from dlx.ledger.sqlite import library_refusal, library_version
from dlx.ledger.tables import SCHEMA, metadata

NOW = datetime(2026, 3, 9, 8, 0, tzinfo=UTC)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "dlx.sqlite3"


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    opened = Ledger.open(path, create=True)
    yield opened
    opened.close()


def touch(tx: Tx, name: str = "a") -> str:
    store.record(tx, subject=f"test:{name}", action="touched", actor="test", now=NOW)
    return name


def raw(path: Path) -> sqlite.Connection:
    return sqlite.connect(str(path))


def test_works_that_wait_together_share_one_commit(ledger: Ledger) -> None:
    opened, entered = threading.Event(), threading.Event()

    def slow(tx: Tx) -> None:
        entered.set()
        opened.wait(10)
        touch(tx, "slow")

    async def all_together() -> list[str]:
        first = asyncio.ensure_future(ledger.write(slow))
        await asyncio.to_thread(entered.wait, 10)
        others = [
            asyncio.ensure_future(ledger.write(lambda tx, n=n: touch(tx, str(n))))
            for n in range(100)
        ]
        await asyncio.sleep(0)
        opened.set()
        await first
        return await asyncio.gather(*others)

    before = ledger.commits
    assert asyncio.run(all_together()) == [str(n) for n in range(100)]
    assert ledger.commits - before == 2
    assert ledger.read(store.verify_chain) is None
    assert ledger.read(store.chain_head)[0] == 101


def test_a_work_that_fails_is_undone_alone_and_tells_its_caller(ledger: Ledger) -> None:
    opened, entered = threading.Event(), threading.Event()

    def slow(tx: Tx) -> None:
        entered.set()
        opened.wait(10)

    def bad(tx: Tx) -> None:
        touch(tx, "bad")
        store.accept_configuration(tx, "h", "text", "op", NOW)
        raise KeyError("mine")

    async def both() -> None:
        first = asyncio.ensure_future(ledger.write(slow))
        await asyncio.to_thread(entered.wait, 10)
        tasks = [asyncio.ensure_future(ledger.write(work)) for work in (touch, bad, touch)]
        await asyncio.sleep(0)
        opened.set()
        await first
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert results[0] == results[2] == "a"
        assert isinstance(results[1], KeyError)

    asyncio.run(both())
    assert [event.subject for event in ledger.read(store.events)] == ["test:a", "test:a"]
    assert ledger.read(store.configurations) == []
    assert ledger.read(store.verify_chain) is None


def test_an_empty_work_costs_no_commit(ledger: Ledger) -> None:
    before = ledger.commits
    assert ledger.write_now(lambda tx: 7) == 7
    assert ledger.commits == before


def test_a_store_that_cannot_write_says_so_and_goes_on_afterwards(ledger: Ledger) -> None:
    ledger.write_now(touch)

    def limit(tx: Tx) -> None:
        pages = tx.cursor.execute("PRAGMA page_count").fetchone()[0]
        tx.cursor.execute(f"PRAGMA max_page_count={pages}")

    def unlimited(tx: Tx) -> None:
        tx.cursor.execute("PRAGMA max_page_count=100000")

    ledger.write_now(limit)
    with pytest.raises(StoreError):
        ledger.write_now(lambda tx: store.accept_configuration(tx, "big", "x" * 10**6, "op", NOW))
    ledger.write_now(unlimited)
    ledger.write_now(touch)
    assert ledger.read(store.chain_head)[0] == 2
    assert ledger.read(store.verify_chain) is None


def test_a_reader_cannot_write(ledger: Ledger) -> None:
    with pytest.raises(StoreError):
        ledger.read(lambda tx: store.accept_configuration(tx, "h", "text", "op", NOW))


def test_a_closed_store_refuses_work(path: Path) -> None:
    ledger = Ledger.open(path, create=True)
    ledger.close()
    ledger.close()
    with pytest.raises(StoreError):
        ledger.write_now(touch)


def test_every_setting_of_the_database_is_the_durable_one(ledger: Ledger) -> None:
    def pragma(tx: Tx) -> dict[str, object]:
        names = "journal_mode synchronous foreign_keys busy_timeout temp_store secure_delete"
        return {
            name: tx.cursor.execute(f"PRAGMA {name}").fetchone()[0]
            for name in [*names.split(), "trusted_schema"]
        }

    assert ledger.write_now(pragma) == {
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
        "busy_timeout": 10_000,
        "temp_store": 2,
        "secure_delete": 1,
        "trusted_schema": 0,
    }


def test_the_journal_cannot_be_changed_even_by_another_program(ledger: Ledger, path: Path) -> None:
    ledger.write_now(touch)
    other = raw(path)
    for statement in ("UPDATE event SET actor = 'x'", "DELETE FROM event"):
        with pytest.raises(sqlite.IntegrityError, match="append only"):
            other.execute(statement)
    other.close()


@pytest.mark.parametrize("column", ["at", "subject", "action", "actor", "old", "new", "detail"])
def test_a_journal_rewritten_behind_our_back_is_found(
    ledger: Ledger, path: Path, column: str
) -> None:
    for n in range(5):
        ledger.write_now(lambda tx, n=n: touch(tx, str(n)))
    other = raw(path)
    other.execute("DROP TRIGGER event_no_update")
    value = "1" if column == "at" else '\'{"x":"y"}\''
    other.execute(f"UPDATE event SET {column} = {value} WHERE id = 3")
    other.commit()
    other.close()
    assert ledger.read(store.verify_chain) == 3


def test_a_removed_line_of_the_journal_is_found(ledger: Ledger, path: Path) -> None:
    for n in range(5):
        ledger.write_now(lambda tx, n=n: touch(tx, str(n)))
    other = raw(path)
    other.execute("DROP TRIGGER event_no_delete")
    other.execute("DELETE FROM event WHERE id = 2")
    other.commit()
    other.close()
    assert ledger.read(store.verify_chain) == 3


def test_an_absent_store_is_refused_unless_it_is_to_be_made(path: Path) -> None:
    with pytest.raises(StoreError, match="dlx run"):
        Ledger.open(path, create=False)


@pytest.mark.parametrize(("found", "cure"), [("0000", "dlx migrate"), ("9999", "plus récente")])
def test_another_schema_is_refused_with_what_to_type(path: Path, found: str, cure: str) -> None:
    Ledger.open(path, create=True).close()
    other = raw(path)
    other.execute("UPDATE alembic_version SET version_num = ?", (found,))
    other.commit()
    other.close()
    with pytest.raises(StoreError, match=cure):
        Ledger.open(path, create=True)


def test_a_foreign_file_is_refused(path: Path) -> None:
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(StoreError, match="n'est pas une base"):
        Ledger.open(path, create=True)


def test_a_creation_that_was_cut_short_starts_again(path: Path) -> None:
    other = raw(path)
    other.execute("PRAGMA journal_mode=WAL")
    other.close()
    Ledger.open(path, create=True).close()


def schema(path: Path) -> dict[str, str]:
    """Name to definition, with the constraints of a table in a fixed order."""
    other = raw(path)
    found = {
        name: ",".join(sorted(re.split(r",\s*(?![^(]*\))", " ".join((sql or "").split()))))
        for name, sql in other.execute("SELECT name, sql FROM sqlite_master")
        if name != "alembic_version"
    }
    other.close()
    return {name: re.sub(r"[\s)]+", " ", sql) for name, sql in found.items()}


def test_the_migrations_and_the_tables_make_the_same_schema(tmp_path: Path, path: Path) -> None:
    Ledger.open(path, create=True).close()
    upgrade(tmp_path / "steps.sqlite3", SCHEMA)
    assert schema(tmp_path / "steps.sqlite3") == schema(path)
    Ledger.open(tmp_path / "steps.sqlite3", create=False).close()


def test_migrate_copies_first_and_does_nothing_twice(path: Path) -> None:
    raw(path).execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)").close()
    copy = migrate(path)
    assert copy is not None
    assert copy.exists()
    assert migrate(path) is None
    Ledger.open(path, create=False).close()


def test_every_column_is_explained() -> None:
    silent = [f"{t.name}.{c.name}" for t in metadata.tables.values() for c in t.c if not c.comment]
    assert silent == []


@pytest.mark.parametrize(
    ("version", "accepted"),
    [
        ("3.51.3", True),
        ("3.53.4", True),
        ("4.0.0", True),
        ("3.51.2", False),
        ("3.50.7", True),
        ("3.50.6", False),
        ("3.44.6", True),
        ("3.44.5", False),
        ("3.40.1", False),
    ],
)
def test_libraries_with_the_wal_reset_bug_are_refused(version: str, accepted: bool) -> None:
    assert (library_refusal(version) == "") is accepted
    assert library_refusal(library_version()) == ""
