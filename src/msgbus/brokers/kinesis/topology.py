"""What exists on the AWS side: streams, lease tables, failure destinations, registered consumers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from msgbus.broker import Binding, Difference, Mode, Part, TopicSpec
from msgbus.brokers.aws import AwsClient
from msgbus.brokers.kinesis import planning
from msgbus.brokers.kinesis.balance import first_rows
from msgbus.brokers.kinesis.failures import Failures
from msgbus.brokers.kinesis.options import KinesisOptions
from msgbus.brokers.kinesis.stores import LeaseStore
from msgbus.brokers.kinesis.stream import Limits, list_shards, record_bytes_of, server_time, summary
from msgbus.clock import Clock
from msgbus.errors import Refused, Unavailable
from msgbus.message import Source, Start

_LOOKS, _PAUSE = 120, 0.5  # at a stream that is being made, and seconds between them


class Topology:
    """Looks, and creates where asked."""

    def __init__(
        self,
        client: AwsClient,
        options: KinesisOptions,
        clock: Clock,
        store_of: Callable[[Source], LeaseStore],
        failures_of: Callable[[Source], Failures],
        limits: Limits,
    ) -> None:
        self._client = client
        self._limits = limits
        self._options = options
        self._clock = clock
        self._store_of = store_of
        self._failures_of = failures_of

    async def ensure(self, part: Part, mode: Mode) -> Sequence[Difference]:
        """What of one part is missing; made where `mode` is "create"."""
        if isinstance(part, TopicSpec):
            return await self._stream(part.name, mode)
        if part.source.kind != "topic":
            raise Refused(f"{part.source}: Kinesis has streams for topics and nothing else")
        if isinstance(part, Binding):
            return await self._group(part.source, mode)
        differences = list(await self._failures_of(part.source).ensure(mode))
        store = self._store_of(part.source)
        if not await store.is_there():
            made = await store.ensure(mode)
            differences.append(Difference(f"lease table {store.name}", "there", "missing", made=made))
        return differences

    async def _stream(self, name: str, mode: Mode) -> Sequence[Difference]:
        told = await summary(self._client, name)
        if told is not None:
            self._limits.learn(name, told)
            return self._too_small(name, told)
        if mode == "create":
            await self._create(name)
        return [Difference(f"Kinesis stream {name}", "there", "missing", made=mode == "create")]

    def _too_small(self, name: str, told: Mapping[str, Any]) -> Sequence[Difference]:
        """A stream that says a lower limit than the URL does would refuse what is sent."""
        wanted, found = self._options.record_bytes, record_bytes_of(told)
        if told.get("MaxRecordSizeInKiB") is None or wanted <= found:
            return []
        return [Difference(f"largest record of Kinesis stream {name}", f"{wanted} bytes", f"{found} bytes")]

    async def _create(self, name: str) -> None:
        params = {"StreamName": name, **planning.stream(name, self._options).properties}
        await self._client.make("kinesis", "CreateStream", params)
        for _ in range(_LOOKS):
            told = await summary(self._client, name)
            if told is not None and told["StreamStatus"] != "CREATING":
                self._limits.learn(name, told)
                return
            await self._clock.sleep(_PAUSE if told is not None else _PAUSE / 10)
        raise Unavailable(f"kinesis: stream {name} is still not active after {_LOOKS * _PAUSE:g} s")

    async def _group(self, source: Source, mode: Mode) -> Sequence[Difference]:
        """The leases of a group say where it begins, so they are made when it subscribes, not when it first reads.

        They are the service's own rows, which who deploys its table can't write: without them it is as declared.
        """
        what = f"leases of {source}"
        store = self._store_of(source)
        if not await store.is_there():
            return [Difference(what, "there", "missing")]
        if mode != "create" or await store.rows():
            return []
        await self.begin(source, store)
        return [Difference(what, "there", "missing", made=True)]

    async def begin(self, source: Source, store: LeaseStore) -> None:
        """The first leases of a group. Two who do it at once make the same ones, or nearly: the first stays."""
        start = source.start or Start(self._options.start)
        shards = await list_shards(self._client, source.name)
        now = await server_time(self._client, self._clock)
        for row in first_rows(shards, start, now):
            await store.add(row)
