"""How a subscription is doing, as health tells it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from msgbus.errors import shown
from msgbus.message import Source

State = Literal["opening", "running", "waiting", "broken", "stopped"]

_TROUBLES = 3  # failures in a row that no longer pass for a hiccup


@dataclass(frozen=True, slots=True)
class SubscriptionHealth:
    """One subscription: `running`, or `waiting` or `broken` `since` (Unix time), with the `reason`.

    "waiting": its receiver ended and another one is being opened, or its breaker is open. "broken": that was tried
    several times in vain, or what went wrong is nothing that passes by itself; it is still tried again.
    `failures`: how often in a row opening it failed, or ended at once.
    """

    source: Source
    state: State
    since: float
    reason: str = ""
    failures: int = 0

    def __str__(self) -> str:
        return f"{self.source}: {self.state}" + (f": {self.reason}" if self.reason else "")


class Life:
    """Keeps the SubscriptionHealth of one subscription. `time` gives Unix seconds."""

    def __init__(self, source: Source, time: Callable[[], float]) -> None:
        self._source = source
        self._time = time
        self.failures = 0
        self.now = SubscriptionHealth(source, "opening", time())

    def runs(self) -> None:
        """Its receiver is open."""
        self._become("running")

    def steady(self) -> None:
        """It works: what was before is over."""
        self.failures = 0

    def recovers(self) -> None:
        """Its receiver failed for a while, and does no more."""
        self.steady()
        self.runs()

    def failed(self, error: BaseException, *, passing: bool) -> None:
        """Its receiver ended with `error`, or could not be opened. `passing`: such errors go away by themselves."""
        self.failures += 1
        self._become("waiting" if passing and self.failures < _TROUBLES else "broken", shown(error))

    def stops(self) -> None:
        """Nobody wants it any more."""
        self._become("stopped")

    def _become(self, state: State, reason: str = "") -> None:
        since = self.now.since if state == self.now.state else self._time()
        self.now = SubscriptionHealth(self._source, state, since, reason, self.failures)
