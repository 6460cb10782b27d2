"""Messages of others: SNS without raw delivery, EventBridge, notifications of S3, and what the service can't take."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel, Field
from tests.faults.http import Call, FaultyHttp, answer
from tests.servers import Handle
from tests.sqs.conftest import Aws, url_of

from msgbus import Bus, Delivery, Message, Queue, Reject, Rpc
from msgbus import headers as h
from msgbus.dead import DeadLetters


class Order(BaseModel):
    number: int


class Named(BaseModel):
    name: str


class Stored(BaseModel):
    """What S3 says of an object."""

    key: str
    size: int = 0


class S3Part(BaseModel):
    bucket: Named
    stored: Stored = Field(alias="object")


class S3Record(BaseModel):
    name: str = Field(alias="eventName")
    s3: S3Part


class S3Notification(BaseModel):
    """The body of a notification that S3 sends to a queue itself."""

    records: list[S3Record] = Field(alias="Records")


def listen(bus: Bus, queue: Queue[Any]) -> asyncio.Queue[Message[Any]]:
    handled = asyncio.Queue[Message[Any]]()

    @bus.consumer(queue)
    async def handle(message: Message[Any]) -> None:
        handled.put_nowait(message)

    return handled


async def test_a_subscription_without_raw_delivery(
    server: Handle, bus_on: Callable[..., Bus], aws: Aws, name: str
) -> None:
    bus = bus_on(server.url)
    handled = listen(bus, Queue(name, Order))
    topic = (await aws.sns("CreateTopic", Name=f"{name}-theirs"))["TopicArn"]
    async with bus.consuming():
        await aws.subscribe(topic, name)
        kind = {"kind": {"DataType": "String", "StringValue": "new"}}
        said = {"Message": '{"number": 7}', "Subject": "An order", "MessageAttributes": kind}
        sent = await aws.sns("Publish", TopicArn=topic, **said)
        message = await handled.get()
    assert (message.payload, message.headers["subject"]) == (Order(number=7), "An order")
    assert (message.id, message.headers["kind"]) == (sent["MessageId"], "new")
    assert json.loads(message.raw["Body"])["TopicArn"] == topic  # the envelope is still there


EVENT = {
    "version": "0",
    "id": "e-1",
    "detail-type": "OrderPlaced",
    "source": "shop",
    "account": "123456789012",
    "time": "2026-11-23T00:00:00Z",
    "region": "us-east-1",
    "resources": [],
    "detail": {"number": 8},
}
S3_EVENT = {
    "Records": [
        {
            "eventVersion": "2.1",
            "eventSource": "aws:s3",
            "eventName": "ObjectCreated:Put",
            "s3": {"bucket": {"name": "pictures", "arn": "arn:aws:s3:::pictures"}, "object": {"key": "a", "size": 3}},
        }
    ]
}


async def test_events_and_notifications(server: Handle, bus_on: Callable[..., Bus], aws: Aws, name: str) -> None:
    bus = bus_on(server.url)
    orders = listen(bus, Queue(name, Order))
    pictures = listen(bus, Queue(f"{name}-s3", S3Notification))
    async with bus.consuming():
        await aws.sqs("SendMessage", QueueUrl=await aws.url(name), MessageBody=json.dumps(EVENT))
        await aws.sqs("SendMessage", QueueUrl=await aws.url(f"{name}-s3"), MessageBody=json.dumps(S3_EVENT))
        order, picture = await orders.get(), await pictures.get()
    assert order.payload == Order(number=8)
    assert (order.id, order.type, order.headers[h.SOURCE]) == ("e-1", "OrderPlaced", "shop")
    (record,) = picture.payload.records
    assert (record.name, record.s3.bucket.name, record.s3.stored.key) == ("ObjectCreated:Put", "pictures", "a")


async def test_envelopes_are_left_alone_where_that_is_asked_for(
    server: Handle, bus_on: Callable[..., Bus], aws: Aws, name: str
) -> None:
    bus = bus_on(server.url, "&unwrap=off")
    handled = listen(bus, Queue(name, dict[str, Any]))
    async with bus.consuming():
        await aws.sqs("SendMessage", QueueUrl=await aws.url(name), MessageBody=json.dumps(EVENT))
        assert (await handled.get()).payload == EVENT


@pytest.mark.parametrize("fair", [True, False])
async def test_group_ids_on_standard_queues(fauxqs: Handle, name: str, fair: bool) -> None:
    """The key is what a fair queue tells its tenants by. The emulators forget it: the request is what counts."""
    groups: list[str | None] = []

    async def meet(call: Call) -> bytes | None:
        if call.operation == "SendMessageBatch":
            groups.extend(entry.get("MessageGroupId") for entry in call.params["Entries"])
        return answer(*await call.forward())

    queue = Queue(name, Order, key=lambda order: f"tenant-{order.number}")
    async with FaultyHttp(fauxqs.url, meet) as proxy:
        bus = Bus(url_of(proxy.url, "" if fair else "&fair=off"))
        handled = listen(bus, queue)
        async with bus.consuming():
            await bus.send(queue, Order(number=1))
            assert (await handled.get()).key == "tenant-1"
    assert groups == ["tenant-1" if fair else None]


@pytest.mark.parametrize("limit", [None, 1])
async def test_what_came_in_an_envelope_and_was_dead_is_opened_again(
    server: Handle, bus_on: Callable[..., Bus], aws: Aws, name: str, limit: int | None
) -> None:
    """With a limit msgbus sends it again, without one the service may."""
    queue, buried, seen = Queue(name, Order), asyncio.Event(), asyncio.Queue[Message[Order]]()

    async def on_dead(delivery: Delivery, error: Exception) -> None:
        buried.set()

    bus = bus_on(server.url, on_dead=[on_dead])

    @bus.consumer(queue)
    async def handle(message: Message[Order]) -> None:
        if not buried.is_set():
            raise Reject("not yet")
        seen.put_nowait(message)

    topic = (await aws.sns("CreateTopic", Name=f"{name}-theirs"))["TopicArn"]
    async with bus.consuming():
        await aws.subscribe(topic, name)
        kind = {"kind": {"DataType": "String", "StringValue": "new"}}
        sent = await aws.sns("Publish", TopicArn=topic, Message='{"number": 7}', MessageAttributes=kind)
        await buried.wait()
        (letter,) = await DeadLetters(bus, queue).peek()
        assert (letter.id, letter.body, letter.headers["kind"]) == (sent["MessageId"], b'{"number": 7}', "new")
        assert (await DeadLetters(bus, queue).redrive(limit=limit)).moved == 1
        message = await seen.get()
    assert (message.payload, message.id, message.attempt) == (Order(number=7), sent["MessageId"], 1)
    assert message.headers["kind"] == "new"


async def test_requests_of_amazons_jms_library_are_answered(
    server: Handle, bus_on: Callable[..., Bus], aws: Aws, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As SQSSession writes them: attributes alone say what they are, bytes are base64."""
    inbox, count = await aws.queue(f"{name}-theirs"), 100
    monkeypatch.setenv("MSGBUS_REPLIES", json.dumps([inbox]))
    bus = bus_on(server.url)

    @bus.responder(Rpc(name, Order, Order))
    async def double(order: Order) -> Order:
        return Order(number=order.number * 2)

    async with bus.consuming():
        url = await aws.url(name)
        for number in range(count):
            body = json.dumps({"number": number})
            kind, text = ("text", body) if number % 2 else ("byte", base64.b64encode(body.encode()).decode())
            given = {
                "JMS_SQSMessageType": kind,
                "JMS_SQSCorrelationID": f"c-{number}",
                "JMS_SQSReplyToQueueURL": inbox,
                "JMS_SQSReplyToQueueName": f"{name}-theirs",
            }
            attributes = {key: {"DataType": "String", "StringValue": value} for key, value in given.items()}
            await aws.sqs("SendMessage", QueueUrl=url, MessageBody=text, MessageAttributes=attributes)
        answers: dict[str, int] = {}
        while len(answers) < count:
            for message in await aws.receive(f"{name}-theirs"):
                said = {key: value["StringValue"] for key, value in message["MessageAttributes"].items()}
                assert said["JMS_SQSMessageType"] == "text"
                answers[said["JMS_SQSCorrelationID"]] = json.loads(message["Body"])["number"]
    assert answers == {f"c-{number}": 2 * number for number in range(count)}


async def test_a_foreign_dead_letter_is_known_by_the_id_that_its_sender_was_told(
    server: Handle, bus_on: Callable[..., Bus], aws: Aws, name: str
) -> None:
    """Two with the same body are two."""
    buried = asyncio.Queue[Delivery]()

    async def on_dead(delivery: Delivery, error: Exception) -> None:
        buried.put_nowait(delivery)

    bus, queue = bus_on(server.url, on_dead=[on_dead]), Queue(name, Order)

    @bus.consumer(queue)
    async def handle(order: Order) -> None:
        raise Reject("never")

    async with bus.consuming():
        url = await aws.url(name)
        sent = [(await aws.sqs("SendMessage", QueueUrl=url, MessageBody='{"number": 1}'))["MessageId"] for _ in "ab"]
        for _ in sent:
            await buried.get()
    async with bus:
        letters = DeadLetters(bus, queue)
        assert sorted(letter.id for letter in await letters.peek()) == sorted(sent)
        redriven = await letters.redrive(ids=[sent[0]])
        assert (redriven.moved, redriven.left, redriven.missing) == (1, 1, ())
        (left,) = await letters.peek()
        assert left.id == sent[1]
