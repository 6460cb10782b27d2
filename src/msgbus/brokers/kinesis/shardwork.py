"""One shard at work: from the moment its lease is ours until it is lost, given, or the shard has ended."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol

from msgbus.brokers.kinesis.hashing import Shard
from msgbus.brokers.kinesis.holding import Holding, Token
from msgbus.brokers.kinesis.keeper import Keeper, finished
from msgbus.brokers.kinesis.options import KinesisOptions
from msgbus.brokers.kinesis.polling import Room
from msgbus.brokers.kinesis.rows import TRIM_HORIZON, Row, row_of
from msgbus.brokers.kinesis.stores import LeaseStore
from msgbus.brokers.kinesis.trials import Trials
from msgbus.clock import Clock
from msgbus.errors import BusError, LeaseLost, Refused, Throttled, Unavailable
from msgbus.message import Source

log = logging.getLogger("msgbus.kinesis")

_CANCELLED = 0.05  # of a lease: time for cancelled handlers to end before their shard is given
_SHARE = 8  # the part of what may be in hand that one key may have


class Reader(Protocol):
    """Fills a holding until its shard has ended."""

    async def run(self, holding: Holding, room: Room) -> None: ...


class Hooks(Protocol):
    """What the receiver is told."""

    def came(self) -> None:
        """There may be something to hand out."""
        ...

    def lost(self, token: Token, error: BusError) -> None:
        """A delivery in hand is not ours any more."""
        ...

    def failed(self, error: BusError) -> None:
        """Nothing will help."""
        ...


@dataclass(frozen=True, slots=True)
class Hand:
    """`prefetch`: records in hand at most. `cap`: how often one may be delivered; None: as often as it takes."""

    prefetch: int
    cap: int | None = None


@dataclass(frozen=True, slots=True)
class Context:
    """What the shards of one worker share. `spawn` begins a task whose failure ends the worker."""

    source: Source
    store: LeaseStore
    reader: Reader
    clock: Clock
    options: KinesisOptions
    hooks: Hooks
    hand: Hand
    spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]


class ShardWork:
    """Reads, keeps the lease, and lets go. `over(work, look)` is called when it is no longer ours.

    `look`: what there is to take has changed.
    """

    def __init__(self, context: Context, row: Row, began: float, over: Callable[[ShardWork, bool], None]) -> None:
        options, share = context.options, max(1, context.hand.prefetch // _SHARE)
        most = options.aggregate_records
        self.holding = Holding(context.source, row, options.tail, share, most, options.parts)
        self.keeper = Keeper(
            self.holding,
            context.store,
            context.clock,
            lease=options.lease,
            pause=options.checkpoint,
            since=began,
            lost=self._lost,
            came=context.hooks.came,
        )
        self._context = context
        self._over = over
        self._closing = False
        self._settled = asyncio.Event()
        self._room = Room(self.holding, 2 * context.hand.prefetch)
        self._trials = Trials(self.holding, self.keeper, context.clock, options.lease, self._settled)
        self._trial: asyncio.Task[None] | None = None
        self._reading = context.spawn(self._read())
        self._keeping = context.spawn(self.keeper.run())
        log.info("%s: %s is ours from %s", context.source, row.shard, row.checkpoint)
        if row.suspects:
            log.warning("%s: %s: its holders died here; records are handed out one by one", context.source, row.shard)

    # -- what the receiver says

    def settled(self) -> None:
        """Something of it was settled."""
        self.keeper.look()
        self._settled.set()

    def taken(self) -> None:
        """Something of it was handed out."""
        self._room.look()

    def try_suspect(self) -> None:
        """See to it that the next suspect is handed out."""
        if self._trial is None:
            self._trial = self._context.spawn(self._trials.run(self._context.hooks.came))
            self._trial.add_done_callback(self._tried)

    def _tried(self, _task: asyncio.Task[None]) -> None:
        self._trial = None
        self._context.hooks.came()

    # -- to the end of the shard

    def stop_reading(self) -> None:
        """What is in hand can still be settled."""
        self._reading.cancel()

    async def _read(self) -> None:
        try:
            await self._context.reader.run(self.holding, self._room)
        except BusError as error:
            self._context.hooks.failed(error)
            return
        while not self.holding.exhausted:
            self._settled.clear()
            await self._settled.wait()
        await self._end()

    async def _end(self) -> None:
        """The shard has ended: what came out of it gets leases before it is said to be finished."""
        context, holding = self._context, self.holding
        children = [Shard.of(told) for told in holding.children]
        while not holding.lost:
            try:
                for child in children:
                    await context.store.add(row_of(child, TRIM_HORIZON))
                if await self.keeper.write(lambda row: finished(row, tuple(child.id for child in children))):
                    break
            except (Throttled, Unavailable) as error:
                log.warning("%s: ending %s: %s", context.source, holding.row.shard, error)
                await context.clock.sleep(context.options.lease / 10)
        self._drop(look=True)

    # -- to somebody else

    def give(self) -> None:
        """Another worker asked for it."""
        if not self.holding.giving:
            self.holding.giving = True
            self._context.spawn(self._give())

    async def _give(self) -> None:
        """Finish what is in hand, checkpoint, give. What isn't finished in time is cancelled, and done again there."""
        context, holding = self._context, self.holding
        self._reading.cancel()
        holding.buffer.clear()
        give_up = context.clock.call_later(context.options.handover, self._settled.set)
        until = context.clock.now() + context.options.handover
        while any(token.out for token in holding.in_hand()) and context.clock.now() < until:
            self._settled.clear()
            await self._settled.wait()
        give_up.cancel()
        if left := [token for token in holding.in_hand() if token.out]:
            error = LeaseLost(f"{holding.row.shard} was asked for by another worker")
            for token in left:
                context.hooks.lost(token, error)
            await context.clock.sleep(context.options.lease * _CANCELLED)
        holding.forgive()
        await self._let_go()
        self._drop(look=False)

    async def close(self) -> None:
        """The worker has ended: the last checkpoint, and the lease is free."""
        self._closing = True
        self.holding.forgive()
        try:
            await self._let_go()
        finally:
            self.keeper.close()

    async def _let_go(self) -> None:
        """The last write; where it can't be made, the lease simply ends."""
        context, shard = self._context, self.holding.row.shard
        while not self.holding.lost:
            try:
                if await self.keeper.write(Row.given, whole=True):
                    return
            except (Throttled, Unavailable) as error:
                log.warning("%s: giving %s: %s", context.source, shard, error)
                await context.clock.sleep(context.options.lease / 20)
            except Refused as error:
                log.warning("%s: giving %s: %s", context.source, shard, error)
                return

    def _lost(self, holding: Holding, error: BusError) -> None:
        log.warning("%s: %s", self._context.source, error)
        if self._closing:
            return
        for token in list(holding.in_hand()):
            self._context.hooks.lost(token, error)
        self._drop(look=True)

    def _drop(self, *, look: bool) -> None:
        self.holding.lost = True
        self.holding.buffer.clear()
        self._settled.set()
        self.keeper.close()
        self._over(self, look)
        for task in (self._reading, self._keeping):
            if task is not asyncio.current_task():
                task.cancel()
