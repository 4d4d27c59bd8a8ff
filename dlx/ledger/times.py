"""Times as the ledger stores them: whole microseconds since 1970, UTC."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TICK = timedelta(microseconds=1)


def stamp(when: datetime) -> int:
    """An aware time as stored. Raises TypeError for a naive one."""
    since = when - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def stamp_or_none(when: datetime | None) -> int | None:
    """The same, None for None."""
    return None if when is None else stamp(when)


def moment(value: int) -> datetime:
    """The inverse of ``stamp``."""
    return _EPOCH + value * _TICK


def moment_or_none(value: int | None) -> datetime | None:
    """The inverse of ``stamp_or_none``."""
    return None if value is None else moment(value)
