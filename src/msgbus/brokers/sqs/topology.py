"""What a service declares, part by part: remembered, looked for, made where asked."""

from __future__ import annotations

import math
from collections.abc import Sequence

from msgbus.broker import Difference, Part, QueueSpec, TopicSpec
from msgbus.brokers.aws import AwsClient
from msgbus.brokers.sqs.queues import Queues
from msgbus.brokers.sqs.subscriptions import Subscriptions
from msgbus.brokers.sqs.targets import Targets
from msgbus.message import Address


class Topology:
    """Queues by `Queues`, topics and what subscribes to them by `Subscriptions`."""

    def __init__(self, client: AwsClient, targets: Targets, queues: Queues) -> None:
        self._targets = targets
        self._queues = queues
        self._subscriptions = Subscriptions(client, targets, queues)

    def declare(self, part: Part) -> None:
        """Remember what a part says of order and lease, whether or not it is looked for."""
        if isinstance(part, TopicSpec):
            self._targets.declare(Address("topic", part.name), ordered=part.ordered)
            return
        self._targets.declare(part.source.address, ordered=part.source.ordered)
        if isinstance(part, QueueSpec) and part.lease is not None:
            self._queues.leases[part.source.address] = float(math.ceil(part.lease))

    async def ensure(self, part: Part, *, create: bool) -> Sequence[Difference]:
        """What of one part is missing or differs; put right where `create`."""
        self.declare(part)
        if isinstance(part, TopicSpec):
            return await self._subscriptions.topic(part, create=create)
        if isinstance(part, QueueSpec):
            return await self._queues.ensure(part, create=create)
        return await self._subscriptions.binding(part, create=create)
