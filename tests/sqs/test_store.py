"""Large bodies in S3, in the format of Amazon's extended client, both ways.

Trusted: ministack, for objects (fauxqs forgets how they were encrypted).
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from pydantic import BaseModel
from tests.servers import Handle
from tests.sqs.conftest import Aws, topic_arn

from msgbus import Bus, Message, Queue, Retry, Topic
from msgbus import headers as h
from msgbus.brokers.aws import AwsSettings
from msgbus.brokers.sqs import S3Store
from msgbus.errors import DecodeError, Refused, Unavailable
from msgbus.message import Address, Delivery, Outgoing, Source

POINTER = "software.amazon.payloadoffloading.PayloadS3Pointer"
OLD_POINTER = "com.amazon.sqs.javamessaging.MessageS3Pointer"

pytestmark = pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")  # aiohttp, of 1 MiB


class Picture(BaseModel):
    title: str
    pixels: str


UUID = "0190a1b2-0000-4000-8000-0123456789ab"
LARGE = Picture(title="gr\u00fc\u00df", pixels="x" * 1_100_000)


@pytest.fixture
def server(ministack: Handle) -> Handle:
    return ministack


@pytest.fixture
async def bucket(aws: Aws, name: str) -> str:
    await aws.s3("CreateBucket", Bucket=name)
    return name


@pytest.fixture
async def store(server: Handle, bucket: str) -> AsyncIterator[S3Store]:
    async with S3Store(bucket, prefix="bodies/", settings=AwsSettings(endpoint=server.url)) as store:
        yield store


async def keys(aws: Aws, bucket: str) -> list[str]:
    return [each["Key"] for each in (await aws.s3("ListObjectsV2", Bucket=bucket)).get("Contents") or ()]


async def test_a_large_body_goes_through_s3_and_is_cleaned_up(
    server: Handle, bus_on: Callable[..., Bus], aws: Aws, store: S3Store, name: str
) -> None:
    bus, handled = bus_on(server.url, store=store), asyncio.Queue[Picture]()
    pictures = Queue(name, Picture)

    @bus.consumer(pictures)
    async def handle(picture: Picture) -> None:
        assert len(await keys(aws, store.bucket)) == 1  # until it is acknowledged
        handled.put_nowait(picture)

    async with bus.consuming():
        await bus.send(pictures, LARGE)
        assert await handled.get() == LARGE
    assert await keys(aws, store.bucket) == []


async def test_the_body_stays_until_the_message_succeeds(
    server: Handle, bus_on: Callable[..., Bus], aws: Aws, store: S3Store, name: str
) -> None:
    bus, handled = bus_on(server.url, store=store), asyncio.Queue[int]()
    pictures = Queue(name, Picture)

    @bus.consumer(pictures, retry=Retry(attempts=3, in_place=1, first_delay=0.1))
    async def handle(message: Message[Picture]) -> None:
        if message.attempt < 3:  # once in place, once by way of the queue
            raise ValueError("not yet")
        handled.put_nowait(message.attempt)

    async with bus.consuming():
        await bus.send(pictures, LARGE)
        assert await handled.get() == 3
    assert await keys(aws, store.bucket) == []


async def test_what_a_user_of_amazons_client_finds(
    server: Handle, bus_on: Callable[..., Bus], aws: Aws, store: S3Store, name: str
) -> None:
    await aws.queue(name)
    bus = bus_on(server.url, store=store)
    async with bus:
        await bus.send(Queue(name, Picture), LARGE)
    (message,) = await aws.receive(name)
    kind, pointer = json.loads(message["Body"])
    assert kind == POINTER
    assert pointer["s3BucketName"] == store.bucket
    assert pointer["s3Key"].startswith("bodies/")
    body = LARGE.model_dump_json().encode()
    assert message["MessageAttributes"]["ExtendedPayloadSize"] == {"DataType": "Number", "StringValue": str(len(body))}
    async with aws.client.client("s3") as s3:
        stored = await s3.get_object(Bucket=store.bucket, Key=pointer["s3Key"])
        assert await stored["Body"].read() == body


@pytest.mark.parametrize(
    ("kind", "attribute"), [(POINTER, "ExtendedPayloadSize"), (OLD_POINTER, "SQSLargePayloadSize")]
)
async def test_what_amazons_client_sends_is_read(
    server: Handle, bus_on: Callable[..., Bus], aws: Aws, store: S3Store, name: str, kind: str, attribute: str
) -> None:
    bus, handled = bus_on(server.url, store=store), asyncio.Queue[Picture]()
    body = LARGE.model_dump_json().encode()
    key = f"bodies/{uuid.uuid4()}"
    await aws.s3("PutObject", Bucket=store.bucket, Key=key, Body=body)

    @bus.consumer(Queue(name, Picture))
    async def handle(picture: Picture) -> None:
        handled.put_nowait(picture)

    async with bus.consuming():
        pointer = json.dumps([kind, {"s3BucketName": store.bucket, "s3Key": key}])
        size = {attribute: {"DataType": "Number", "StringValue": str(len(body))}}
        await aws.sqs("SendMessage", QueueUrl=await aws.url(name), MessageBody=pointer, MessageAttributes=size)
        assert await handled.get() == LARGE
    assert await keys(aws, store.bucket) == []


async def test_every_group_of_a_topic_gets_it_and_none_deletes_it(
    server: Handle, bus_on: Callable[..., Bus], aws: Aws, store: S3Store, name: str
) -> None:
    bus, handled = bus_on(server.url, store=store), asyncio.Queue[str]()
    topic = Topic(name, Picture)
    for group in ("one", "other"):

        @bus.subscriber(topic, group=group)
        async def handle(picture: Picture, group: str = group) -> None:
            handled.put_nowait(picture.title)

    async with bus.consuming():
        await bus.publish(topic, LARGE)
        assert [await handled.get(), await handled.get()] == [LARGE.title] * 2
    assert len(await keys(aws, store.bucket)) == 1  # by a lifecycle rule of the bucket
    assert await aws.sns("GetTopicAttributes", TopicArn=topic_arn(name))


# -- without a bus


def outgoing(body: bytes = b"{}", kind: str = "application/json") -> Outgoing:
    return Outgoing(Address("queue", "work"), "1", body, {h.CONTENT_TYPE: kind})


def delivery(body: bytes, **headers: str) -> Delivery:
    return Delivery(body, Source("queue", "work"), {name.replace("_", "-"): each for name, each in headers.items()})


async def test_the_content_type_comes_back(store: S3Store) -> None:
    out = outgoing(b"\x00\xff", "application/octet-stream")
    await store.put(out)
    assert out.headers[h.CONTENT_TYPE] == "application/json"  # of the pointer
    came = Delivery(out.body, Source("queue", "work"), dict(out.headers))
    assert store.holds(came)
    await store.fetch(came)
    assert (came.body, came.headers[h.CONTENT_TYPE]) == (b"\x00\xff", "application/octet-stream")
    assert not store.holds(came)
    await store.forget(came)
    await store.forget(came)  # harmless


async def test_encryption_options_are_passed_through(aws: Aws, server: Handle, bucket: str) -> None:
    sse = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "alias/mine"}
    async with S3Store(bucket, put_options=sse, settings=AwsSettings(endpoint=server.url)) as store:
        await store.put(out := outgoing())
    key = json.loads(out.body)[1]["s3Key"]
    head = await aws.s3("HeadObject", Bucket=bucket, Key=key)
    assert {name: head[name] for name in sse} == sse


@pytest.mark.parametrize(
    ("pointer", "said"),
    [
        ({"s3Key": "k"}, "the pointer to a body in S3 is damaged"),
        ("text", "the pointer to a body in S3 is damaged"),
        ({"s3BucketName": ["b"], "s3Key": None}, "it is no bucket and key"),
        (
            {"s3BucketName": "somebody-elses", "s3Key": f"bodies/{UUID}"},
            r"s3://'somebody-elses/.*S3Store\(trusted",
        ),
    ],
)
async def test_a_pointer_that_leads_nowhere_is_a_bad_message(store: S3Store, pointer: Any, said: str) -> None:
    with pytest.raises(DecodeError, match=said):
        await store.fetch(delivery(json.dumps([POINTER, pointer]).encode()))


async def test_a_body_that_is_gone_is_a_bad_message(store: S3Store) -> None:
    pointer = json.dumps([POINTER, {"s3BucketName": store.bucket, "s3Key": f"bodies/{UUID}"}]).encode()
    with pytest.raises(DecodeError, match=f"queue work: the body s3://{store.bucket}/bodies/{UUID} is gone"):
        await store.fetch(delivery(pointer))


OTHERS = {
    "another prefix": UUID,
    "no key that it writes": "bodies/accounts.csv",
    "a path that leads elsewhere": f"bodies/../{UUID}",
    "a key that is too long": "bodies/" + "x" * 2000,
    "more behind": f"bodies/{UUID}/x",
    "nothing": "",
    "half a character": f"bodies/\ud800{UUID}",
}


@pytest.mark.parametrize("key", OTHERS.values(), ids=OTHERS)
async def test_what_it_did_not_write_is_neither_read_nor_deleted(key: str) -> None:
    store = S3Store("b", prefix="bodies/", settings=AwsSettings(endpoint="http://127.0.0.1:9"))
    with pytest.raises(DecodeError, match="which this store does not write"):
        await store.fetch(delivery(json.dumps([POINTER, {"s3BucketName": "b", "s3Key": key}]).encode()))
    forged = delivery(b"{}")
    forged.headers = {h.CLAIM: json.dumps(["b", key])}
    with pytest.raises(DecodeError, match="which this store does not write"):
        await store.forget(forged)


async def test_a_bus_closes_its_store(
    server: Handle, bus_on: Callable[..., Bus], aws: Aws, store: S3Store, name: str
) -> None:
    bus = bus_on(server.url, store=store)
    await aws.sqs("CreateQueue", QueueName=name)
    for _ in range(2):
        async with bus:
            await bus.send(Queue(name, Picture), LARGE)
            assert store.is_open
        assert not store.is_open


@pytest.mark.parametrize("begin", ["", "/the"])
async def test_a_trusted_bucket(aws: Aws, server: Handle, bucket: str, begin: str) -> None:
    await aws.s3("PutObject", Bucket=bucket, Key="theirs", Body=b"hello")
    async with S3Store("ours", trusted=[bucket + begin], settings=AwsSettings(endpoint=server.url)) as store:
        came = delivery(json.dumps([POINTER, {"s3BucketName": bucket, "s3Key": "theirs"}]).encode())
        await store.fetch(came)
        assert came.body == b"hello"


async def test_a_bucket_that_is_not_there_is_told(server: Handle) -> None:
    async with S3Store("no-such-bucket", settings=AwsSettings(endpoint=server.url)) as store:
        with pytest.raises(Refused, match="s3://no-such-bucket/"):
            await store.put(outgoing())


async def test_s3_that_does_not_answer_is_nobodys_fault() -> None:
    async with S3Store("b", settings=AwsSettings(endpoint="http://127.0.0.1:9", connect_timeout=0.5)) as store:
        with pytest.raises(Unavailable):
            await store.put(outgoing())
        pointer = json.dumps([POINTER, {"s3BucketName": "b", "s3Key": UUID}]).encode()
        with pytest.raises(Unavailable):
            await store.fetch(delivery(pointer))
