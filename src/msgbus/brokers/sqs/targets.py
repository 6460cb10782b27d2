"""Where addresses lead: queue URLs and topic ARNs, looked up once."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from msgbus.brokers.aws import AwsClient, native_code
from msgbus.brokers.aws.codes import DENIED
from msgbus.brokers.sqs.names import Place, arn, is_fifo, queue_name, topic_name
from msgbus.brokers.sqs.wire import TYPE_BYTES
from msgbus.errors import Refused
from msgbus.message import Address

QUEUE_BYTES = 1024 * 1024
TOPIC_BYTES = 256 * 1024
"""What a message may have, and a batch in sum: of a queue, and of a topic unless its MaximumMessageSize says more."""

RESERVE = 4096
"""Bytes of a queue's limit that are kept free: where a dead letter says why it is one."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where an address leads: `where` is a queue's URL or a topic's ARN, `limit` its most bytes a call."""

    service: str
    where: str
    limit: int
    fifo: bool

    @property
    def message_bytes(self) -> int:
        """Most bytes of one message, attributes included."""
        return self.limit - (RESERVE if self.service == "sqs" else TYPE_BYTES)


def queue_target(url: str) -> Target:
    """The target of a queue's URL."""
    return Target("sqs", url, QUEUE_BYTES, is_fifo(url))


def topic_target(topic: str, limit: int = TOPIC_BYTES) -> Target:
    """The target of a topic's ARN."""
    return Target("sns", topic, limit, is_fifo(topic))


class Targets:
    """Knows what it was told by the topology, and asks AWS for the rest.

    Whether an address that was never declared here keeps order is seen by which queue there is: `NAME` or
    `NAME.fifo`.
    """

    def __init__(self, client: AwsClient, account: str, places: Mapping[Address, Place] | None = None) -> None:
        self.known: dict[Address, Target] = {}
        self._places = dict(places or {})
        self._client = client
        self._account = account
        self._own_account = account
        self._region = ""
        self._ordered: dict[Address, bool] = {}
        self._lock = asyncio.Lock()

    def declare(self, address: Address, *, ordered: bool) -> None:
        """The topology says whether it keeps order."""
        if self._ordered.get(address, ordered) != ordered:
            self.known.pop(address, None)
        self._ordered[address] = ordered

    def is_given(self, address: Address) -> bool:
        """Whether the URL says where it is: then it is not ours to make or to change."""
        return address in self._places

    def queue(self, address: Address, *, ordered: bool) -> tuple[str, str]:
        """Name and account of its queue; account "": the broker's own. Raises Refused where order can't be kept."""
        place = self._places.get(address)
        if place is None:
            return queue_name(address, ordered=ordered), ""
        if ordered and not is_fifo(place.name):
            raise Refused(f"{address}: ordered=True, and the queue that the URL gives, {place.name}, is no FIFO queue")
        return place.name, place.account

    async def topic(self, name: str, *, ordered: bool) -> str:
        """The ARN of its topic, whether or not it is there."""
        place = self._places.get(Address("topic", name))
        if place is None:
            return await self.topic_arn(topic_name(name, ordered=ordered))
        return arn("sns", place.region, place.account, place.name)

    async def of(self, address: Address) -> Target:
        """Where it leads. Raises Refused where nothing is there."""
        target = self.known.get(address)
        if target is not None:
            return target
        async with self._lock:
            target = self.known.get(address)
            if target is None:
                target = self.known[address] = await self._look_up(address)
        return target

    async def _look_up(self, address: Address) -> Target:
        if address.kind == "reply":
            return queue_target(_checked_url(address))
        place = self._places.get(address)
        if place is not None and place.region != await self.region():
            raise Refused(
                f"{address}: at.{address.name} is in {place.region}, this broker in {await self.region()}; route it to"
                " a broker of its own with MSGBUS_ROUTES"
            )
        declared = self._ordered.get(address)
        choices = (False, True) if declared is None and place is None else (bool(declared),)
        if address.kind == "topic" and not address.group:
            return await self._first_topic(address, [await self.topic(address.name, ordered=each) for each in choices])
        return await self._first_queue(address, [self.queue(address, ordered=each) for each in choices])

    async def _first_queue(self, address: Address, queues: Sequence[tuple[str, str]]) -> Target:
        for name, account in queues:
            url = await self.queue_url(name, account)
            if url is not None:
                return queue_target(url)
        names = " or ".join(dict.fromkeys(name for name, _ in queues))
        raise Refused(
            f"{address}: no SQS queue {names} in this account and region; with"
            " MSGBUS_PROVISION=create its consumer makes it at start"
        )

    async def _first_topic(self, address: Address, topics: Sequence[str]) -> Target:
        for topic in dict.fromkeys(topics):
            try:
                found = await self._client.find("sns", "GetTopicAttributes", {"TopicArn": topic})
            except Refused as error:
                if native_code(error) in DENIED:  # publishing needs no right to look at the topic
                    return topic_target(topic)
                raise
            if found is not None:
                return topic_target(topic, int(found["Attributes"].get("MaximumMessageSize", TOPIC_BYTES)))
        names = " or ".join(dict.fromkeys(topic.rpartition(":")[2] for topic in topics))
        raise Refused(
            f"{address}: no SNS topic {names} in this account and region; with"
            " MSGBUS_PROVISION=create it is made when first published to"
        )

    async def queue_url(self, name: str, account: str = "") -> str | None:
        """The URL of a queue, None where it is not there. Raises what else went wrong."""
        params: dict[str, Any] = {"QueueName": name}
        if owner := account or self._account:
            params["QueueOwnerAWSAccountId"] = owner
        answer = await self._client.find("sqs", "GetQueueUrl", params, f"queue {name}")
        return None if answer is None else str(answer["QueueUrl"])

    async def topic_arn(self, name: str) -> str:
        """The ARN that a topic has, whether or not it is there."""
        return arn("sns", await self.region(), await self.account(), name)

    async def account(self) -> str:
        """The account that owns queues and topics: the one of the URL, else that of the credentials."""
        if not self._own_account:
            self._own_account = str((await self._client.call("sts", "GetCallerIdentity", {}))["Account"])
        return self._own_account

    async def region(self) -> str:
        """The region that botocore's chain gave."""
        if not self._region:
            async with self._client.client("sqs") as cold:
                self._region = str(cold.meta.region_name)
        return self._region


def _checked_url(address: Address) -> str:
    try:
        parts = urlsplit(address.name)
    except ValueError as error:
        raise Refused(f"{address}: no reply address of SQS: {error}") from error
    if parts.scheme not in ("http", "https") or parts.path.count("/") < 2:
        raise Refused(f"{address}: no reply address of SQS: expected the URL of a queue")
    return address.name
