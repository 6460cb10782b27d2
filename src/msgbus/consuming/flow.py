"""How much a subscription may take: an adaptive window, a rate, a breaker. Pure state; time is passed in."""

from __future__ import annotations

import logging

from msgbus.options import Breaker

log = logging.getLogger("msgbus.flow")

_LOOK_EVERY = 0.25  # seconds between two estimates of the handling rate
_WORK_AHEAD = 1.0  # seconds of handling to have in hand


class Window:
    """How many deliveries to hold: enough for a second of handling, so that slow handlers don't hoard messages.

    Between `concurrency` and `prefetch`; grows at most twofold and shrinks by at most a quarter an estimate.
    """

    __slots__ = ("_concurrency", "_count", "_prefetch", "_since", "size")

    def __init__(self, concurrency: int, prefetch: int) -> None:
        self._concurrency = min(concurrency, prefetch)
        self._prefetch = prefetch
        self._count = 0
        self._since = 0.0
        self.size = min(2 * concurrency, prefetch)

    def handled(self, count: int, now: float) -> None:
        """`count` more deliveries are done."""
        self._count += count
        elapsed = now - self._since
        if elapsed < _LOOK_EVERY:
            return
        wanted = self._concurrency + self._count / elapsed * _WORK_AHEAD
        self.size = int(min(max(wanted, 0.75 * self.size, self._concurrency), 2 * self.size, self._prefetch))
        self._count = 0
        self._since = now


class Rate:
    """A token bucket of one second's worth of deliveries."""

    __slots__ = ("_at", "_per_second", "_tokens")

    def __init__(self, per_second: float) -> None:
        self._per_second = per_second
        self._tokens = max(1.0, per_second)
        self._at: float | None = None

    def available(self, now: float) -> int:
        """Whole tokens there are now."""
        if self._at is not None:
            self._tokens = min(max(1.0, self._per_second), self._tokens + (now - self._at) * self._per_second)
        self._at = now
        return int(self._tokens)

    def take(self, count: int) -> None:
        """Use `count` tokens."""
        self._tokens -= count

    def wait(self) -> float:
        """Seconds until there is a token."""
        return max(0.0, (1.0 - self._tokens) / self._per_second)


class BreakerState:
    """Closed (all goes through), open (nothing is taken until `opened + pause`) or half open (one at a time)."""

    __slots__ = ("_breaker", "_failures", "_paused_until", "_what")

    def __init__(self, breaker: Breaker, what: str) -> None:
        self._breaker = breaker
        self._what = what
        self._failures = 0
        self._paused_until: float | None = None

    @property
    def has_failures(self) -> bool:
        """Whether a success would change anything."""
        return self._failures > 0

    @property
    def is_closed(self) -> bool:
        return self._paused_until is None

    def wait(self, now: float) -> float:
        """Seconds until the next message may be tried; 0 where it may be now."""
        return max(0.0, self._paused_until - now) if self._paused_until is not None else 0.0

    def failed(self, error: Exception, now: float) -> None:
        """A handler raised `error`."""
        if not isinstance(error, self._breaker.on):
            return
        self._failures += 1
        if self._failures >= self._breaker.failures:
            if self.is_closed:
                log.error("%s: paused after %d failures in a row: %r", self._what, self._failures, error)
            self._paused_until = now + self._breaker.pause

    def succeeded(self) -> None:
        """A handler succeeded."""
        if not self.is_closed:
            log.warning("%s: works again, going on", self._what)
        self._failures = 0
        self._paused_until = None
