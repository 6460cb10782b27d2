"""One at a time per key: the deliveries of an ordered source, and the unconfirmed sends of a gated broker."""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Lanes(Generic[T]):
    """Lets the first item of each key through and parks the rest behind it, in order.

    A key costs memory only while one of its items is in hand.
    """

    __slots__ = ("_busy",)

    def __init__(self) -> None:
        self._busy: dict[str, deque[T] | None] = {}

    def enter(self, key: str, item: T) -> bool:
        """True: the lane was free and is now `item`'s. False: `item` waits behind others."""
        if key not in self._busy:
            self._busy[key] = None
            return True
        queue = self._busy[key]
        if queue is None:
            queue = self._busy[key] = deque()
        queue.append(item)
        return False

    def leave(self, key: str) -> T | None:
        """The item in hand is done: the next one of the lane, which now has it, or None and the lane is free."""
        queue = self._busy.get(key)
        if not queue:
            self._busy.pop(key, None)
            return None
        return queue.popleft()

    def clear(self, key: str) -> list[T]:
        """Free the lane; what was parked in it, in order."""
        queue = self._busy.pop(key, None)
        return list(queue or ())

    def clear_all(self) -> list[T]:
        """Free every lane; what was parked, lane by lane in order."""
        return [item for key in list(self._busy) for item in self.clear(key)]
