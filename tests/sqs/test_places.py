"""Queues and topics of others, given by ARN. The emulators have one account: requests show that others are meant."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import pytest
from pydantic import BaseModel
from tests.faults.http import Call, FaultyHttp, answer
from tests.servers import Handle
from tests.sqs.conftest import Aws, topic_arn, url_of

from msgbus import Bus, Queue, Topic
from msgbus.broker import Binding, QueueSpec, TopicSpec
from msgbus.errors import Refused
from msgbus.message import Source

OWNER = "000000000000"


class Order(BaseModel):
    number: int


def queue_arn(name: str, region: str = "us-east-1") -> str:
    return f"arn:aws:sqs:{region}:{OWNER}:{name}"


async def test_a_group_of_theirs_on_a_topic_of_theirs(fauxqs: Handle, aws_fauxqs: Aws, name: str) -> None:
    await aws_fauxqs.sns("CreateTopic", Name=f"{name}-theirs")
    await aws_fauxqs.queue(f"{name}-box", VisibilityTimeout="17")
    seen: list[Call] = []

    async def meet(call: Call) -> bytes | None:
        seen.append(call)
        return answer(*await call.forward())

    handled = asyncio.Queue[Order]()
    orders = Topic(name, Order)
    async with FaultyHttp(fauxqs.url, meet) as proxy:
        places = f"&at.{name}={topic_arn(f'{name}-theirs')}&at.{name}/g={queue_arn(f'{name}-box')}"
        bus = Bus(url_of(proxy.url, places))

        @bus.subscriber(orders, group="g")
        async def handle(order: Order) -> None:
            handled.put_nowait(order)

        async with bus.consuming():
            await bus.publish(orders, Order(number=1))
            assert await handled.get() == Order(number=1)
    operations = {call.operation for call in seen}
    assert not operations & {"CreateQueue", "SetQueueAttributes"}  # not ours to change
    (asked,) = {json.dumps(call.params) for call in seen if call.operation == "GetQueueUrl"}
    assert json.loads(asked) == {"QueueName": f"{name}-box", "QueueOwnerAWSAccountId": OWNER}
    subscription = await aws_fauxqs.subscription(topic_arn(f"{name}-theirs"))
    assert (subscription["Endpoint"], subscription["RawMessageDelivery"]) == (queue_arn(f"{name}-box"), "true")


async def test_a_queue_of_theirs(server: Handle, bus_on: Callable[..., Bus], aws: Aws, name: str) -> None:
    await aws.queue(f"{name}-theirs")
    async with bus_on(server.url, f"&at.{name}={queue_arn(f'{name}-theirs')}") as bus:
        await bus.send(Queue(name, Order), Order(number=2))
    (message,) = await aws.receive(f"{name}-theirs")
    assert json.loads(message["Body"]) == {"number": 2}


async def test_what_is_not_there_is_not_made(server: Handle, bus_on: Callable[..., Bus], aws: Aws, name: str) -> None:
    async with bus_on(server.url, f"&at.{name}={queue_arn(f'{name}-theirs')}") as bus:
        with pytest.raises(Refused, match=f"queue {name}: no SQS queue {name}-theirs"):
            await bus.send(Queue(name, Order), Order(number=2))
        with pytest.raises(Refused):
            await aws.url(f"{name}-theirs")


async def test_a_queue_of_another_region(server: Handle, bus_on: Callable[..., Bus]) -> None:
    async with bus_on(server.url, f"&at.work={queue_arn('x', 'eu-west-1')}") as bus:
        with pytest.raises(Refused, match="is in eu-west-1, this broker in us-east-1; route it to a broker of its own"):
            await bus.send(Queue("work", Order), Order(number=1))


async def test_order_is_not_kept_by_a_standard_queue(server: Handle, bus_on: Callable[..., Bus]) -> None:
    async with bus_on(server.url, f"&at.work={queue_arn('x')}") as bus:
        source = Source("queue", "work", ordered=True)
        with pytest.raises(Refused, match="ordered=True, and the queue that the URL gives, x, is no FIFO queue"):
            await bus.link_for("work").broker.admin.ensure([QueueSpec(source)], "create")


async def test_a_queue_whose_owner_has_not_confirmed(fauxqs: Handle, aws_fauxqs: Aws, name: str) -> None:
    await aws_fauxqs.queue(f"{name}-box")

    async def meet(call: Call) -> bytes | None:
        status, body = await call.forward()
        if b"Action=ListSubscriptionsByTopic" in call.body:
            member = f"<member><Endpoint>{queue_arn(f'{name}-box')}</Endpoint>"
            member += "<SubscriptionArn>PendingConfirmation</SubscriptionArn></member>"
            head, _, tail = body.partition(b"<ListSubscriptionsByTopicResult>")
            _, _, tail = tail.partition(b"</ListSubscriptionsByTopicResult>")
            inner = f"<ListSubscriptionsByTopicResult><Subscriptions>{member}</Subscriptions>".encode()
            body = head + inner + b"</ListSubscriptionsByTopicResult>" + tail
        return answer(status, body)

    async with FaultyHttp(fauxqs.url, meet) as proxy:
        bus = Bus(url_of(proxy.url, f"&at.{name}/g={queue_arn(f'{name}-box')}"))

        @bus.subscriber(Topic(name, Order), group="g")
        async def handle(order: Order) -> None: ...

        async with bus:
            ((source, _),) = bus.sources()
            admin = bus.link_for(name).broker.admin
            await admin.ensure([TopicSpec(name)], "create")
            (one,) = await admin.ensure([Binding(name, source)], "create")
    assert (one.wanted, one.found, one.made) == ("confirmed by the queue's owner", "pending confirmation", False)
