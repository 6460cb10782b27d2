"""Queues with their dead-letter queues: what they say of themselves, and how they are made."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from msgbus.broker import Difference, QueueSpec
from msgbus.brokers.aws import AwsClient, native_code
from msgbus.brokers.aws.codes import DENIED
from msgbus.brokers.plan import Resource
from msgbus.brokers.sqs import plans
from msgbus.brokers.sqs.names import dead_name, split_arn
from msgbus.brokers.sqs.policy import allowed, with_permission
from msgbus.brokers.sqs.targets import Target, Targets, queue_target
from msgbus.errors import Refused
from msgbus.message import Address, Source

LEASE = 30.0
"""Seconds of visibility that SQS gives to a queue by itself."""


@dataclass(frozen=True, slots=True)
class QueueSettings:
    """What a queue says of itself; None where it says nothing, or where we may not ask.

    `lease`: its visibility timeout in seconds. `dead`: the ARN of its dead-letter queue. `receives`: its
    maxReceiveCount.
    """

    arn: str | None = None
    lease: float | None = None
    dead: str | None = None
    receives: int | None = None
    policy: str = ""


class Queues:
    """Looks, and creates where asked. `leases`: seconds by address, which every receive asks for."""

    def __init__(self, client: AwsClient, targets: Targets, leases: dict[Address, float]) -> None:
        self.leases = leases
        self._client = client
        self._targets = targets
        self._dead: dict[str, Target] = {}

    # -- looking

    async def settings(self, url: str) -> QueueSettings:
        """Of a queue. Nothing is known where GetQueueAttributes is not allowed."""
        names = ("QueueArn", "VisibilityTimeout", "RedrivePolicy", "Policy")
        try:
            answer = await self._client.call("sqs", "GetQueueAttributes", {"QueueUrl": url, "AttributeNames": names})
        except Refused as error:
            if native_code(error) in DENIED:
                return QueueSettings()
            raise
        found = answer.get("Attributes") or {}
        redrive = json.loads(found.get("RedrivePolicy") or "{}")
        receives = redrive.get("maxReceiveCount")
        return QueueSettings(
            found["QueueArn"],
            float(found["VisibilityTimeout"]),
            redrive.get("deadLetterTargetArn"),
            None if receives is None else int(receives),
            found.get("Policy") or "",
        )

    async def dead_target(self, source: Source, settings: QueueSettings) -> Target:
        """Where dead letters of a queue are sent. Raises Refused where there is no such queue."""
        if settings.dead is not None:
            account, name = split_arn(settings.dead)
        else:
            name, account = self._targets.queue(source.address, ordered=source.ordered)
            name = dead_name(name)
        known = self._dead.get(name)
        if known is None:
            url = await self._targets.queue_url(name, account)
            if url is None:
                raise Refused(
                    f"{source}: its dead-letter queue {name} is not there; create it, or start once with"
                    " MSGBUS_PROVISION=create"
                )
            known = self._dead[name] = queue_target(url)
        return known

    # -- making

    async def ensure(self, part: QueueSpec, *, create: bool) -> Sequence[Difference]:
        """What of a queue is missing or differs; put right where `create`."""
        source = part.source
        name, account = self._targets.queue(source.address, ordered=source.ordered)
        url = await self._targets.queue_url(name, account)
        if self._targets.is_given(source.address):
            return [] if url is not None else [Difference(f"SQS queue {name} of {account}", "there", "missing")]
        if url is None:
            if create:
                url = await self._create(part, name)
                self._targets.known[source.address] = queue_target(url)
            return [Difference(f"SQS queue {name}", "there", "missing", made=create)]
        self._targets.known[source.address] = queue_target(url)
        settings = await self.settings(url)
        if part.lease is None and settings.lease is not None:
            self.leases[source.address] = settings.lease or LEASE
        wanted, differences = _compare(part, name, settings)
        if create and wanted:
            if "RedrivePolicy" in wanted:
                dead = settings.dead or await self._dead_arn(name)
                wanted["RedrivePolicy"] = plans.redrive(dead, wanted["RedrivePolicy"])
            await self._set(url, plans.encoded(wanted))
            return [Difference(each.part, each.wanted, each.found, made=True) for each in differences]
        return differences

    async def _create(self, part: QueueSpec, name: str) -> str:
        return await create_queue(self._client, plans.queue(part, name, await self._dead_arn(name)))

    async def _dead_arn(self, name: str) -> str:
        """The ARN of a queue's dead-letter queue, made where it is missing."""
        dead = plans.dead_queue("", name)
        url = await self._targets.queue_url(dead.name) or await create_queue(self._client, dead)
        params = {"QueueUrl": url, "AttributeNames": ("QueueArn",)}
        return str((await self._client.call("sqs", "GetQueueAttributes", params))["Attributes"]["QueueArn"])

    # -- who may send

    async def permit(self, url: str, settings: QueueSettings, sender: str, *, create: bool) -> list[Difference]:
        """That topic, and no other, may send to the queue, and to its dead-letter queue what it couldn't deliver."""
        differences = await self._permit(url, settings, sender, create=create)
        if settings.dead is not None:
            account, name = split_arn(settings.dead)
            dead = await self._targets.queue_url(name, account)
            if dead is not None:
                differences += await self._permit(dead, await self.settings(dead), sender, create=create)
        return differences

    async def _permit(self, url: str, settings: QueueSettings, sender: str, *, create: bool) -> list[Difference]:
        queue = str(settings.arn)
        if allowed(settings.policy, queue, sender):
            return []
        if create:
            await self._set(url, {"Policy": with_permission(settings.policy, queue, sender)})
        return [Difference(f"policy of {queue}", f"lets {sender} send", "does not", made=create)]

    async def _set(self, url: str, attributes: Mapping[str, str]) -> None:
        await self._client.call("sqs", "SetQueueAttributes", {"QueueUrl": url, "Attributes": attributes})


async def create_queue(client: AwsClient, queue: Resource) -> str:
    """Make a queue; its URL."""
    params = {"QueueName": queue.name, "Attributes": plans.encoded(queue.properties), "tags": queue.tags}
    return str((await client.call("sqs", "CreateQueue", params, f"queue {queue.name}"))["QueueUrl"])


def _compare(part: QueueSpec, name: str, settings: QueueSettings) -> tuple[dict[str, Any], list[Difference]]:
    """The attributes to set, and how the queue differs. A dead-letter queue of another name is the owner's choice.

    Of a RedrivePolicy it is the count alone.
    """
    asked = plans.queue(part, name, settings.dead).properties
    wanted: dict[str, Any] = {}
    differences: list[Difference] = []
    what = f"SQS queue {name}"
    lease = asked.get("VisibilityTimeout")
    if settings.arn is not None and lease is not None and settings.lease != lease:
        wanted["VisibilityTimeout"] = lease
        differences.append(Difference(f"visibility timeout of {what}", f"{lease} s", f"{settings.lease:g} s"))
    count = asked["RedrivePolicy"]["maxReceiveCount"]
    receives = count if part.max_deliveries or settings.dead is None else settings.receives
    if settings.arn is not None and settings.receives != receives:
        wanted["RedrivePolicy"] = receives
        found = "no redrive policy" if settings.receives is None else str(settings.receives)
        differences.append(Difference(f"maxReceiveCount of {what}", str(receives), found))
    return wanted, differences
