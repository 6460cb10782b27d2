"""What exists on the AWS side: queues with their dead-letter queues, topics, subscriptions, policies."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from msgbus.broker import Binding, Difference, Part, QueueSpec, TopicSpec
from msgbus.brokers.aws import AwsClient, native_code
from msgbus.brokers.aws.codes import DENIED, MISSING
from msgbus.brokers.sqs.names import arn, dead_name, is_fifo, split_arn
from msgbus.brokers.sqs.policy import allowed, with_permission
from msgbus.brokers.sqs.targets import TOPIC_BYTES, Target, Targets, ask, queue_target, topic_target
from msgbus.errors import Refused
from msgbus.message import Address, Source

RECEIVES = 100
"""maxReceiveCount where a QueueSpec says nothing: the native safety net, far above any number of attempts."""

_MOST_RECEIVES = 1000  # a quota of SQS
_KEEP_DEAD = 14 * 86_400  # seconds, the longest that SQS keeps anything
_TAG = "msgbus"
_PENDING = "PendingConfirmation"  # in place of a subscription's ARN
_SCOPE = "FilterPolicyScope"
_OF_ATTRIBUTES = "MessageAttributes"
_OF_BODY = "MessageBody"


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


class Topology:
    """Looks, and creates where asked. `leases`: seconds by address, filled by what is declared."""

    def __init__(self, client: AwsClient, targets: Targets, leases: dict[Address, float]) -> None:
        self._client = client
        self._targets = targets
        self._leases = leases
        self._dead: dict[str, Target] = {}

    # -- looking

    async def settings(self, url: str) -> QueueSettings:
        """Of a queue. Nothing is known where GetQueueAttributes is not allowed."""
        names = ("QueueArn", "VisibilityTimeout", "RedrivePolicy", "Policy")
        try:
            answer = await ask(self._client, "sqs", "GetQueueAttributes", {"QueueUrl": url, "AttributeNames": names})
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

    # -- declaring

    def declare(self, part: Part) -> None:
        """Remember what a part says of order and lease, whether or not it is looked for."""
        if isinstance(part, TopicSpec):
            self._targets.declare(Address("topic", part.name), ordered=part.ordered)
            return
        self._targets.declare(part.source.address, ordered=part.source.ordered)
        if isinstance(part, QueueSpec) and part.lease is not None:
            self._leases[part.source.address] = float(math.ceil(part.lease))

    async def ensure(self, part: Part, *, create: bool) -> Sequence[Difference]:
        """What of one part is missing or differs; put right where `create`."""
        self.declare(part)
        if isinstance(part, TopicSpec):
            return await self._topic(part, create=create)
        if isinstance(part, QueueSpec):
            return await self._queue(part, create=create)
        return await self._binding(part, create=create)

    async def _topic(self, part: TopicSpec, *, create: bool) -> Sequence[Difference]:
        address, topic = Address("topic", part.name), await self._targets.topic(part.name, ordered=part.ordered)
        name = topic.rpartition(":")[2]
        found = await self._topic_attributes(topic)
        if found is None and (not create or self._targets.is_given(address)):
            return [Difference(f"SNS topic {name}", "there", "missing")]
        if found is None:
            params: dict[str, Any] = {"Name": name, "Tags": [{"Key": _TAG, "Value": "topic"}]}
            if is_fifo(name):
                params["Attributes"] = {"FifoTopic": "true", "ContentBasedDeduplication": "false"}
            topic = (await ask(self._client, "sns", "CreateTopic", params, f"topic {name}"))["TopicArn"]
        limit = int((found or {}).get("MaximumMessageSize", TOPIC_BYTES))
        self._targets.known[address] = topic_target(topic, limit)
        return [Difference(f"SNS topic {name}", "there", "missing", made=True)] if found is None else []

    async def _topic_attributes(self, topic: str) -> Mapping[str, str] | None:
        try:
            answer = await ask(self._client, "sns", "GetTopicAttributes", {"TopicArn": topic})
        except Refused as error:
            if native_code(error) in MISSING:
                return None
            raise
        return answer["Attributes"]  # type: ignore[no-any-return]

    async def _queue(self, part: QueueSpec, *, create: bool) -> Sequence[Difference]:
        source = part.source
        name, account = self._targets.queue(source.address, ordered=source.ordered)
        url = await self._targets.queue_url(name, account)
        if self._targets.is_given(source.address):
            return [] if url is not None else [Difference(f"SQS queue {name} of {account}", "there", "missing")]
        if url is None:
            if create:
                url = await self._create_queue(part, name)
                self._targets.known[source.address] = queue_target(url)
            return [Difference(f"SQS queue {name}", "there", "missing", made=create)]
        self._targets.known[source.address] = queue_target(url)
        settings = await self.settings(url)
        if part.lease is None and settings.lease is not None:
            self._leases[source.address] = settings.lease
        wanted, differences = _compare(part, name, settings)
        if create and wanted:
            if "RedrivePolicy" in wanted and settings.dead is None:
                wanted["RedrivePolicy"] = _redrive(await self._dead_arn(name), part)
            await ask(self._client, "sqs", "SetQueueAttributes", {"QueueUrl": url, "Attributes": wanted})
            return [Difference(each.part, each.wanted, each.found, made=True) for each in differences]
        return differences

    async def _create_queue(self, part: QueueSpec, name: str) -> str:
        attributes = {"RedrivePolicy": _redrive(await self._dead_arn(name), part)}
        if part.lease is not None:
            attributes["VisibilityTimeout"] = str(math.ceil(part.lease))
        return await self.create_queue(name, attributes, {_TAG: str(part.source)})

    async def create_queue(self, name: str, attributes: Mapping[str, str], tags: Mapping[str, str]) -> str:
        """Make a queue; its URL. A FIFO queue gets high throughput: ids are compared per group."""
        more = {"FifoQueue": "true", "DeduplicationScope": "messageGroup", "FifoThroughputLimit": "perMessageGroupId"}
        params = {"QueueName": name, "Attributes": {**attributes, **(more if is_fifo(name) else {})}, "tags": tags}
        return str((await ask(self._client, "sqs", "CreateQueue", params, f"queue {name}"))["QueueUrl"])

    async def _dead_arn(self, name: str) -> str:
        """The ARN of a queue's dead-letter queue, made where it is missing."""
        dead = dead_name(name)
        url = await self._targets.queue_url(dead)
        if url is None:
            keep = {"MessageRetentionPeriod": str(_KEEP_DEAD)}
            url = await self.create_queue(dead, keep, {_TAG: f"dead letters of {name}"})
        return await self._arn(url)

    async def _arn(self, url: str) -> str:
        params = {"QueueUrl": url, "AttributeNames": ("QueueArn",)}
        return str((await ask(self._client, "sqs", "GetQueueAttributes", params))["Attributes"]["QueueArn"])

    # -- subscriptions

    async def _binding(self, part: Binding, *, create: bool) -> Sequence[Difference]:
        source = part.source
        name, account = self._targets.queue(source.address, ordered=source.ordered)
        topic = await self._targets.topic(part.topic, ordered=source.ordered)
        what = f"SNS subscription of SQS queue {name} to {topic}"
        url = await self._targets.queue_url(name, account)
        if url is None or (not create and await self._topic_attributes(topic) is None):
            return [Difference(what, "there", "missing")]
        settings = await self.settings(url)
        if settings.arn is None and account:  # of somebody who doesn't let us look
            settings = replace(settings, arn=arn("sqs", await self._targets.region(), account, name))
        given = self._targets.is_given(source.address)
        differences = [] if given else await self._permission(url, settings, topic, create=create)
        wanted = _subscription_attributes(source, settings)
        subscription = await self._find_subscription(topic, str(settings.arn))
        if subscription == _PENDING:
            return [*differences, Difference(what, "confirmed by the queue's owner", "pending confirmation")]
        if subscription is None:
            if create:
                await self._subscribe(topic, str(settings.arn), wanted)
            return [*differences, Difference(what, "there", "missing", made=create)]
        return [*differences, *await self._compare_subscription(what, subscription, wanted, create=create)]

    async def _permission(self, url: str, settings: QueueSettings, topic: str, *, create: bool) -> list[Difference]:
        """That topic, and no other, may send to the queue, and to its dead-letter queue what it couldn't deliver."""
        differences = await self._permit(url, settings, topic, create=create)
        if settings.dead is not None:
            account, name = split_arn(settings.dead)
            dead = await self._targets.queue_url(name, account)
            if dead is not None:
                differences += await self._permit(dead, await self.settings(dead), topic, create=create)
        return differences

    async def _permit(self, url: str, settings: QueueSettings, topic: str, *, create: bool) -> list[Difference]:
        queue = str(settings.arn)
        if allowed(settings.policy, queue, topic):
            return []
        if create:
            attributes = {"Policy": with_permission(settings.policy, queue, topic)}
            await ask(self._client, "sqs", "SetQueueAttributes", {"QueueUrl": url, "Attributes": attributes})
        return [Difference(f"policy of {queue}", f"lets {topic} send", "does not", made=create)]

    async def _subscribe(self, topic: str, queue: str, attributes: Mapping[str, str]) -> None:
        params = {
            "TopicArn": topic,
            "Protocol": "sqs",
            "Endpoint": queue,
            "Attributes": attributes,
            "ReturnSubscriptionArn": True,
        }
        await ask(self._client, "sns", "Subscribe", params)

    async def _find_subscription(self, topic: str, queue: str) -> str | None:
        params = {"TopicArn": topic}
        while True:
            answer = await ask(self._client, "sns", "ListSubscriptionsByTopic", params)
            for each in answer.get("Subscriptions") or ():
                if each["Endpoint"] == queue:
                    return str(each["SubscriptionArn"])
            if not answer.get("NextToken"):
                return None
            params["NextToken"] = answer["NextToken"]

    async def _compare_subscription(
        self, what: str, subscription: str, wanted: Mapping[str, str], *, create: bool
    ) -> list[Difference]:
        params = {"SubscriptionArn": subscription}
        found = (await ask(self._client, "sns", "GetSubscriptionAttributes", params, subscription))["Attributes"]
        wanted = {_SCOPE: _OF_ATTRIBUTES, "FilterPolicy": "{}", **wanted}
        found = {_SCOPE: _OF_ATTRIBUTES, **found}
        different = [name for name, value in wanted.items() if not _same(value, found.get(name, ""))]
        if create and _SCOPE in different:  # a policy must not meet what it was not made for: none, until the new one
            different = [_SCOPE, *(name for name in different if name not in (_SCOPE, "FilterPolicy")), "FilterPolicy"]
            await self._set(subscription, "FilterPolicy", "{}")
        for name in different if create else ():
            await self._set(subscription, name, wanted[name])
        return [Difference(f"{name} of {what}", wanted[name], found.get(name, ""), made=create) for name in different]

    async def _set(self, subscription: str, name: str, value: str) -> None:
        params = {"SubscriptionArn": subscription, "AttributeName": name, "AttributeValue": value}
        await ask(self._client, "sns", "SetSubscriptionAttributes", params, subscription)


def _redrive(dead: str, part: QueueSpec) -> str:
    return json.dumps({"deadLetterTargetArn": dead, "maxReceiveCount": str(_receives(part))})


def _receives(part: QueueSpec) -> int:
    return min(part.max_deliveries or RECEIVES, _MOST_RECEIVES)


def _compare(part: QueueSpec, name: str, settings: QueueSettings) -> tuple[dict[str, str], list[Difference]]:
    """The attributes to set, and how the queue differs. A dead-letter queue of another name is the owner's choice."""
    wanted: dict[str, str] = {}
    differences: list[Difference] = []
    what = f"SQS queue {name}"
    lease = None if part.lease is None else math.ceil(part.lease)
    if settings.arn is not None and lease is not None and settings.lease != lease:
        wanted["VisibilityTimeout"] = str(lease)
        differences.append(Difference(f"visibility timeout of {what}", f"{lease} s", f"{settings.lease:g} s"))
    receives = _receives(part) if part.max_deliveries or settings.dead is None else settings.receives
    if settings.arn is not None and settings.receives != receives:
        wanted["RedrivePolicy"] = _redrive(settings.dead or "", part)
        found = "no redrive policy" if settings.receives is None else str(settings.receives)
        differences.append(Difference(f"maxReceiveCount of {what}", str(receives), found))
    return wanted, differences


def _subscription_attributes(source: Source, settings: QueueSettings) -> dict[str, str]:
    """Raw, filtered, and with a dead-letter queue: what a subscription can't deliver would vanish.

    A header that the publisher did not keep native (`Topic(filter_on=...)`) is no attribute, and a structured event
    has its fields elsewhere: what has not got the name is let through. SNS filters on attributes or on the body,
    never on both; then the core looks into the body.
    """
    wanted = {"RawMessageDelivery": "true"}
    if source.filter:
        wanted["FilterPolicy"] = json.dumps({name: [*values, {"exists": False}] for name, values in source.filter})
    elif source.fields:
        wanted[_SCOPE] = _OF_BODY
        fields = {name: [*map(_matching, values), {"exists": False}] for name, values in source.fields}
        wanted["FilterPolicy"] = json.dumps(fields)
    if settings.dead is not None:
        wanted["RedrivePolicy"] = json.dumps({"deadLetterTargetArn": settings.dead})
    return wanted


def _matching(value: str | int | bool | None) -> object:
    """A number is compared by its value: 3 and 3.0 are the same then."""
    return {"numeric": ["=", value]} if isinstance(value, int) and not isinstance(value, bool) else value


def _same(wanted: str, found: str) -> bool:
    """The same value, or the same JSON."""
    if wanted == found or (wanted == "{}" and not found):
        return True
    try:
        return bool(json.loads(wanted) == json.loads(found))
    except ValueError:
        return False
