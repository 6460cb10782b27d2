"""Keeps one lease: renews it, writes its checkpoint, gives it away, and knows when it is lost."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from msgbus.brokers.kinesis.holding import Holding
from msgbus.brokers.kinesis.rows import SHARD_END, Row
from msgbus.brokers.kinesis.stores import LeaseStore
from msgbus.brokers.wakeup import Wakeup
from msgbus.clock import Clock, TimerHandle
from msgbus.errors import BusError, LeaseLost

log = logging.getLogger("msgbus.kinesis")

SAFETY = 0.2
"""The part of a lease that its holder gives up, so that its handlers have ended when another may take the shard."""

_AGAIN = 0.1  # of a lease, after a write that failed
_PROMPT = 0.02  # seconds in which settlements are gathered where checkpoints need not be apart

Change = Callable[[Row], Row]


class Keeper:
    """Writes of one lease, one at a time. `lost(holding, error)` is called once, when it is; `came()` when more may be
    handed out after a write.

    The lease is counted from before the last write that succeeded, on our clock; others count from after it, on
    theirs. So ours ends first, whatever the clocks say.
    """

    def __init__(
        self,
        holding: Holding,
        store: LeaseStore,
        clock: Clock,
        *,
        lease: float,
        pause: float,
        since: float,
        lost: Callable[[Holding, BusError], None],
        came: Callable[[], None],
    ) -> None:
        self._holding = holding
        self._store = store
        self._clock = clock
        self._lease = lease
        self._pause = max(pause, _PROMPT)
        self._lost = lost
        self._came = came
        self._me = holding.row.owner
        self._written = since
        self._deadline = since + lease * (1 - SAFETY)
        self._timer: TimerHandle = clock.call_later(self._deadline - clock.now(), self._check)
        self._lock = asyncio.Lock()
        self._settled = Wakeup(clock)

    async def run(self) -> None:
        """Renew and checkpoint until the lease is lost, given, or its shard has ended."""
        while not self._holding.lost:
            await self._until_due()
            try:
                await self.write(Row.changed)
            except BusError as error:
                log.warning("lease of %s: %s", self._holding.row.shard, error)
                await self._clock.sleep(self._lease * _AGAIN)

    def look(self) -> None:
        """Something was settled."""
        self._settled.wake()

    def is_over(self) -> bool:
        """Whether the lease may be somebody else's by now."""
        return self._holding.lost or self._clock.now() >= self._deadline

    def close(self) -> None:
        """Nothing is kept any more."""
        self._timer.cancel()

    async def write(self, change: Change, *, whole: bool = False) -> bool:
        """Write what is settled by now with `change`; whether it was written. Tried once more after a conflict.

        Raises Throttled and Unavailable, after which it may have been written or not, and Refused.
        """
        async with self._lock:
            for _ in range(3):
                if self.is_over():
                    self._lose("its time is over")
                    return False
                began, old = self._clock.now(), self._holding.row
                new = change(self._holding.advanced(old, whole=whole))
                if await self._store.swap(old, new):
                    self._holding.row = new
                    self._renewed(began)
                    if old.crashes:
                        self._came()
                    return True
                if not await self._adopt():
                    return False
        return False

    async def _adopt(self) -> bool:
        """A write of ours whose answer was lost, or somebody asked for the shard: go on from what the row says."""
        found = await self._store.read(self._holding.row.shard)
        if found is None or found.holder != self._me:
            self._lose("another worker took it" if found is not None and found.owner else "it was set back")
            return False
        self._holding.row = found
        return True

    def _renewed(self, began: float) -> None:
        self._written = began
        self._deadline = began + self._lease * (1 - SAFETY)

    def _check(self) -> None:
        left = self._deadline - self._clock.now()
        if left <= 0:
            self._lose("it could not be renewed in time")
        elif not self._holding.lost:
            self._timer = self._clock.call_later(left, self._check)

    def _lose(self, why: str) -> None:
        if not self._holding.lost:
            self._holding.lost = True
            self._timer.cancel()
            self._lost(self._holding, LeaseLost(f"the lease of {self._holding.row.shard} is lost: {why}"))

    async def _until_due(self) -> None:
        """Until a checkpoint or a renewal is due, whichever comes first."""
        renew_at = self._written + self._lease / 3
        while (left := renew_at - self._clock.now()) > 0:
            if self._holding.is_dirty:
                await self._clock.sleep(min(left, max(0.0, self._written + self._pause - self._clock.now())))
                return
            await self._settled.wait(left)


def finished(row: Row, children: tuple[str, ...]) -> Row:
    """The last version of a lease whose shard has ended; `children`: the shards that came out of it."""
    return row.changed(
        checkpoint=SHARD_END, sub=0, at=0.0, owner="", giver="", progress="", children=children or row.children
    )
