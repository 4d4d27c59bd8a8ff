"""A transaction as the rest of the ledger sees it, and statements compiled once.

Hot statements are Core objects compiled a single time and then given straight to the driver: Core
builds the SQL, so nothing here is SQLite's, but no Core object is made per row.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from operator import itemgetter
from typing import Any, NamedTuple, cast

from sqlalchemy import Connection, Executable, Row
from sqlalchemy.engine import Dialect
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.expression import ClauseElement

from dlx.delivery import State
from dlx.ledger.times import stamp


class _Compiled(NamedTuple):
    sql: str
    pick: Callable[[Mapping[str, Any]], Any] | None  # None: the driver takes names
    fixed: dict[str, Any]  # values that are part of the statement itself

    def parameters(self, given: Mapping[str, Any]) -> Any:
        values = {**self.fixed, **given} if self.fixed else given
        return values if self.pick is None else self.pick(values)


def _picking(names: Sequence[str]) -> Callable[[Mapping[str, Any]], Any]:
    """How the values of a statement with positions are taken from a mapping, as a tuple."""
    if not names:
        return lambda values: ()
    if len(names) == 1:
        return lambda values: (values[names[0]],)
    return itemgetter(*names)


class Prepared:
    """A statement compiled on first use; parameters are its ``bindparam`` or column names."""

    def __init__(self, statement: ClauseElement) -> None:
        self.statement = statement
        self._compiled: dict[str, _Compiled] = {}

    def compiled(self, dialect: Dialect) -> _Compiled:
        """Its SQL on ``dialect``, made once."""
        ready = self._compiled.get(dialect.name)
        if ready is None:
            result = cast(SQLCompiler, self.statement.compile(dialect=dialect))
            positions = getattr(result, "positiontup", None)
            ready = self._compiled[dialect.name] = _Compiled(
                str(result),
                None if positions is None else _picking(positions),
                {name: bind.value for name, bind in result.binds.items() if not bind.required},
            )
        return ready


class PendingEvent(NamedTuple):
    """An event of this transaction; its number and hash are given just before COMMIT."""

    at: int
    subject: str
    action: str
    actor: str
    old: str
    new: str
    detail: str


_ENCODER = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def canonical(value: Any) -> str:
    """JSON with sorted keys and no blanks: equal values, equal text."""
    return _ENCODER.encode(value)


@dataclass(slots=True)
class Tx:
    """A transaction, valid only inside the work function it is given to."""

    connection: Connection
    cursor: Any
    events: list[PendingEvent] = field(default_factory=list)
    counts: dict[tuple[str, str], int] = field(default_factory=dict)
    points: list[str] = field(default_factory=list)

    def _execute(self, statement: Prepared, parameters: Mapping[str, Any]) -> None:
        ready = statement.compiled(self.connection.dialect)
        self.cursor.execute(ready.sql, ready.parameters(parameters))

    def run(self, statement: Prepared, /, **parameters: Any) -> int:
        """Execute and return how many rows were changed."""
        self._execute(statement, parameters)
        return int(self.cursor.rowcount)

    def many(self, statement: Prepared, rows: Sequence[Mapping[str, Any]]) -> None:
        """Execute once per row."""
        if rows:
            ready = statement.compiled(self.connection.dialect)
            self.cursor.executemany(ready.sql, [ready.parameters(row) for row in rows])

    def one(self, statement: Prepared, /, **parameters: Any) -> Any:
        """The first row as a tuple, or None."""
        self._execute(statement, parameters)
        return self.cursor.fetchone()

    def all(self, statement: Prepared, /, **parameters: Any) -> list[Any]:
        """Every row as a tuple."""
        self._execute(statement, parameters)
        return list(self.cursor.fetchall())

    def rows(self, statement: Executable) -> Sequence[Row[Any]]:
        """Rows of a statement built for one occasion (lists for people)."""
        return self.connection.execute(statement).all()

    def event(
        self,
        subject: str,
        action: str,
        actor: str,
        now: datetime,
        *,
        old: str = "",
        new: str = "",
        detail: Mapping[str, str] | None = None,
    ) -> None:
        """Append to the journal."""
        told = canonical(detail) if detail else "{}"
        self.events.append(PendingEvent(stamp(now), subject, action, actor, old, new, told))

    def count(self, state: State, channel: str, difference: int) -> None:
        """Add to the exact counters."""
        key = (state.value, channel)
        self.counts[key] = self.counts.get(key, 0) + difference

    def passing(self, point: str) -> None:
        """Name the failpoint that this transaction's COMMIT is: ``register``, ``intent``…"""
        if point not in self.points:
            self.points.append(point)

    def part(self) -> Tx:
        """An empty one on the same connection: what one work of a batch adds."""
        return Tx(self.connection, self.cursor)

    def adopt(self, parts: Iterable[Tx]) -> None:
        """Take over what successful works added, in order."""
        for part in parts:
            self.events.extend(part.events)
            for (state, channel), difference in part.counts.items():
                key = (state, channel)
                self.counts[key] = self.counts.get(key, 0) + difference
            for point in part.points:
                self.passing(point)
