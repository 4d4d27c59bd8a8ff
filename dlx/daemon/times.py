"""Times as operators write them."""

from __future__ import annotations

from datetime import datetime, timedelta

from dlx.errors import Refused

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
