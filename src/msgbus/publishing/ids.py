"""Message ids (UUIDv7, RFC 9562) and timestamps, at a tenth of the price of the usual calls."""

from __future__ import annotations

import os
import random
import time
import weakref
from collections.abc import Callable

_random = random.Random()
_ROLLBACK = 1000  # milliseconds: a clock set back by more is believed, a smaller step is waited out


def _forked() -> None:
    """A forked child would go on with its parent's ids."""
    _random.seed()
    for stamps in _all:
        stamps.forget()


os.register_at_fork(after_in_child=_forked)

_COUNTS = tuple(f"{count:03x}" for count in range(4096))


class Stamps:
    """Makes ids and RFC 3339 times. What depends on the millisecond alone is made once a millisecond.

    Within a millisecond the 12 bits of `rand_a` count up and the 62 random bits of `rand_b` stay (RFC 9562, section
    6.2, method 1): ids of one process sort by time, those of two processes differ in the random bits.
    """

    __slots__ = ("__weakref__", "_count", "_millisecond", "_prefix", "_tail", "_text", "now")

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self.now = now
        self._millisecond = -1
        self._count = 0
        self._prefix = self._tail = self._text = ""
        _all.add(self)

    def forget(self) -> None:
        """Begin anew with the next id."""
        self._millisecond = -1

    def next(self) -> tuple[str, str]:
        """A new id and the time now, such as 2026-11-24T09:30:00.125Z."""
        millisecond = int(self.now() * 1000)
        if millisecond != self._millisecond or self._count == 4096:
            self._next_millisecond(millisecond)
        count = self._count
        self._count = count + 1
        return self._prefix + _COUNTS[count] + self._tail, self._text

    def _next_millisecond(self, millisecond: int) -> None:
        """Forward, so that ids sort: one on when the count is used up, and none back when the clock is set back."""
        if self._millisecond - _ROLLBACK < millisecond < self._millisecond:
            millisecond = self._millisecond
        if millisecond == self._millisecond:
            if self._count < 4096:
                return
            millisecond += 1
        self._turn(millisecond)

    def _turn(self, millisecond: int) -> None:
        self._millisecond = millisecond
        self._count = 0
        self._prefix = f"{millisecond >> 16:08x}-{millisecond & 0xFFFF:04x}-7"
        bits = _random.getrandbits(62)
        self._tail = f"-{0x8000 | bits >> 48:04x}-{bits & 0xFFFFFFFFFFFF:012x}"
        seconds, rest = divmod(millisecond, 1000)
        self._text = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{rest:03d}Z"


_all: weakref.WeakSet[Stamps] = weakref.WeakSet()
