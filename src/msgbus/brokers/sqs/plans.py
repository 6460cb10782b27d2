"""The queues, topics and subscriptions of msgbus as they are created, whoever creates them. Sans-IO.

Where a property holds the ARN of something else it is text, or an `Arn` where nothing is created yet.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from msgbus.broker import QueueSpec
from msgbus.brokers.plan import Resource
from msgbus.brokers.sqs.names import dead_name, is_fifo
from msgbus.brokers.sqs.policy import statement
from msgbus.message import Source

QUEUE, POLICY, TOPIC, SUBSCRIPTION = "SQS queue", "SQS queue policy", "SNS topic", "SNS subscription"
"""The kinds of resources."""

RECEIVES = 100
"""maxReceiveCount where a QueueSpec says nothing: the native safety net, far above any number of attempts."""

KEEP_DEAD = 14 * 86_400
"""Seconds that dead letters are kept: the longest that SQS keeps anything."""

SCOPE, OF_BODY = "FilterPolicyScope", "MessageBody"

_MOST_RECEIVES = 1000  # a quota of SQS
_TAG = "msgbus"


def plain_queue(name: str, properties: Mapping[str, Any], tags: Mapping[str, str]) -> Resource:
    """A queue. One that keeps order gets high throughput: ids are compared per group."""
    more = {"FifoQueue": True, "DeduplicationScope": "messageGroup", "FifoThroughputLimit": "perMessageGroupId"}
    return Resource(kind=QUEUE, name=name, properties={**properties, **(more if is_fifo(name) else {})}, tags=tags)


def queue(part: QueueSpec, name: str, dead: object) -> Resource:
    """The queue of a source; `dead`: the ARN of its dead-letter queue."""
    properties: dict[str, Any] = {"RedrivePolicy": redrive(dead, receives(part))}
    if part.lease is not None:
        properties["VisibilityTimeout"] = math.ceil(part.lease)
    return plain_queue(name, properties, {_TAG: part.source.origin})  # a tag has no brackets


def dead_queue(name: str, of: str = "") -> Resource:
    """A dead-letter queue; `of`: the queue that it belongs to, which gives it its name."""
    name = dead_name(of) if of else name
    about = f"dead letters of {of}" if of else "dead letters"
    return plain_queue(name, {"MessageRetentionPeriod": KEEP_DEAD}, {_TAG: about})


def receives(part: QueueSpec) -> int:
    """The maxReceiveCount that a source asks for."""
    return min(part.max_deliveries or RECEIVES, _MOST_RECEIVES)


def redrive(dead: object, count: int) -> dict[str, object]:
    """A queue's redrive policy."""
    return {"deadLetterTargetArn": dead, "maxReceiveCount": count}


def topic(name: str) -> Resource:
    """A topic."""
    properties = {"FifoTopic": True, "ContentBasedDeduplication": False} if is_fifo(name) else {}
    return Resource(kind=TOPIC, name=name, properties=properties, tags={_TAG: "topic"})


def permission(queue_name: str, arn: object, sender: object) -> Resource:
    """That this topic, and no other, may send to the queue `arn`."""
    document = {"Version": "2012-10-17", "Statement": [statement(arn, sender)]}
    return Resource(kind=POLICY, name=queue_name, properties={"Queue": arn, "Policy": document}, named=False)


def subscription(source: Source, sender: object, receiver: object, dead: object | None, name: str = "") -> Resource:
    """The subscription of a queue to a topic, by their ARNs."""
    ends = {"TopicArn": sender, "Protocol": "sqs", "Endpoint": receiver}
    return Resource(kind=SUBSCRIPTION, name=name, properties={**ends, **subscribed(source, dead)}, named=False)


def subscribed(source: Source, dead: object | None) -> dict[str, Any]:
    """Raw, filtered, and with a dead-letter queue: what a subscription can't deliver would vanish.

    A header that the publisher did not keep native (`Topic(filter_on=...)`) is no attribute, and a structured event
    has its fields elsewhere: what has not got the name is let through. SNS filters on attributes or on the body,
    never on both; then the core looks into the body.
    """
    wanted: dict[str, Any] = {"RawMessageDelivery": True}
    if source.filter:
        wanted["FilterPolicy"] = {name: [*values, {"exists": False}] for name, values in source.filter}
    elif source.fields:
        wanted[SCOPE] = OF_BODY
        wanted["FilterPolicy"] = {name: [*map(_matching, values), {"exists": False}] for name, values in source.fields}
    if dead is not None:
        wanted["RedrivePolicy"] = {"deadLetterTargetArn": dead}
    return wanted


def _matching(value: str | int | bool | None) -> object:
    """A number is compared by its value: 3 and 3.0 are the same then."""
    return {"numeric": ["=", value]} if isinstance(value, int) and not isinstance(value, bool) else value


def encoded(properties: Mapping[str, Any]) -> dict[str, str]:
    """As the calls of SQS and SNS take attributes: all text, JSON for what has parts."""
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in properties.items()}
