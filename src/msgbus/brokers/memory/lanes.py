"""The keys of an ordered queue: each is locked to the receiver that has messages of it in flight, as SQS FIFO does."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from msgbus.brokers.memory.stored import Stored, by_sequence


class Lanes:
    """Messages by key, in the order in which they were sent. `free`: the keys that may be taken from."""

    def __init__(self) -> None:
        self.free: dict[str, None] = {}
        self._lanes: dict[str, deque[Stored]] = {}
        self._locked: dict[str, int] = {}
        self._waiting_heads: set[Stored] = set()  # retried, and their lanes wait for them

    def __iter__(self) -> Iterator[Stored]:
        return (stored for lane in self._lanes.values() for stored in lane)

    def add(self, stored: Stored) -> None:
        """Where it belongs: what comes back goes before what was sent after it."""
        lane = stored.lane or ""
        queue = self._lanes.get(lane)
        if queue is None:
            queue = self._lanes[lane] = deque()
        if queue and stored.sequence < queue[-1].sequence:
            self._lanes[lane] = deque(sorted((stored, *queue), key=by_sequence))
        else:
            queue.append(stored)
        if lane not in self._locked:
            self.free[lane] = None

    def take(self, limit: int, taken: list[Stored]) -> None:
        """Fill `taken` up to `limit` from free keys, which are locked then."""
        while self.free and len(taken) < limit:
            lane = next(iter(self.free))
            queue = self._lanes[lane]
            count = min(len(queue), limit - len(taken))
            taken.extend(queue.popleft() for _ in range(count))
            self._locked[lane] = count
            del self.free[lane]
            if not queue:
                del self._lanes[lane]

    def wait_for(self, stored: Stored) -> None:
        """A message in flight is delayed as the head of its key: the whole lane waits for it."""
        self._locked[stored.lane or ""] += 1
        self._waiting_heads.add(stored)

    def arrived(self, stored: Stored) -> None:
        """A head that was waited for is over its delay, or gone."""
        if stored in self._waiting_heads:
            self._waiting_heads.discard(stored)
            self.unlock(stored.lane or "")

    def unlock(self, lane: str) -> bool:
        """One message less that holds its key; whether there is something to take from it now."""
        left = self._locked.get(lane, 0) - 1
        if left > 0:
            self._locked[lane] = left
            return False
        self._locked.pop(lane, None)
        if lane not in self._lanes:
            return False
        self.free[lane] = None
        return True

    def clear(self) -> None:
        """Forget what waits; keys stay locked by what is in flight."""
        self._lanes.clear()
        self.free.clear()
