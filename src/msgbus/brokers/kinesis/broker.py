"""KinesisBroker: the data plane of `kinesis://`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from msgbus.broker import Capabilities, Mode, Receiver, Status
from msgbus.brokers.aws import AwsClient, Lifetime
from msgbus.brokers.aws.arns import Home
from msgbus.brokers.aws.session import configured_region
from msgbus.brokers.hiding import shown
from msgbus.brokers.kinesis.admin import KinesisAdmin
from msgbus.brokers.kinesis.batching import CALL_BYTES, RECORDS
from msgbus.brokers.kinesis.failures import Failures, failures_of
from msgbus.brokers.kinesis.fanout import Subscriber
from msgbus.brokers.kinesis.group import Group
from msgbus.brokers.kinesis.options import parse_url
from msgbus.brokers.kinesis.planning import Planning, table_name
from msgbus.brokers.kinesis.polling import Poller
from msgbus.brokers.kinesis.receiver import KinesisReceiver
from msgbus.brokers.kinesis.sending import KEY_ROOM, Sender
from msgbus.brokers.kinesis.shardwork import Hand, Reader
from msgbus.brokers.kinesis.stores import LeaseStore
from msgbus.brokers.kinesis.stores.dynamodb import DynamoStore
from msgbus.brokers.kinesis.stores.memory import MemoryStore
from msgbus.brokers.kinesis.stream import Limits, list_shards, summary
from msgbus.brokers.kinesis.topology import Topology
from msgbus.brokers.plan import Plan, Use
from msgbus.brokers.sqs.broker import SqsBroker
from msgbus.clock import Clock
from msgbus.errors import BusError, Refused, missing_extra
from msgbus.message import Outgoing, Receipt, Source


class KinesisBroker:
    """`kinesis://[REGION][?option=value...]`; the options are those of `KinesisOptions` and `AwsSettings`."""

    def __init__(self, url: str = "kinesis://", *, clock: Clock) -> None:
        self._settings, self._options, sqs = parse_url(url)
        self._clock = clock
        self._lifetime: Lifetime[KinesisReceiver] = Lifetime("kinesis", self._settings, clock)
        self._limits = Limits(self._options.record_bytes)
        self._sqs = SqsBroker(sqs, clock=clock)
        self._engine: Any = None
        self._sender: Sender
        self._admin: KinesisAdmin

    @property
    def admin(self) -> KinesisAdmin:
        """Topology and operations; there once it is connected."""
        _ = self._lifetime.client
        return self._admin

    async def connect(self) -> None:
        """Find credentials, region and endpoint. Nothing is sent yet. Raises Refused or Unavailable."""
        client = await self._lifetime.begin()
        if client is not None:
            self._sender = Sender(client, self._options, self._clock, self._limits)
            topology = Topology(client, self._options, self._clock, self._store, self._failures, self._limits)
            self._admin = KinesisAdmin(client, self._clock, topology, self._store, self._failures)

    async def close(self) -> None:
        """Receivers write their last checkpoints and free their leases first."""
        await self._lifetime.end()
        await self._sqs.close()
        engine, self._engine = self._engine, None
        if engine is not None:
            await engine.dispose()

    def capabilities(self, source: Source | None = None) -> Capabilities:
        """Of a stream, or of all; of an SQS queue where the source is one, which is how dead letters are read."""
        if source is not None and source.kind == "queue":
            return replace(self._sqs.capabilities(source), queues=False, fanout=True)
        options = self._options
        return Capabilities(
            send_batch=RECORDS,
            send_bytes=CALL_BYTES,
            send_slots=8,
            send_order="gated",
            message_bytes=(self._limits.of(source.name) if source is not None else self._limits.least) - KEY_ROOM,
            headers=0,
            receive_batch=1000,
            order="key",
            settle_batch=1000,
            dead_letters=options.failure == "sqs" or ":sqs:" in options.failure,
            counts_deliveries=True,
            isolates=True,
            release_counts=False,
            fanout=True,
            replay=True,
            backlog="all",
        )

    def plan(self, uses: Sequence[Use], mode: Mode) -> Plan:
        """What these uses need here: streams, tables, failure destinations and rights. Needs no connection."""
        region = self._settings.region or (configured_region(self._settings.profile) if self._settings.profile else "")
        return Planning(Home(region), self._options).plan(uses, mode)

    def status(self) -> Status:
        """Connected, as long as it is open; and how late each shard is that is read here."""
        if not self._lifetime.connected:
            return Status(False, reason="not connected")
        receivers = list(self._lifetime.receivers)
        reason = next((trouble for receiver in receivers if (trouble := receiver.trouble())), "")
        return Status(True, reason=reason, lags=[lag for receiver in receivers for lag in receiver.lags()])

    async def send(self, batch: Sequence[Outgoing]) -> Sequence[Receipt | BusError]:
        """By PutRecords."""
        _ = self._lifetime.client
        return await self._sender.send(batch)

    @asynccontextmanager
    async def receiver(self, source: Source, *, prefetch: int) -> AsyncIterator[Receiver]:
        """A worker of a group, or the queue of its dead letters. Raises Refused where stream or leases are missing."""
        client = self._lifetime.client
        if source.kind == "queue":
            await self._sqs.connect()
            async with self._sqs.receiver(source, prefetch=prefetch) as letters:
                yield letters
            return
        store = await self._ready(client, source)
        hand = Hand(prefetch, self._admin.caps.get(source.address))
        receiver = KinesisReceiver(source, self._failures(source), self._clock, hand)
        reader = self._reader(client, source, receiver)
        receiver.group = Group(
            source, store, lambda: list_shards(client, source.name), reader, self._clock, self._options, receiver, hand
        )
        receiver.group.start()
        async with self._lifetime.lend(receiver):
            yield receiver

    def _reader(self, client: AwsClient, source: Source, receiver: KinesisReceiver) -> Reader:
        if self._options.fanout:
            return Subscriber(client, self._clock, source.name, source.group, receiver.came)
        return Poller(client, source.name, self._options, self._clock, receiver.came)

    async def _ready(self, client: AwsClient, source: Source) -> LeaseStore:
        """The leases of a group whose stream is there; its first ones are made where there are none."""
        if source.kind != "topic":
            raise Refused(f"{source}: Kinesis has streams for topics and nothing else")
        if await summary(client, source.name) is None:
            raise Refused(
                f"{source}: no Kinesis stream {source.name} in this account and region; with MSGBUS_PROVISION=create"
                " its consumer makes it at start"
            )
        store = self._store(source)
        if not await store.is_there():
            if self._options.leases != "memory":
                raise Refused(
                    f"{source}: the lease table {store.name} is not there; start once with MSGBUS_PROVISION=create"
                )
            await store.ensure("create")
        if not await store.rows():
            await self._admin.topology.begin(source, store)
        return store

    def _store(self, source: Source) -> LeaseStore:
        client, leases = self._lifetime.client, self._options.leases
        name = table_name(source, self._options)
        if leases == "dynamodb":
            return DynamoStore(client, name, self._clock)
        if leases == "memory":
            return MemoryStore(f"{self._settings.endpoint or ''}{self._settings.region or ''}", name)
        try:
            from msgbus.brokers.databases import open_engine  # noqa: PLC0415 - optional
            from msgbus.brokers.kinesis.stores.sql import SqlStore  # noqa: PLC0415
        except ModuleNotFoundError as error:
            raise missing_extra(f"leases={shown(leases)}", error, "sql") from error
        if self._engine is None:
            self._engine = open_engine(leases)
        return SqlStore(self._engine, name)

    def _failures(self, source: Source) -> Failures:
        return failures_of(source, self._lifetime.client, self._options)
