"""One worker of a group: takes its share of the leases, and has each of their shards at work."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import socket
import uuid
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from msgbus.brokers.kinesis.balance import Observer, decide, forgettable, missing_rows
from msgbus.brokers.kinesis.hashing import Shard
from msgbus.brokers.kinesis.holding import Holding
from msgbus.brokers.kinesis.options import KinesisOptions
from msgbus.brokers.kinesis.rows import Row
from msgbus.brokers.kinesis.shardwork import Context, Hand, Hooks, Reader, ShardWork
from msgbus.brokers.kinesis.stores import LeaseStore
from msgbus.brokers.wakeup import Wakeup
from msgbus.clock import Clock
from msgbus.errors import BusError, Throttled, Unavailable
from msgbus.message import Source

log = logging.getLogger("msgbus.kinesis")

_LAST_WRITES = 5.0  # seconds that the last checkpoints may take

ListShards = Callable[[], Coroutine[Any, Any, Sequence[Shard]]]


class Group:
    """Runs from `start` to `close`. `work`: the shards that are ours now, in no order. `trouble`: with the leases."""

    def __init__(
        self,
        source: Source,
        store: LeaseStore,
        shards: ListShards,
        reader: Reader,
        clock: Clock,
        options: KinesisOptions,
        hooks: Hooks,
        hand: Hand,
    ) -> None:
        self.me = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:12]}"
        self.work: dict[str, ShardWork] = {}
        self.trouble: BusError | None = None
        self._context = Context(source, store, reader, clock, options, hooks, hand, self._spawn)
        self._source = source
        self._store = store
        self._list_shards = shards
        self._clock = clock
        self._options = options
        self._hooks = hooks
        self._tries = hand.cap is not None  # else nothing would follow from suspecting a record of killing its process
        self._observer = Observer(options.lease)
        self._spread = random.randrange(1 << 30)
        self._sync_at = float("-inf")
        self._wakeup = Wakeup(clock)
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
            work.stop_reading()

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
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WRITES):
                await asyncio.gather(*(work.close() for work in works))
                await self._free_what_is_left()

    async def _free_what_is_left(self) -> None:
        """A lease that was taken as this was cancelled, or that was asked for and not given yet."""
        with contextlib.suppress(BusError):
            for row in await self._store.rows():
                if row.owner == self.me:
                    await self._store.swap(row, row.changed(owner=row.giver, giver=""))

    # -- what the receiver says

    def settled(self, holding: Holding) -> None:
        """Something of it was settled."""
        if (work := self._work_on(holding)) is not None:
            work.settled()

    def taken(self, holding: Holding) -> None:
        """Something of it was handed out."""
        if (work := self._work_on(holding)) is not None:
            work.taken()

    def try_suspect(self, holding: Holding) -> None:
        """See to it that the next suspect is handed out."""
        work = self._work_on(holding)
        if work is not None and not self._stopping:
            work.try_suspect()

    def is_over(self, holding: Holding) -> bool:
        """Whether what it handed out may be somebody else's by now."""
        work = self._work_on(holding)
        return work is None or work.keeper.is_over()

    def _work_on(self, holding: Holding) -> ShardWork | None:
        work = self.work.get(holding.row.shard)
        return work if work is not None and work.holding is holding else None

    # -- rounds

    async def _run(self) -> None:
        while not self._stopping:
            pause = self._options.lease / 3
            try:
                waiting = await self._round()
            except (Throttled, Unavailable) as error:
                log.warning("%s: leases: %s", self._source, error)
                self._troubled(None if isinstance(error, Throttled) else error)
            except BusError as error:
                self._hooks.failed(error)
                return
            else:
                pause = self._options.lease / 10 if waiting else pause
                self._troubled(None)
            if not self._kicked:
                await self._wakeup.wait(pause * (0.8 + 0.4 * random.random()))
            self._kicked = False

    def _troubled(self, error: BusError | None) -> None:
        before, self.trouble = self.trouble, error
        if before is not error:
            self._hooks.came()

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
                self._give_if_asked(row, self.work[row.shard])
            elif row.owner == self.me and not row.giver:
                await self._take(row)
            else:
                promised |= row.owner == self.me
        decision = decide(list(rows.values()), self.me, expired, self._spread)
        for row in decision.take:
            if row.shard not in self.work and not self._stopping:
                await self._take(row, forced=self._tries and bool(row.owner))
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

    # -- one shard

    async def _take(self, row: Row, *, forced: bool = False) -> None:
        began = self._clock.now()
        mine = row.taken(self.me, forced=forced)
        if await self._store.swap(row, mine):
            self.work[row.shard] = ShardWork(self._context, mine, began, self._over)

    def _give_if_asked(self, row: Row, work: ShardWork) -> None:
        if row.giver == self.me and row.owner != self.me:
            work.give()

    def _over(self, work: ShardWork, look: bool) -> None:
        """It is not ours any more; the next round is due now where that changes what there is to take."""
        if self._work_on(work.holding) is work:
            del self.work[work.holding.row.shard]
        if look:
            if work.holding.ended:  # its children have leases now
                self._sync_at = float("-inf")
            self._kicked = True
            self._wakeup.wake()

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
