"""How many records of each key are in hand, so that a failing one does not fill the room of all."""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class KeyShares(Generic[T]):
    """`share`: how many of one key may be in hand; further ones are parked until one of them is settled."""

    def __init__(self, share: int) -> None:
        self._share = share
        self._in_hand: dict[str, int] = {}
        self._parked: dict[str, deque[T]] = {}

    def enter(self, key: str, item: T) -> bool:
        """Whether it may be handed out; else it is parked."""
        if self._in_hand.get(key, 0) < self._share:
            self.count(key)
            return True
        if key not in self._parked:
            self._parked[key] = deque()
        self._parked[key].append(item)
        return False

    def count(self, key: str) -> None:
        """One more is in hand, whatever the share."""
        self._in_hand[key] = self._in_hand.get(key, 0) + 1

    def leave(self, key: str) -> T | None:
        """One is settled; the parked one that takes its place."""
        if parked := self._parked.get(key):
            following = parked.popleft()
            if not parked:
                del self._parked[key]
            return following
        if self._in_hand[key] > 1:
            self._in_hand[key] -= 1
        else:
            del self._in_hand[key]
        return None
