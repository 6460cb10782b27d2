"""Whether every process of a fault run got its turn in time: a lease that a busy machine lost is nobody's fault."""

from __future__ import annotations

import asyncio
import os
import time

_EVERY = 0.1  # seconds between two beats


class Pulse:
    """Beats in the process of the test, through whose proxy all calls go, and hears of the workers' beats.

    A beat counts as missed if it came later than a quarter of a lease: a heartbeat has a third of it, there and back.
    """

    def __init__(self, lease: float) -> None:
        self._lease = lease
        self._missed: list[tuple[float, float]] = []

    def late(self, at: float, seconds: float) -> None:
        """A beat came so many seconds late, at this Unix time."""
        if seconds > self._lease / 4:
            self._missed.append((at - seconds, at))

    def missed(self, began: float, ended: float) -> bool:
        """Whether one was missed between these Unix times, or within a lease before."""
        return any(first <= ended and last >= began - self._lease for first, last in self._missed)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self.late(time.time(), await _beat())


async def _beat() -> float:
    """How many seconds late it came."""
    due = time.monotonic() + _EVERY
    await asyncio.sleep(_EVERY)
    return time.monotonic() - due


async def say_when_late() -> None:
    """In a worker, until cancelled: a line `late -1 SECONDS 0 UNIX-TIME` for a beat that came late."""
    while True:
        if (seconds := await _beat()) > _EVERY:
            os.write(1, f"late -1 {seconds} 0 {time.time()}\n".encode())
