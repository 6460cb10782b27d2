"""What is counted of a subscription."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from msgbus.message import Delivery


@dataclass(slots=True)
class Stats:
    """Counts of one subscription since the start, for health, tests and metrics.

    What is acknowledged is `handled`, with what no handler saw: `skipped` was not selected, `expired` came too late.
    `on_skip`: told of what is skipped, for tests.
    """

    received: int = 0
    handled: int = 0
    retried: int = 0
    dead: int = 0
    released: int = 0
    lost: int = 0
    skipped: int = 0
    expired: int = 0
    on_skip: Callable[[Delivery], None] | None = field(default=None, repr=False, compare=False)

    def skip(self, delivery: Delivery) -> None:
        """No handler is to see it."""
        self.skipped += 1
        if self.on_skip is not None:
            self.on_skip(delivery)

    @property
    def settled(self) -> int:
        """What has come to an end, or one attempt of it."""
        return self.handled + self.retried + self.dead
