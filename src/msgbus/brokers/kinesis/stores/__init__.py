"""Where leases are kept. Every change is a compare-and-swap on the row's counter and holder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from msgbus.broker import Mode
from msgbus.brokers.kinesis.rows import Row


class LeaseStore(Protocol):
    """The leases of one group. Raises Throttled or Unavailable where trying again can help, Refused where not."""

    @property
    def name(self) -> str:
        """What holds them, for people: a table's name."""
        ...

    async def is_there(self) -> bool:
        """Whether leases can be kept there."""
        ...

    async def ensure(self, mode: Mode) -> bool:
        """Make it where `mode` is "create" and it is missing; whether it was made."""
        ...

    async def rows(self) -> Sequence[Row]:
        """All leases, as they are now."""
        ...

    async def read(self, shard: str) -> Row | None:
        """One lease as it is now; None where there is none."""
        ...

    async def add(self, row: Row) -> bool:
        """A new lease; False where there is one already."""
        ...

    async def swap(self, old: Row, new: Row) -> bool:
        """Replace `old` by `new`; False where it is not `old` any more. Outcome unknown after Unavailable."""
        ...

    async def remove(self, row: Row) -> bool:
        """Delete it, if it is still this one."""
        ...


def same(one: Row, other: Row) -> bool:
    """Whether nobody wrote in between."""
    return (one.counter, one.owner, one.giver) == (other.counter, other.owner, other.giver)
