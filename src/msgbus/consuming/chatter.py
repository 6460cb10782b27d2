"""Logs of one kind are limited: a thousand bad messages are no reason to lose sight of everything else."""

from __future__ import annotations

from collections.abc import Callable, Hashable

_BURST = 50
_PERIOD = 60.0


class Chatter:
    """Up to 50 lines of a kind in a minute; the next one after that says how many were left out.

    `now` gives seconds; a clock that jumps makes a line more or less.
    """

    def __init__(self, now: Callable[[], float], burst: int = _BURST, period: float = _PERIOD) -> None:
        self._now = now
        self._burst = burst
        self._period = period
        self._kinds: dict[Hashable, tuple[float, int]] = {}  # since when, how many

    def admit(self, kind: Hashable) -> str | None:
        """None: leave it out. Else what to put behind the line, "" where none was left out before it."""
        now = self._now()
        since, count = self._kinds.get(kind, (now, 0))
        if now - since < self._period:
            self._kinds[kind] = (since, count + 1)
            return "" if count < self._burst else None
        self._kinds[kind] = (now, 1)
        left_out = count - self._burst
        return f" ({left_out} more like it were not logged)" if left_out > 0 else ""
