"""SqsBroker: the data plane of `sqs://`."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from msgbus.broker import Capabilities, Mode, Status
from msgbus.brokers.aws import Lifetime
from msgbus.brokers.aws.arns import Home
from msgbus.brokers.aws.session import configured_region
from msgbus.brokers.plan import Plan, Use
from msgbus.brokers.sqs.admin import SqsAdmin
from msgbus.brokers.sqs.attempts import Attempts
from msgbus.brokers.sqs.inbox import open_inbox
from msgbus.brokers.sqs.names import INBOXES
from msgbus.brokers.sqs.options import parse_url
from msgbus.brokers.sqs.planning import Planning
from msgbus.brokers.sqs.polls import PollOptions
from msgbus.brokers.sqs.queues import LEASE, Queues
from msgbus.brokers.sqs.receiver import ReceiverOptions, SqsReceiver
from msgbus.brokers.sqs.sending import BATCH, LONGEST_DELAY, Sender
from msgbus.brokers.sqs.settling import LONGEST, QueueCalls
from msgbus.brokers.sqs.targets import QUEUE_BYTES, RESERVE, TOPIC_BYTES, Target, Targets
from msgbus.brokers.sqs.wire import ATTRIBUTES
from msgbus.clock import Clock
from msgbus.errors import BusError
from msgbus.message import Address, Outgoing, Receipt, Source

_LINGER = 0.005
_WINDOW = 300.0  # seconds of FIFO deduplication


class SqsBroker:
    """`sqs://[REGION][?option=value...]`; the options are those of `SqsOptions` and `AwsSettings`."""

    def __init__(self, url: str = "sqs://", *, clock: Clock) -> None:
        self._settings, self._options = parse_url(url)
        self._clock = clock
        self._lifetime: Lifetime[SqsReceiver] = Lifetime("sqs", self._settings, clock)
        self._targets: Targets
        self._queues: Queues
        self._sender: Sender
        self._admin: SqsAdmin
        self._leases: dict[Address, float] = {}
        self._attempts = Attempts()

    @property
    def admin(self) -> SqsAdmin:
        """Topology and operations; there once it is connected."""
        _ = self._lifetime.client
        return self._admin

    async def connect(self) -> None:
        """Find credentials, region and endpoint. Nothing is sent yet. Raises Refused or Unavailable."""
        client = await self._lifetime.begin()
        if client is not None:
            self._targets = Targets(client, self._options.account, self._options.places)
            self._queues = Queues(client, self._targets, self._leases)
            self._sender = Sender(client, self._targets, fair=self._options.fair)
            self._admin = SqsAdmin(client, self._targets, self._queues, self._clock)

    async def close(self) -> None:
        """Polls under way end first, so that what they bring is given back."""
        await self._lifetime.end()

    def capabilities(self, source: Source | None = None) -> Capabilities:
        """Of a queue, where there is no source. A FIFO source keeps order and has no linger: a key waits for it."""
        fifo = source is not None and source.ordered
        limit = QUEUE_BYTES - RESERVE
        is_topic = source is not None and source.kind == "topic" and not source.group
        if source is not None and is_topic:
            known = self._targets.known.get(source.address) if self._lifetime.connected else None
            limit = known.message_bytes if known is not None else TOPIC_BYTES
        return Capabilities(
            send_batch=BATCH,
            send_bytes=QUEUE_BYTES - RESERVE,
            send_slots=8,
            send_order="gated",
            send_delay=None if fifo or is_topic else LONGEST_DELAY,
            message_bytes=limit,
            headers=ATTRIBUTES,
            dedup_window=_WINDOW if fifo else None,
            receive_batch=10 * BATCH,
            order="key",
            lease=LEASE if source is None else self._lease(source),
            lease_extends=True,
            lease_max=float(LONGEST),
            counts_deliveries=True,
            release_counts=True,
            settle_batch=BATCH,
            settle_slots=8,
            settle_linger=0.0 if fifo else _LINGER,
            confirms_settlement=True,
            retry_delay=float(LONGEST),
            retry_resolution=1.0,
            retry_keeps_order=True,
            dead_letters=True,
            fanout=True,
            queues=True,
            reply=True,
            inboxes=INBOXES,
            backlog="all",
        )

    def plan(self, uses: Sequence[Use], mode: Mode) -> Plan:
        """What these uses need here: queues, topics, subscriptions and rights. Needs no connection."""
        region = self._settings.region or (configured_region(self._settings.profile) if self._settings.profile else "")
        return Planning(Home(region, self._options.account), self._options).plan(uses, mode)

    def _lease(self, source: Source) -> float:
        """Once said it stays, whatever others make of the queue meanwhile: every receive asks for it."""
        return self._leases.setdefault(source.address, LEASE)

    def status(self) -> Status:
        """Connected, as long as it is open."""
        connected = self._lifetime.connected
        return Status(connected, reason="" if connected else "not connected")

    async def send(self, batch: Sequence[Outgoing]) -> Sequence[Receipt | BusError]:
        """Queues by SendMessageBatch, topics by PublishBatch."""
        _ = self._lifetime.client
        return await self._sender.send(batch)

    @asynccontextmanager
    async def receiver(self, source: Source, *, prefetch: int) -> AsyncIterator[SqsReceiver]:
        """Open a queue; a reply inbox is made here and gone at the exit. Raises Refused where it is not there."""
        client = self._lifetime.client
        if source.kind == "reply":
            async with (
                open_inbox(client, self._targets, self._clock, self._options.reply_queue) as target,
                self._open(source, target, prefetch) as receiver,
            ):
                yield receiver
            return
        self._targets.declare(source.address, ordered=source.ordered)
        target = await self._targets.of(source.address)
        async with self._open(source, target, prefetch) as receiver:
            yield receiver

    @asynccontextmanager
    async def _open(self, source: Source, target: Target, prefetch: int) -> AsyncIterator[SqsReceiver]:
        client, queues = self._lifetime.client, self._queues
        settings = await queues.settings(target.where)
        lease = self._leases.setdefault(source.address, settings.lease or LEASE)
        options = ReceiverOptions(
            prefetch=prefetch,
            lease=lease,
            unwrap=self._options.unwrap,
            polls=PollOptions(self._options.wait, self._options.polls, math.ceil(lease)),
            attempts=self._attempts if target.fifo else None,
            address=target.where if source.kind == "reply" else "",
        )
        calls = QueueCalls(client, target.where, lambda: queues.dead_target(source, settings))
        async with self._lifetime.lend(SqsReceiver(source, calls, self._clock, options)) as receiver:
            yield receiver
