"""KinesisAdmin: the cold side of `kinesis://`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from msgbus.broker import Backlog, Difference, Mode, Part, QueueSpec
from msgbus.brokers.aws import AwsClient
from msgbus.brokers.kinesis.balance import restarted
from msgbus.brokers.kinesis.failures import Failures
from msgbus.brokers.kinesis.holding import Holding
from msgbus.brokers.kinesis.polling import new_iterator, start_of
from msgbus.brokers.kinesis.rows import Row
from msgbus.brokers.kinesis.stores import LeaseStore
from msgbus.brokers.kinesis.stream import list_shards, server_time
from msgbus.brokers.kinesis.topology import Topology
from msgbus.clock import Clock
from msgbus.errors import Refused, Unavailable
from msgbus.message import Address, Source, Start

_TRIES = 10  # of setting back a lease that somebody renews meanwhile
_MOST = 10_000  # records of a read


@dataclass(frozen=True, slots=True)
class ShardLag:
    """How far one shard of a group is: `behind` seconds before the newest record, `waiting` records read ahead.

    `waiting` is counted in one read, so it may be less than what is there. `oldest`: when the first of them came.
    """

    shard: str
    owner: str
    checkpoint: str
    behind: float
    waiting: int
    oldest: float | None


class KinesisAdmin:
    """Topology and operations. `caps`: how often a message of a group may be delivered, as it was declared."""

    def __init__(
        self,
        client: AwsClient,
        clock: Clock,
        topology: Topology,
        store_of: Callable[[Source], LeaseStore],
        failures_of: Callable[[Source], Failures],
    ) -> None:
        self.topology = topology
        self.caps: dict[Address, int] = {}
        self._client = client
        self._clock = clock
        self._store_of = store_of
        self._failures_of = failures_of

    async def ensure(self, topology: Sequence[Part], mode: Mode) -> Sequence[Difference]:
        """Part by part, in their order."""
        differences: list[Difference] = []
        for part in topology:
            if isinstance(part, QueueSpec) and part.max_deliveries is not None:
                self.caps[part.source.address] = part.max_deliveries
        if mode != "trust":
            for part in topology:
                differences += await self.topology.ensure(part, mode)
        return differences

    async def dead_letters(self, source: Source) -> Source | None:
        """The SQS queue of the failure destination, if it is one and there."""
        return await self._failures_of(source).place()

    async def purge(self, source: Source) -> int:
        """The group goes on with what comes from now on; how many records it leaves out, as far as one read tells."""
        depth = sum(lag.waiting for lag in await self.lag(source))
        await self.seek(source, Start("latest"))
        return depth

    async def backlog(self, source: Source) -> Backlog | None:
        """By one read of each shard from its checkpoint; None for a group that was never made."""
        lags = await self.lag(source)
        if not lags:
            return None
        came = [lag.oldest for lag in lags if lag.oldest is not None]
        oldest = max(0.0, self._clock.time() - min(came)) if came else None
        return Backlog(sum(lag.waiting for lag in lags), None, oldest)

    async def lag(self, source: Source) -> Sequence[ShardLag]:
        """Each shard of the group that is not finished. Costs one of the five reads that a shard has each second."""
        store = self._store_of(source)
        if not await store.is_there():
            return []
        rows = sorted(await store.rows(), key=lambda row: row.shard)
        return [await self._lag(source, row) for row in rows if not row.ended]

    async def _lag(self, source: Source, row: Row) -> ShardLag:
        answer = await self._read(source.name, row)
        holding = Holding(source, row, _MOST)
        holding.load(answer["Records"])
        waiting = [record for record in holding.buffer if not holding.is_settled(record)]
        oldest = waiting[0].get("ApproximateArrivalTimestamp") if waiting else None
        behind = (answer.get("MillisBehindLatest") or 0) / 1000
        if oldest is not None:  # MillisBehindLatest tells where this read ended
            behind = max(behind, self._clock.time() - oldest)
        checkpoint = row.checkpoint + (f":{row.sub}" if row.sub else "")
        return ShardLag(row.shard, row.holder, checkpoint, behind, len(waiting), oldest)

    async def _read(self, stream: str, row: Row) -> Mapping[str, Any]:
        iterator = await new_iterator(self._client, stream, row.shard, start_of(row))
        return await self._client.call("kinesis", "GetRecords", {"ShardIterator": iterator, "Limit": _MOST})

    async def seek(self, source: Source, start: Start) -> None:
        """Every lease begins anew; who reads it now loses it, and whoever takes it next reads from `start`."""
        store = self._store_of(source)
        if not await store.is_there():
            raise Refused(f"{source}: it has no leases in {store.name}: nobody has subscribed yet")
        shards = await list_shards(self._client, source.name)
        now = await server_time(self._client, self._clock)
        rows = {row.shard: row for row in await store.rows()}
        for row in restarted(shards, rows, start, now):
            await self._write(source, store, row)

    async def _write(self, source: Source, store: LeaseStore, wanted: Row) -> None:
        for _ in range(_TRIES):
            current = await store.read(wanted.shard)
            if current is None:
                if await store.add(wanted):
                    return
                continue
            if await store.swap(current, current.anew(wanted)):
                return
        raise Unavailable(f"{source}: the lease of {wanted.shard} is written by others all the time; try again")
