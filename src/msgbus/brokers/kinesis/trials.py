"""Records that may kill their process, handed out one by one, so that the one that does is known afterwards."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from weakref import WeakKeyDictionary

from msgbus.brokers.kinesis.holding import Holding, Token
from msgbus.brokers.kinesis.keeper import Keeper
from msgbus.brokers.kinesis.rows import Row
from msgbus.clock import Clock
from msgbus.errors import Throttled, Unavailable

log = logging.getLogger("msgbus.kinesis")

_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()
"""Whose turn it is to hand out a record that may kill this process."""


class Trials:
    """Of one shard whose holders died at its checkpoint. `settled` is set whenever something of it was."""

    def __init__(self, holding: Holding, keeper: Keeper, clock: Clock, lease: float, settled: asyncio.Event) -> None:
        self._holding = holding
        self._keeper = keeper
        self._clock = clock
        self._lease = lease
        self._settled = settled

    async def run(self, came: Callable[[], object]) -> None:
        """One record that the row counts as delivered before a handler sees it: so a killer is known afterwards.

        No second one begins in this process before it is settled, or has lived for as long as a lease.
        """
        holding = self._holding
        async with _turns.setdefault(asyncio.get_running_loop(), asyncio.Lock()):
            suspect = None if holding.giving else holding.draw()
            self._keeper.look()
            self._settled.set()
            if suspect is None or not await self._announce():
                return
            holding.hand_out(suspect)
            came()
            token: Token = suspect.token
            until = self._clock.now() + self._lease
            give_up = self._clock.call_later(self._lease, self._settled.set)
            while not (token.done or holding.lost) and self._clock.now() < until:
                self._settled.clear()
                await self._settled.wait()
            give_up.cancel()

    async def _announce(self) -> bool:
        """Whether the row says it."""
        while not self._holding.lost:
            try:
                if await self._keeper.write(Row.tried, whole=True):
                    return True
            except (Throttled, Unavailable) as error:
                log.warning("lease of %s: %s", self._holding.row.shard, error)
                await self._clock.sleep(self._lease / 20)
        return False
