"""What is counted of a subscription."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Stats:
    """Counts of one subscription since the start, for health, tests and metrics.

    What is acknowledged is `handled`, with what no handler saw: `skipped` was not selected, `expired` came too late.
    """

    received: int = 0
    handled: int = 0
    retried: int = 0
    dead: int = 0
    released: int = 0
    lost: int = 0
    skipped: int = 0
    expired: int = 0

    @property
    def settled(self) -> int:
        """What has come to an end, or one attempt of it."""
        return self.handled + self.retried + self.dead
