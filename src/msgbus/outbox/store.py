"""What a relay asks of the database that an outbox is in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from msgbus.outbox.rows import Row


class Hold(NamedTuple):
    """A partition that a relay has: `token` changes with each owner, `scan` where rows came back below its floor."""

    token: int
    scan: int


class Wanted(NamedTuple):
    """A partition to be read, above `floor`."""

    part: int
    floor: int
    hold: Hold


@dataclass(frozen=True, slots=True)
class Share:
    """What a relay holds, and how many there are."""

    parts: Mapping[int, Hold]
    relays: int


@dataclass(frozen=True, slots=True)
class Page:
    """Rows of several partitions, those of one in their order.

    `oldest`, `next_`: of the snapshot they were read in, the oldest running transaction and the first that had not
    begun; both 0 where what is committed later never has a lower place.
    """

    rows: Sequence[Row]
    oldest: int = 0
    next_: int = 0


@dataclass(frozen=True, slots=True)
class Status:
    """`waiting` rows, `oldest` the age of the first in seconds, `dead` rows; live relays, partitions without one."""

    waiting: int
    oldest: float | None
    dead: int
    relays: Mapping[str, int]
    unowned: int


@dataclass(frozen=True, slots=True)
class Dead:
    """A message that its broker refused: why, at what Unix time, and whether later ones of its key wait for it."""

    seq: int
    part: int
    id: str
    place: str
    key: str | None
    reason: str
    holds: bool
    died: float


class Store(Protocol):
    """Raises Unavailable where the database is not to be reached, ConfigError where its tables are not as they must be.

    Leases end by the database's own clock. Every change to rows and leases is conditional on the owner and its tokens.
    """

    async def check(self) -> None:
        """Raises ConfigError where the tables are missing or of another version."""

    async def share(self, owner: str, seconds: float) -> Share:
        """Say that `owner` lives, and have all its leases end so many seconds from now."""
        ...

    async def take(self, owner: str, seconds: float, count: int) -> int:
        """Take up to `count` partitions whose lease has ended, with new tokens; how many."""
        ...

    async def release(self, owner: str, parts: Collection[int]) -> None:
        """Let others have them now."""

    async def leave(self, owner: str) -> None:
        """Let go of everything: this relay ends."""

    async def read(self, owner: str, wanted: Sequence[Wanted], skip: Collection[str], limit: int) -> Page:
        """Up to `limit` rows of partitions that are held as `wanted` says, from the first one on.

        Not those for a place in `skip` (`topic/orders`), nor those whose key waits for a dead one.
        """
        ...

    async def done(self, owner: str, rows: Sequence[Row], tokens: Mapping[int, int]) -> int:
        """Delete what the broker has; how many were there, and in partitions still held with these tokens."""
        ...

    async def bury(self, owner: str, row: Row, token: int, reason: str, *, holds: bool) -> bool:
        """Make it a dead one; `holds`: later rows of its key wait for it. False where it is not ours any more."""
        ...

    async def dead(self, limit: int, after: int = 0, ids: Collection[str] = ()) -> Sequence[Dead]:
        """Dead ones above the place `after`, in order; with `ids` those alone."""
        ...

    async def retry(self, dead: Sequence[Dead]) -> int:
        """Put them back where they were in their keys' order, to be sent again; how many were still there."""
        ...

    async def purge(self, dead: Sequence[Dead]) -> int:
        """Throw them away, and let go on what waited for them; how many were still there."""
        ...

    async def notify(self) -> None:
        """Have relays in other processes look now, where the database can tell them; else nothing."""

    def listening(self, wake: Callable[[], None]) -> AbstractAsyncContextManager[asyncio.Event]:
        """Have `wake` called at each `notify`, for the length of the block; yields what is set when that has ended."""
        ...

    async def status(self) -> Status:
        """How things are."""
        ...

    async def close(self) -> None:
        """Disconnect."""
