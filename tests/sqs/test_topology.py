"""What is made at AWS, what `verify` says of it, and what is left alone. On both emulators."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import pytest
from pydantic import BaseModel
from tests.servers import Handle
from tests.sqs.conftest import Aws, topic_arn

from msgbus import Bus, Lease, Queue, Topic
from msgbus.broker import Binding, Difference, Part, QueueSpec, TopicSpec
from msgbus.brokers.sqs import SqsBroker
from msgbus.brokers.sqs.names import queue_name
from msgbus.brokers.sqs.policy import allowed
from msgbus.config import load_settings
from msgbus.errors import ConfigError, Refused
from msgbus.message import Address, Source


def parts(name: str, *, ordered: bool = False, filtered: bool = False) -> list[Part]:
    where = (("kind", ("a", "b")),) if filtered else ()
    source = Source("topic", name, "billing", ordered=ordered, filter=where)
    return [TopicSpec(name, ordered), QueueSpec(source, 25, 45.0), Binding(name, source)]


def texts(differences: Sequence[Difference]) -> list[str]:
    return [f"{each.part}: {each.wanted} / {each.found}" for each in differences]


@pytest.mark.parametrize("ordered", [False, True])
async def test_create(broker: SqsBroker, aws: Aws, name: str, ordered: bool) -> None:
    suffix = ".fifo" if ordered else ""
    made = await broker.admin.ensure(parts(name, ordered=ordered), "create")
    assert made
    assert all(each.made for each in made)
    queue, dead = f"{name}--billing{suffix}", f"{name}--billing-dead{suffix}"
    found, letters = await aws.attributes(queue), await aws.attributes(dead)
    assert found["VisibilityTimeout"] == "45"
    redrive = json.loads(found["RedrivePolicy"])
    assert (redrive["deadLetterTargetArn"], int(redrive["maxReceiveCount"])) == (letters["QueueArn"], 25)
    assert letters["MessageRetentionPeriod"] == str(14 * 86_400)
    topic = topic_arn(name + suffix)
    for each in (found, letters):  # what the subscription can't deliver goes to the dead-letter queue
        assert allowed(each["Policy"], each["QueueArn"], topic)
    subscription = await aws.subscription(topic)
    assert subscription["RawMessageDelivery"] == "true"
    assert json.loads(subscription["RedrivePolicy"]) == {"deadLetterTargetArn": letters["QueueArn"]}
    if ordered:
        assert (found["FifoQueue"], found["DeduplicationScope"]) == ("true", "messageGroup")
        assert found["FifoThroughputLimit"] == "perMessageGroupId"
    assert await broker.admin.ensure(parts(name, ordered=ordered), "create") == []  # nothing is left to do
    assert await broker.admin.ensure(parts(name, ordered=ordered), "verify") == []


async def test_tags(broker: SqsBroker, aws: Aws, name: str) -> None:
    await broker.admin.ensure(parts(name), "create")
    tags = await aws.sqs("ListQueueTags", QueueUrl=await aws.url(f"{name}--billing"))
    assert tags["Tags"] == {"msgbus": f"topic/{name}/billing"}
    dead = await aws.sqs("ListQueueTags", QueueUrl=await aws.url(f"{name}--billing-dead"))
    assert dead["Tags"] == {"msgbus": f"dead letters of {name}--billing"}
    topic = await aws.sns("ListTagsForResource", ResourceArn=topic_arn(name))
    assert topic["Tags"] == [{"Key": "msgbus", "Value": "topic"}]


async def test_verify_says_what_is_missing_and_makes_nothing(broker: SqsBroker, aws: Aws, name: str) -> None:
    assert texts(await broker.admin.ensure(parts(name), "verify")) == [
        f"SNS topic {name}: there / missing",
        f"SQS queue {name}--billing: there / missing",
        f"SNS subscription of SQS queue {name}--billing to {topic_arn(name)}: there / missing",
    ]
    with pytest.raises(Refused):
        await aws.url(f"{name}--billing")


async def test_verify_says_what_differs(broker: SqsBroker, aws: Aws, name: str) -> None:
    await broker.admin.ensure(parts(name), "create")
    queue = await aws.url(f"{name}--billing")
    redrive = json.loads((await aws.attributes(f"{name}--billing"))["RedrivePolicy"])
    changed = {
        "VisibilityTimeout": "30",
        "Policy": "",
        "RedrivePolicy": json.dumps({**redrive, "maxReceiveCount": "3"}),
    }
    await aws.sqs("SetQueueAttributes", QueueUrl=queue, Attributes=changed)
    (one,) = (await aws.sns("ListSubscriptionsByTopic", TopicArn=topic_arn(name)))["Subscriptions"]
    raw = {"AttributeName": "RawMessageDelivery", "AttributeValue": "false"}
    await aws.sns("SetSubscriptionAttributes", SubscriptionArn=one["SubscriptionArn"], **raw)
    differences = await broker.admin.ensure(parts(name), "verify")
    assert not any(each.made for each in differences)
    said = texts(differences)
    what = f"SNS subscription of SQS queue {name}--billing to {topic_arn(name)}"
    assert f"visibility timeout of SQS queue {name}--billing: 45 s / 30 s" in said
    assert f"maxReceiveCount of SQS queue {name}--billing: 25 / 3" in said
    assert (
        f"policy of arn:aws:sqs:us-east-1:000000000000:{name}--billing: lets {topic_arn(name)} send / does not" in said
    )
    assert f"RawMessageDelivery of {what}: true / false" in said
    assert len(said) == 4
    assert all(each.made for each in await broker.admin.ensure(parts(name), "create"))
    assert await broker.admin.ensure(parts(name), "verify") == []


async def test_a_filter_that_changes_is_changed_and_one_that_goes_is_taken_away(
    broker: SqsBroker, aws: Aws, name: str
) -> None:
    await broker.admin.ensure(parts(name, filtered=True), "create")
    policy = json.loads((await aws.subscription(topic_arn(name)))["FilterPolicy"])
    assert policy == {"kind": ["a", "b", {"exists": False}]}
    assert len(await broker.admin.ensure(parts(name), "verify")) == 1
    await broker.admin.ensure(parts(name), "create")
    assert json.loads((await aws.subscription(topic_arn(name))).get("FilterPolicy") or "{}") == {}
    assert await broker.admin.ensure(parts(name), "verify") == []


async def test_a_dead_letter_queue_of_the_owners_choice_is_kept(broker: SqsBroker, aws: Aws, name: str) -> None:
    await aws.queue(f"{name}-graveyard")
    grave = (await aws.attributes(f"{name}-graveyard"))["QueueArn"]
    await aws.queue(name, RedrivePolicy=json.dumps({"deadLetterTargetArn": grave, "maxReceiveCount": "25"}))
    source = Source("queue", name)
    assert await broker.admin.ensure([QueueSpec(source, 25)], "create") == []
    assert await broker.admin.dead_letters(source) == Source("queue", f"{name}-graveyard")
    assert (await aws.attributes(name))["VisibilityTimeout"] == "30"  # nobody asked for another


async def test_trust_asks_nothing(broker: SqsBroker, name: str) -> None:
    assert await broker.admin.ensure(parts(name), "trust") == []
    source = Source("topic", name, "billing")
    assert broker.capabilities(source).lease == 45.0
    assert await broker.admin.dead_letters(source) is None


class Order(BaseModel):
    number: int


async def test_a_queue_that_is_not_there_in_verify_mode(server: Handle, bus_on: Callable[..., Bus], name: str) -> None:
    bus = bus_on(server.url, settings=load_settings(provision="verify"))

    @bus.consumer(Queue(name, Order))
    async def handle(order: Order) -> None: ...

    with pytest.raises(ConfigError, match=rf"SQS queue {name}: wanted there, found missing"):
        async with bus.consuming():
            raise AssertionError("it must not start")


async def test_a_queue_that_is_not_there_in_trust_mode(server: Handle, bus_on: Callable[..., Bus], name: str) -> None:
    bus = bus_on(server.url, settings=load_settings(provision="trust"))
    with pytest.raises(Refused, match=rf"no SQS queue {name} or {name}.fifo .* MSGBUS_PROVISION=create"):
        async with bus:
            await bus.send(Queue(name, Order), Order(number=1))
    with pytest.raises(Refused, match=rf"topic {name}: no SNS topic {name} in this account and region"):
        async with bus:
            await bus.publish(Topic(name, Order), Order(number=1))


async def test_the_prefix_and_the_lease(server: Handle, bus_on: Callable[..., Bus], aws: Aws, name: str) -> None:
    bus = bus_on(server.url, settings=load_settings(prefix="staging."))

    @bus.subscriber(Topic(name, Order), group="g", lease=Lease(seconds=7.2))
    async def handle(order: Order) -> None: ...

    async with bus.consuming():
        pass
    queue = queue_name(Address("topic", f"staging.{name}", "g"), ordered=False)
    assert queue.startswith(f"staging-{name}--g-")
    assert (await aws.attributes(queue))["VisibilityTimeout"] == "8"
