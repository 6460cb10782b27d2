"""Whole consumer groups on a clock that is turned by hand: no server, no waiting."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import Sequence

from msgbus.brokers.kinesis.balance import first_rows
from msgbus.brokers.kinesis.group import Group
from msgbus.brokers.kinesis.hashing import HIGHEST, Shard
from msgbus.brokers.kinesis.holding import Holding, Token
from msgbus.brokers.kinesis.options import KinesisOptions
from msgbus.brokers.kinesis.polling import Room
from msgbus.brokers.kinesis.shardwork import Hand
from msgbus.brokers.kinesis.stores.memory import MemoryStore
from msgbus.errors import BusError
from msgbus.message import Source, Start
from msgbus.testing.virtual import VirtualClock

LEASE = 10.0
SHARDS = 4
SOURCE = Source("topic", "orders", "billing")


class Idle:
    """A reader whose shard brings nothing, and what a receiver would be told."""

    async def run(self, holding: Holding, room: Room) -> None:
        await asyncio.get_running_loop().create_future()

    def came(self) -> None: ...

    def lost(self, token: Token, error: BusError) -> None: ...

    def failed(self, error: BusError) -> None:
        raise error


def _stream() -> list[Shard]:
    width = (HIGHEST + 1) // SHARDS
    return [Shard(f"s{place}", place * width, (place + 1) * width - 1) for place in range(SHARDS)]


class Workers:
    """Groups of one application, each as in a process of its own."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.running: list[Group] = []
        self._store = MemoryStore("virtual", uuid.uuid4().hex)

    async def begin(self) -> None:
        await self._store.ensure("create")
        for row in first_rows(_stream(), Start("oldest"), 0.0):
            await self._store.add(row)

    def start(self, count: int) -> None:
        for _ in range(count):
            idle = Idle()
            group = Group(
                SOURCE, self._store, _shards, idle, self.clock, KinesisOptions(lease=LEASE), idle, Hand(100, cap=5)
            )
            group.start()
            self.running.append(group)

    def kill(self) -> None:
        """One of them does nothing any more, in the midst of whatever it did."""
        group = self.running.pop()
        group.stop()
        for task in group._tasks:
            task.cancel()

    async def shares(self) -> Counter[str]:
        return Counter(row.owner for row in await self._store.rows() if not row.giver)

    async def until_balanced(self) -> float:
        """The lease periods until each of those that run has as many shards as any other."""
        began = self.clock.now()
        wanted = {group.me: SHARDS // len(self.running) for group in self.running}
        while await self.shares() != wanted or any(len(group.work) != wanted[group.me] for group in self.running):
            await self.clock.step()
            assert self.clock.now() - began < 100 * LEASE, await self.shares()
        return (self.clock.now() - began) / LEASE

    async def close(self) -> None:
        closing = [asyncio.ensure_future(group.close()) for group in self.running]
        while not all(task.done() for task in closing):
            await self.clock.step()
        assert {row.owner for row in await self._store.rows()} == {""}


async def _shards() -> Sequence[Shard]:
    return _stream()
