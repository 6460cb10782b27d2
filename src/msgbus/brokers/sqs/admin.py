"""SqsAdmin: the cold side of `sqs://`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgbus.broker import Backlog, Difference, Mode, Part
from msgbus.brokers.aws import AwsClient, native_code
from msgbus.brokers.sqs.moving import move_all, serves_one
from msgbus.brokers.sqs.names import dead_name, dead_source, is_fifo, split_arn
from msgbus.brokers.sqs.queues import Queues
from msgbus.brokers.sqs.targets import Targets
from msgbus.brokers.sqs.topology import Topology
from msgbus.clock import Clock
from msgbus.errors import Refused, Throttled
from msgbus.message import Source, Start

_PURGE_PAUSE = 60.0  # seconds between two purges of a queue

_COUNTS = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesDelayed", "ApproximateNumberOfMessagesNotVisible")


class SqsAdmin:
    """Topology and operations, by aiobotocore."""

    def __init__(self, client: AwsClient, targets: Targets, queues: Queues, clock: Clock) -> None:
        self._topology = Topology(client, targets, queues)
        self._queues = queues
        self._clock = clock
        self._client = client
        self._targets = targets

    async def ensure(self, topology: Sequence[Part], mode: Mode) -> Sequence[Difference]:
        """Part by part, in their order. "trust" remembers what each says and asks AWS nothing."""
        differences: list[Difference] = []
        for part in topology:
            if mode == "trust":
                self._topology.declare(part)
            else:
                differences += await self._topology.ensure(part, create=mode == "create")
        return differences

    async def dead_letters(self, source: Source) -> Source | None:
        """The queue that the redrive policy names, else the one that `create` would make, if it is there."""
        name, account = self._targets.queue(source.address, ordered=source.ordered)
        url = await self._targets.queue_url(name, account)
        if url is None:
            return None
        dead = (await self._queues.settings(url)).dead
        place = dead_name(name) if dead is None else split_arn(dead)[1]
        if dead is None and await self._targets.queue_url(place) is None:
            return None
        return dead_source(place)

    async def move_dead_letters(self, source: Source, progress: Callable[[int], object] | None) -> int | None:
        """By StartMessageMoveTask, where the dead-letter queue is this one's alone.

        None on FIFO queues too: what comes back within 5 minutes under its old deduplication id would be swallowed.
        """
        name, account = self._targets.queue(source.address, ordered=source.ordered)
        url = await self._targets.queue_url(name, account)
        if url is None or is_fifo(name):
            return None
        settings = await self._queues.settings(url)
        if settings.dead is None or settings.arn is None:
            return None
        owner, dead = split_arn(settings.dead)
        dead_url = await self._targets.queue_url(dead, owner)
        if dead_url is None or not await serves_one(self._client, dead_url):
            return None
        return await move_all(self._client, self._clock, settings.dead, settings.arn, progress)

    async def purge(self, source: Source) -> int:
        """PurgeQueue, which takes up to a minute; how many there were, about. Raises Throttled within a minute."""
        backlog = await self.backlog(source)
        url = await self._url(source)
        try:
            await self._client.call("sqs", "PurgeQueue", {"QueueUrl": url})
        except Refused as error:
            if native_code(error) == "PurgeQueueInProgress":
                raise Throttled(str(error), _PURGE_PAUSE) from error.__cause__
            raise
        return backlog.depth

    async def backlog(self, source: Source) -> Backlog:
        """Approximate, and behind by up to a minute; SQS tells no ages here."""
        params = {"QueueUrl": await self._url(source), "AttributeNames": _COUNTS}
        found = (await self._client.call("sqs", "GetQueueAttributes", params))["Attributes"]
        ready, delayed, in_flight = (int(found.get(name, 0)) for name in _COUNTS)
        return Backlog(ready + delayed, in_flight)

    async def seek(self, source: Source, start: Start) -> None:
        """There is no replay on SQS."""
        raise Refused(f"{source}: SQS keeps nothing for replay; route the topic to Kinesis or EventBridge")

    async def _url(self, source: Source) -> str:
        self._targets.declare(source.address, ordered=source.ordered)
        return (await self._targets.of(source.address)).where
