"""Attempts on FIFO queues, where the count of receives is none: a follower is received whenever its head fails."""

from __future__ import annotations

_MOST = 100_000  # messages of one process that wait for a retry in the queue; the oldest are forgotten


class Attempts:
    """Which start of its handler a message will be, of those that this process gave back.

    A message that another process gave back begins at 1 again: it may get more attempts than asked for, never
    fewer. `max_deliveries` bounds them.
    """

    def __init__(self, most: int = _MOST) -> None:
        self._next: dict[str, int] = {}
        self._most = most

    def of(self, message_id: str) -> int:
        """The attempt of a message that is received now."""
        return self._next.get(message_id, 1)

    def remember(self, message_id: str, attempt: int) -> None:
        """It goes back, and will be at `attempt` when it comes again."""
        self._next.pop(message_id, None)
        if attempt > 1:
            self._next[message_id] = attempt
            if len(self._next) > self._most:
                del self._next[next(iter(self._next))]

    def forget(self, message_id: str) -> None:
        """It is done."""
        self._next.pop(message_id, None)
