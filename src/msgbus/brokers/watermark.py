"""From single settlements to a committed prefix: what a log can remember is one position."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

P = TypeVar("P")


class Mark(Generic[P]):
    """One entry that was handed out: where it is, and whether it is done."""

    __slots__ = ("done", "position")

    def __init__(self, position: P) -> None:
        self.position = position
        self.done = False


M = TypeVar("M", bound=Mark[tuple[str, int]])


class Watermark(Generic[M]):
    """Marks in the order of the log. `committed`: the last position before which nothing is open; None: none yet."""

    __slots__ = ("_marks", "committed")

    def __init__(self) -> None:
        self.committed: tuple[str, int] | None = None
        self._marks: deque[M] = deque()

    def __len__(self) -> int:
        """Entries that the prefix does not cover yet, done or not."""
        return len(self._marks)

    def add(self, mark: M) -> None:
        """The next entry of the log; one that is done already moves the prefix at once."""
        self._marks.append(mark)
        if mark.done:
            self._advance()

    def done(self, mark: M) -> bool:
        """It is settled; whether the prefix grew."""
        mark.done = True
        return self._advance() if self._marks and self._marks[0] is mark else False

    def __iter__(self) -> Iterator[M]:
        return iter(self._marks)

    def open(self) -> Iterator[M]:
        """What is not done, in order."""
        return (mark for mark in self._marks if not mark.done)

    def _advance(self) -> bool:
        marks, before = self._marks, self.committed
        while marks and marks[0].done:
            self.committed = marks.popleft().position
        return self.committed != before
