"""From single settlements to a committed prefix: what a log can remember is one position."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

P_co = TypeVar("P_co", covariant=True)


class Mark(Protocol[P_co]):
    """One entry that was handed out: where it is, and whether it is done."""

    done: bool

    @property
    def position(self) -> P_co:
        """Where in the log."""
        ...


M = TypeVar("M", bound=Mark[tuple[str, int]])


class Watermark(Generic[M]):
    """Marks in the order of the log. `start`: the position that was committed before, if any."""

    __slots__ = ("_last", "_marks", "_start")

    def __init__(self, start: tuple[str, int] | None = None) -> None:
        self._start = start
        self._last: M | None = None
        self._marks: deque[M] = deque()

    @property
    def committed(self) -> tuple[str, int] | None:
        """The last position before which nothing is open; None: none yet."""
        return self._start if self._last is None else self._last.position

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

    @property
    def first(self) -> M | None:
        """The oldest entry that is not done. May be asked from any thread."""
        try:
            return self._marks[0]
        except IndexError:
            return None

    def open(self) -> Iterator[M]:
        """What is not done, in order."""
        return (mark for mark in self._marks if not mark.done)

    def _advance(self) -> bool:
        marks, last = self._marks, None
        while marks and marks[0].done:
            last = marks.popleft()
        self._last = last or self._last
        return last is not None
