"""When a delivery is tried again, and when it is given up: pure rules, no clock, no chance.

The spread of ±20 % is derived from the delivery's id and the number of the try, so that deliveries
that failed together do not come back together, and the same try always gets the same answer.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta

JITTER = 0.2
URGENT_WAITS = tuple(timedelta(minutes=m) for m in (1, 2, 5, 10))  # the last one repeats
WARN_AFTER = timedelta(hours=4)
WARN_AFTER_URGENT = timedelta(minutes=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """The ``retry`` setting: ``{first: 1m, factor: 3, max: 4h, give_up: 72h}``.

    Attributes:
        first: wait after the first try. factor: each wait is that many times the one before.
        max: no wait is longer. give_up: after that the delivery fails with a notice.
    """

    first: timedelta = timedelta(minutes=1)
    factor: float = 3.0
    max: timedelta = timedelta(hours=4)
    give_up: timedelta = timedelta(hours=72)

    def wait_after(self, tries: int, *, urgent: bool = False) -> timedelta:
        """The wait after the ``tries``-th try (1 is the first), before any jitter."""
        if urgent:
            return URGENT_WAITS[min(max(tries, 1), len(URGENT_WAITS)) - 1]
        wait = self.first
        for _ in range(tries - 1):
            if wait >= self.max:
                break
            wait *= self.factor
        return min(wait, self.max)


def jitter_of(delivery: str, tries: int) -> float:
    """A number in [-1, 1] that depends only on the delivery's id and the number of the try."""
    digest = hashlib.sha256(f"{delivery}/{tries}".encode()).digest()
    return int.from_bytes(digest[:4]) / 0xFFFFFFFF * 2 - 1


def next_try(
    policy: RetryPolicy,
    *,
    attempts: int,
    created_at: datetime,
    now: datetime,
    expires_at: datetime | None = None,
    urgent: bool = False,
    jitter: float = 0.0,
) -> datetime | None:
    """When to try again after ``attempts`` tries, or None to give up.

    Arguments:
        attempts: how often it was tried since the back-off was (re)set, this time included.
        expires_at: end of its life, moved on by the ledger while it was held; None means
            ``created_at`` + ``give_up``.
        jitter: in [-1, 1], see ``jitter_of``; scales to ±20 %.

    A try that would fall after the end is made shortly before it, once; then it is given up.
    """
    end = expires_at or first_expiry(policy, created_at)
    if now >= end:
        return None
    wait = policy.wait_after(attempts, urgent=urgent)
    due = now + wait * (1 + JITTER * min(max(jitter, -1.0), 1.0))
    if due < end:
        return due
    # The ledger gives up at the end sharp: the last try comes just before.
    last = end - min(policy.first, wait) / 2
    return last if last > now else None


def first_expiry(policy: RetryPolicy, due_at: datetime) -> datetime:
    """When a delivery that may first leave at ``due_at`` is given up."""
    return due_at + policy.give_up


def warn_after(urgent: bool) -> timedelta:
    """How long a delivery may be tried before people are told: 4 h, urgent 30 min."""
    return WARN_AFTER_URGENT if urgent else WARN_AFTER
