"""Topics, and the queues that subscribe to them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

from msgbus.broker import Binding, Difference, TopicSpec
from msgbus.brokers.aws import AwsClient
from msgbus.brokers.plan import Resource
from msgbus.brokers.sqs import plans
from msgbus.brokers.sqs.names import arn
from msgbus.brokers.sqs.plans import SCOPE
from msgbus.brokers.sqs.queues import Queues
from msgbus.brokers.sqs.targets import TOPIC_BYTES, Targets, topic_target
from msgbus.message import Address

_PENDING = "PendingConfirmation"  # in place of a subscription's ARN
_OF_ATTRIBUTES = "MessageAttributes"


class Subscriptions:
    """Looks, and creates where asked."""

    def __init__(self, client: AwsClient, targets: Targets, queues: Queues) -> None:
        self._client = client
        self._targets = targets
        self._queues = queues

    async def topic(self, part: TopicSpec, *, create: bool) -> Sequence[Difference]:
        """What of a topic is missing; made where `create`."""
        address, topic = Address("topic", part.name), await self._targets.topic(part.name, ordered=part.ordered)
        name = topic.rpartition(":")[2]
        found = await self._topic_attributes(topic)
        if found is None and (not create or self._targets.is_given(address)):
            return [Difference(f"SNS topic {name}", "there", "missing")]
        if found is None:
            topic = await self._create(plans.topic(name))
        limit = int((found or {}).get("MaximumMessageSize", TOPIC_BYTES))
        self._targets.known[address] = topic_target(topic, limit)
        return [Difference(f"SNS topic {name}", "there", "missing", made=True)] if found is None else []

    async def _create(self, topic: Resource) -> str:
        tags = [{"Key": name, "Value": value} for name, value in topic.tags.items()]
        params = {"Name": topic.name, "Tags": tags, "Attributes": plans.encoded(topic.properties)}
        return str((await self._client.call("sns", "CreateTopic", params, f"topic {topic.name}"))["TopicArn"])

    async def _topic_attributes(self, topic: str) -> Mapping[str, str] | None:
        answer = await self._client.find("sns", "GetTopicAttributes", {"TopicArn": topic})
        return None if answer is None else answer["Attributes"]

    async def binding(self, part: Binding, *, create: bool) -> Sequence[Difference]:
        """What of a subscription is missing or differs; put right where `create`."""
        source = part.source
        name, account = self._targets.queue(source.address, ordered=source.ordered)
        topic = await self._targets.topic(part.topic, ordered=source.ordered)
        what = f"SNS subscription of SQS queue {name} to {topic}"
        url = await self._targets.queue_url(name, account)
        if url is None or (not create and await self._topic_attributes(topic) is None):
            return [Difference(what, "there", "missing")]
        settings = await self._queues.settings(url)
        if settings.arn is None and account:  # of somebody who doesn't let us look
            settings = replace(settings, arn=arn("sqs", await self._targets.region(), account, name))
        given = self._targets.is_given(source.address)
        differences = [] if given else await self._queues.permit(url, settings, topic, create=create)
        wanted = plans.encoded(plans.subscribed(source, settings.dead))
        subscription = await self._find_subscription(topic, str(settings.arn))
        if subscription == _PENDING:
            return [*differences, Difference(what, "confirmed by the queue's owner", "pending confirmation")]
        if subscription is None:
            if create:
                await self._subscribe(topic, str(settings.arn), wanted)
            return [*differences, Difference(what, "there", "missing", made=create)]
        return [*differences, *await self._compare_subscription(what, subscription, wanted, create=create)]

    async def _subscribe(self, topic: str, queue: str, attributes: Mapping[str, str]) -> None:
        params = {
            "TopicArn": topic,
            "Protocol": "sqs",
            "Endpoint": queue,
            "Attributes": attributes,
            "ReturnSubscriptionArn": True,
        }
        await self._client.call("sns", "Subscribe", params)

    async def _find_subscription(self, topic: str, queue: str) -> str | None:
        params = {"TopicArn": topic}
        while True:
            answer = await self._client.call("sns", "ListSubscriptionsByTopic", params)
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
        found = (await self._client.call("sns", "GetSubscriptionAttributes", params, subscription))["Attributes"]
        wanted = {SCOPE: _OF_ATTRIBUTES, "FilterPolicy": "{}", **wanted}
        found = {SCOPE: _OF_ATTRIBUTES, **found}
        different = [name for name, value in wanted.items() if not _same(value, found.get(name, ""))]
        if create and SCOPE in different:  # a policy must not meet what it was not made for: none, until the new one
            different = [
                SCOPE,
                *(name for name in different if name not in (SCOPE, "FilterPolicy")),
                "FilterPolicy",
            ]
            await self._set(subscription, "FilterPolicy", "{}")
        for name in different if create else ():
            await self._set(subscription, name, wanted[name])
        return [Difference(f"{name} of {what}", wanted[name], found.get(name, ""), made=create) for name in different]

    async def _set(self, subscription: str, name: str, value: str) -> None:
        params = {"SubscriptionArn": subscription, "AttributeName": name, "AttributeValue": value}
        await self._client.call("sns", "SetSubscriptionAttributes", params, subscription)


def _same(wanted: str, found: str) -> bool:
    """The same value, or the same JSON."""
    if wanted == found or (wanted == "{}" and not found):
        return True
    try:
        return bool(json.loads(wanted) == json.loads(found))
    except ValueError:
        return False
