"""One worker of a group: takes its share of the leases, reads their shards, hands them over when asked."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import socket
import uuid
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from msgbus.brokers.kinesis.balance import Observer, decide, forgettable, missing_rows
from msgbus.brokers.kinesis.hashing import Shard
from msgbus.brokers.kinesis.holding import Holding, Token
from msgbus.brokers.kinesis.keeper import Keeper, finished
from msgbus.brokers.kinesis.options import KinesisOptions
from msgbus.brokers.kinesis.polling import Room
from msgbus.brokers.kinesis.rows import TRIM_HORIZON, Row, row_of
from msgbus.brokers.kinesis.stores import LeaseStore
from msgbus.clock import Clock
from msgbus.errors import BusError, LeaseLost, Refused, Throttled, Unavailable
from msgbus.message import Source

log = logging.getLogger("msgbus.kinesis")

_CANCELLED = 0.05  # of a lease: time for cancelled handlers to end before their shard is given
_SHARE = 8  # the part of what may be in hand that one key may have
_LAST_WRITES = 5.0  # seconds that the last checkpoints may take

_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()
"""Whose turn it is to hand out a record that may kill this process."""

ListShards = Callable[[], Coroutine[Any, Any, Sequence[Shard]]]


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


@dataclass(slots=True, eq=False)
class _Work:
    """A shard at work."""

    holding: Holding
    keeper: Keeper
    room: Room
    reading: asyncio.Task[None]
    keeping: asyncio.Task[None]
    settled: asyncio.Event
    trial: asyncio.Task[None] | None = None


class Group:
    """Runs from `start` to `close`. `work`: the shards that are ours now, in no order.

    `tries`: whether a record may be suspected of killing its process; where there is no cap, nothing follows from it.
    """

    def __init__(
        self,
        source: Source,
        store: LeaseStore,
        shards: ListShards,
        reader: Reader,
        clock: Clock,
        options: KinesisOptions,
        hooks: Hooks,
        prefetch: int,
    ) -> None:
        self.me = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:12]}"
        self.work: dict[str, _Work] = {}
        self.tries = True
        self._source = source
        self._store = store
        self._list_shards = shards
        self._reader = reader
        self._clock = clock
        self._options = options
        self._hooks = hooks
        self._prefetch = prefetch
        self._observer = Observer(options.lease)
        self._spread = random.randrange(1 << 30)
        self._sync_at = float("-inf")
        self._waiter: asyncio.Future[None] | None = None
        self._kicked = False
        self._stopping = False
        self._tasks: set[asyncio.Task[None]] = set()

    # -- the life of a worker

    def start(self) -> None:
        """Begin; nothing is waited for."""
        self._spawn(self._run())

    def stop(self) -> None:
        """Read nothing more, take nothing more. Leases are kept and checkpoints written until `close`."""
        self._stopping = True
        for work in self.work.values():
            work.reading.cancel()

    async def close(self) -> None:
        """Write the last checkpoints and let go of every lease, so that others may take them at once."""
        self.stop()
        tasks = [*self._tasks]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        works = list(self.work.values())
        self.work.clear()
        for work in works:
            work.holding.forgive()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WRITES):
                await asyncio.gather(*(self._let_go(work, Row.given) for work in works))
                await self._free_what_is_left()
        for work in works:
            work.keeper.close()

    async def _free_what_is_left(self) -> None:
        """A lease that was taken as this was cancelled, or that was asked for and not given yet."""
        with contextlib.suppress(BusError):
            for row in await self._store.rows():
                if row.owner == self.me:
                    await self._store.swap(row, row.changed(owner=row.giver, giver=""))

    def settled(self, holding: Holding) -> None:
        """Something of it was settled."""
        work = self.work.get(holding.row.shard)
        if work is not None and work.holding is holding:
            work.keeper.look()
            work.settled.set()

    def taken(self, holding: Holding) -> None:
        """Something of it was handed out."""
        work = self.work.get(holding.row.shard)
        if work is not None:
            work.room.look()

    def is_over(self, holding: Holding) -> bool:
        """Whether what it handed out may be somebody else's by now."""
        work = self.work.get(holding.row.shard)
        return work is None or work.holding is not holding or work.keeper.is_over()

    # -- rounds

    async def _run(self) -> None:
        while not self._stopping:
            pause = self._options.lease / 3
            try:
                waiting = await self._round()
            except (Throttled, Unavailable) as error:
                log.warning("%s: leases: %s", self._source, error)
            except BusError as error:
                self._hooks.failed(error)
                return
            else:
                pause = self._options.lease / 10 if waiting else pause
            await self._pause(pause * (0.8 + 0.4 * random.random()))

    async def _round(self) -> bool:
        """Look, take, ask, give. Whether something is promised to us."""
        began = self._clock.now()
        rows = {row.shard: row for row in await self._store.rows()}
        if began >= self._sync_at:
            rows = await self._sync(rows)
        expired = self._observer.look(rows.values(), self._clock.now()) - self.work.keys()
        promised = False
        for row in rows.values():
            if row.shard in self.work:
                self._give_if_asked(row)
            elif row.owner == self.me and not row.giver:
                await self._take(row)
            else:
                promised |= row.owner == self.me
        decision = decide(list(rows.values()), self.me, expired, self._spread)
        for row in decision.take:
            if row.shard not in self.work and not self._stopping:
                await self._take(row, forced=self.tries and bool(row.owner))
        for row in decision.ask:
            promised |= await self._store.swap(row, row.asked_for(self.me))
        return promised

    async def _sync(self, rows: Mapping[str, Row]) -> dict[str, Row]:
        """Leases for new shards; those of forgotten ones go."""
        shards = await self._list_shards()
        for row in missing_rows(shards, rows):
            await self._store.add(row)
        for row in forgettable(shards, rows):
            await self._store.remove(row)
        self._sync_at = self._clock.now() + self._options.sync
        return {row.shard: row for row in await self._store.rows()}

    async def _pause(self, seconds: float) -> None:
        if not self._kicked:
            self._waiter = asyncio.get_running_loop().create_future()
            timer = self._clock.call_later(seconds, self._wake)
            try:
                await self._waiter
            finally:
                timer.cancel()
                self._waiter = None
        self._kicked = False

    def _kick(self) -> None:
        """The next round is due now."""
        self._kicked = True
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # -- one shard

    async def _take(self, row: Row, *, forced: bool = False) -> None:
        began = self._clock.now()
        mine = row.taken(self.me, forced=forced)
        if await self._store.swap(row, mine):
            self._begin(mine, began)

    def _begin(self, row: Row, began: float) -> None:
        share = max(1, self._prefetch // _SHARE)
        holding = Holding(self._source, row, self._options.tail, share)
        options = self._options
        keeper = Keeper(
            holding,
            self._store,
            self._clock,
            lease=options.lease,
            pause=options.checkpoint,
            since=began,
            lost=self._lost,
            came=self._hooks.came,
        )
        room = Room(holding, 2 * self._prefetch)
        work = _Work(
            holding, keeper, room, self._spawn(self._read(holding, room)), self._spawn(keeper.run()), asyncio.Event()
        )
        self.work[row.shard] = work
        log.info("%s: %s is ours from %s", self._source, row.shard, row.checkpoint)
        if row.suspects:
            log.warning("%s: %s: its holders died here; records are handed out one by one", self._source, row.shard)

    def try_suspect(self, holding: Holding) -> None:
        """See to it that the next suspect is handed out."""
        work = self.work.get(holding.row.shard)
        if work is not None and work.trial is None and not self._stopping:
            work.trial = self._spawn(self._try(work))
            work.trial.add_done_callback(lambda _: self._tried(work))

    def _tried(self, work: _Work) -> None:
        work.trial = None
        self._hooks.came()

    async def _try(self, work: _Work) -> None:
        """One record that the row counts as delivered before a handler sees it: so a killer is known afterwards.

        No second one begins in this process before it is settled, or has lived for as long as a lease.
        """
        holding = work.holding
        async with _turns.setdefault(asyncio.get_running_loop(), asyncio.Lock()):
            suspect = None if holding.giving else holding.draw()
            self.settled(holding)
            if suspect is None or not await self._announce(work):
                return
            holding.hand_out(suspect)
            self._hooks.came()
            token: Token = suspect.token
            until = self._clock.now() + self._options.lease
            give_up = self._clock.call_later(self._options.lease, work.settled.set)
            while not (token.done or holding.lost) and self._clock.now() < until:
                work.settled.clear()
                await work.settled.wait()
            give_up.cancel()

    async def _announce(self, work: _Work) -> bool:
        """Whether the row says it."""
        while not work.holding.lost:
            try:
                if await work.keeper.write(Row.tried, whole=True):
                    return True
            except (Throttled, Unavailable) as error:
                log.warning("%s: lease of %s: %s", self._source, work.holding.row.shard, error)
                await self._clock.sleep(self._options.lease / 20)
        return False

    async def _read(self, holding: Holding, room: Room) -> None:
        try:
            await self._reader.run(holding, room)
        except BusError as error:
            self._hooks.failed(error)
            return
        await self._until_exhausted(holding)
        await self._end(holding)

    async def _until_exhausted(self, holding: Holding) -> None:
        work = self.work[holding.row.shard]
        while not holding.exhausted:
            work.settled.clear()
            await work.settled.wait()

    async def _end(self, holding: Holding) -> None:
        """The shard has ended: what came out of it gets leases before it is said to be finished."""
        work = self.work[holding.row.shard]
        children = [Shard.of(told) for told in holding.children]
        while not holding.lost:
            try:
                for child in children:
                    await self._store.add(row_of(child, TRIM_HORIZON))
                if await work.keeper.write(lambda row: finished(row, tuple(child.id for child in children))):
                    break
            except (Throttled, Unavailable) as error:
                log.warning("%s: ending %s: %s", self._source, holding.row.shard, error)
                await self._clock.sleep(self._options.lease / 10)
        self._drop(work)
        self._sync_at = float("-inf")
        self._kick()

    def _give_if_asked(self, row: Row) -> None:
        work = self.work[row.shard]
        if row.giver == self.me and row.owner != self.me and not work.holding.giving:
            work.holding.giving = True
            self._spawn(self._give(work))

    async def _give(self, work: _Work) -> None:
        """Finish what is in hand, checkpoint, give. What isn't finished in time is cancelled, and done again there."""
        holding = work.holding
        work.reading.cancel()
        holding.buffer.clear()
        give_up = self._clock.call_later(self._options.handover, work.settled.set)
        until = self._clock.now() + self._options.handover
        while any(token.out for token in holding.in_hand()) and self._clock.now() < until:
            work.settled.clear()
            await work.settled.wait()
        give_up.cancel()
        if left := [token for token in holding.in_hand() if token.out]:
            error = LeaseLost(f"{holding.row.shard} was asked for by another worker")
            for token in left:
                self._hooks.lost(token, error)
            await self._clock.sleep(self._options.lease * _CANCELLED)
        holding.forgive()
        await self._let_go(work, Row.given)
        self._drop(work)

    async def _let_go(self, work: _Work, change: Callable[[Row], Row]) -> None:
        """The last write; where it can't be made, the lease simply ends."""
        while not work.holding.lost:
            try:
                if await work.keeper.write(change, whole=True):
                    return
            except (Throttled, Unavailable) as error:
                log.warning("%s: giving %s: %s", self._source, work.holding.row.shard, error)
                await self._clock.sleep(self._options.lease / 20)
            except Refused as error:
                log.warning("%s: giving %s: %s", self._source, work.holding.row.shard, error)
                return

    def _lost(self, holding: Holding, error: BusError) -> None:
        log.warning("%s: %s", self._source, error)
        work = self.work.get(holding.row.shard)
        if work is None or work.holding is not holding:
            return
        for token in list(holding.in_hand()):
            self._hooks.lost(token, error)
        self._drop(work)
        self._kick()

    def _drop(self, work: _Work) -> None:
        work.holding.lost = True
        work.holding.buffer.clear()
        work.settled.set()
        work.keeper.close()
        if self.work.get(work.holding.row.shard) is work:
            del self.work[work.holding.row.shard]
        for task in (work.reading, work.keeping):
            if task is not asyncio.current_task():
                task.cancel()

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            failure = error if isinstance(error, BusError) else BusError(f"{self._source}: {error!r}")
            failure.__cause__ = failure.__cause__ or error
            log.error("%s: a task of its worker failed", self._source, exc_info=error)
            self._hooks.failed(failure)
