"""What a request says, checked: reasons, times, selections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from dlx.delivery import State
from dlx.errors import Refused
from dlx.ledger import Selection

_DURATIONS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "j": 86400}


def moment_of(text: str, now: datetime) -> datetime:
    """``2h``, ``30d``, ``2026-03-09``, ``hier``, ``yesterday``. Raises Refused."""
    if text in ("hier", "yesterday"):
        return (now - timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    try:
        if text[:-1].isdecimal() and text[-1:] in _DURATIONS:
            return now - timedelta(seconds=int(text[:-1]) * _DURATIONS[text[-1]])
        when = datetime.fromisoformat(text)
    except (ValueError, OverflowError) as error:
        raise Refused(
            f"« {text} » n'est ni une durée (2h, 30d) ni une date (2026-03-09)"
        ) from error
    return when if when.tzinfo else when.replace(tzinfo=now.tzinfo)


def reason_of(arguments: Mapping[str, Any], *, needed: bool) -> str:
    """The reason given. Raises Refused when one is needed."""
    why = str(arguments.get("reason") or "").strip()
    if needed and not why:
        raise Refused("un motif est nécessaire : --reason « … »")
    return why


def selection_of(arguments: Mapping[str, Any], now: datetime) -> Selection:
    """The selection options of the command line as a Selection. Raises Refused."""

    def when(name: str) -> datetime | None:
        text = arguments.get(name)
        return moment_of(str(text), now) if text else None

    states: Sequence[str] = arguments.get("states") or ()
    try:
        chosen = frozenset(State(word) for word in states)
    except ValueError as error:
        words = ", ".join(s.value for s in State)
        raise Refused(f"état inconnu ; possibles : {words}") from error
    if not chosen and not arguments.get("every_state"):
        chosen = frozenset(
            {
                State.WAITING,
                State.HELD,
                State.CLAIMED,
                State.SENDING,
                State.IN_DOUBT,
                State.FAILED,
            }
        )
    return Selection(
        ids=tuple(str(i) for i in arguments.get("ids", ())),
        states=chosen,
        channel=str(arguments.get("channel") or ""),
        recipient=str(arguments.get("to") or ""),
        prescriber=str(arguments.get("prescriber") or ""),
        establishment=str(arguments.get("establishment") or ""),
        report=str(arguments.get("report") or ""),
        since=when("since"),
        until=when("until"),
        older_than=when("older_than"),
        error=str(arguments.get("error") or ""),
        limit=int(arguments.get("limit") or 200),
    )
