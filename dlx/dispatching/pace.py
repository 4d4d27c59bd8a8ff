"""When a channel may send: pauses after failures of the whole, rate, opening hours. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from datetime import datetime, time, timedelta

from dlx.settings.model import Rate, Window

FIRST_PAUSE_SECONDS = 5.0
MAX_PAUSE_SECONDS = 300.0


def within(window: Window, at: time) -> bool:
    """True when ``at`` (laboratory's zone) is inside; a window may pass midnight."""
    if window.start == window.end:
        return True
    if window.start < window.end:
        return window.start <= at < window.end
    return at >= window.start or at < window.end


@dataclass(kw_only=True)
class Pace:
    """The state of a channel as a whole.

    Attributes:
        first_pause: seconds of the first pause after a failure; doubled up to ``max_pause``.
        down_since: first failure of the present series, or None.
    """

    first_pause: float = FIRST_PAUSE_SECONDS
    max_pause: float = MAX_PAUSE_SECONDS
    rate: Rate | None = None
    down_since: datetime | None = None
    paused_until: datetime | None = None
    _pause: float = 0.0
    _starts: deque[datetime] = field(default_factory=deque)

    def failed(self, now: datetime, *, for_good: bool) -> datetime:
        """The channel failed: pause it. ``for_good``: it will not mend by itself. Returns when."""
        self.down_since = self.down_since or now
        doubled = self._pause * 2 or self.first_pause
        self._pause = self.max_pause if for_good else min(doubled, self.max_pause)
        self.paused_until = now + timedelta(seconds=self._pause)
        return self.paused_until

    def succeeded(self) -> bool:
        """The channel works. True when it was down."""
        was_down = self.down_since is not None
        self.down_since = self.paused_until = None
        self._pause = 0.0
        return was_down

    def unpause(self) -> None:
        """Try again now (an operator asked)."""
        self.paused_until = None

    def started(self, now: datetime, count: int) -> None:
        """``count`` deliveries leave now."""
        if self.rate is not None:
            self._starts.extend([now] * count)

    def allowed(self, now: datetime, concurrency: int, running: int) -> int:
        """How many more may start now."""
        if self.paused_until is not None and now < self.paused_until:
            return 0
        # a channel that was down is tried with one delivery, not with a crowd
        free = (1 if self.down_since is not None else concurrency) - running
        if self.rate is not None:
            horizon = now - timedelta(seconds=self.rate.seconds)
            while self._starts and self._starts[0] <= horizon:
                self._starts.popleft()
            free = min(free, self.rate.count - len(self._starts))
        return max(free, 0)
