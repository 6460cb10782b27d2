"""Dead letters in a queue, a topic or a bucket: whole, or with the place where the rest is."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.kinesis.conftest import Bench
from tests.kinesis.test_receiving import some

from msgbus import ConfigError, Refused
from msgbus import headers as h
from msgbus.brokers.kinesis import KinesisBroker
from msgbus.brokers.kinesis.failures import OMITTED
from msgbus.brokers.kinesis.options import parse_url
from msgbus.dead import DeadLetter
from msgbus.message import Act, Settlement, Source


async def die(bench: Bench, broker: KinesisBroker, source: Source, body: bytes) -> Any:
    """One message is dead: the result of its settlement."""
    async with broker.receiver(source, prefetch=10) as receiver:
        await broker.send([bench.out(body, "k")])
        (delivery,) = await some(receiver, 1)
        reason = Settlement(delivery, Act.DEAD, reason="bad", headers={h.ERROR_TYPE: "ValueError"})
        (result,) = await receiver.settle([reason])
        assert list(await receiver.receive(1, 0.1)) == []
        return result


async def test_a_letter_in_a_queue_says_where_it_was(bench: Bench) -> None:
    broker = await bench.broker(shards=1)
    source = await bench.group(broker)
    assert await die(bench, broker, source, b"\x00\xff") is None
    place = await broker.admin.dead_letters(source)
    assert place == Source("queue", f"{bench.topic}--g-dead")
    async with broker.receiver(place, prefetch=10) as receiver:
        (letter,) = await some(receiver, 1)
        headers = json.loads(letter.headers[h.PACKED])
        assert headers["kinesis-shard"] == "shardId-000000000000"
        assert headers["kinesis-stream"] == bench.topic
        assert headers["kinesis-sequence"].isdecimal()
        assert (headers[h.DEAD_REASON], headers[h.ERROR_TYPE]) == ("bad", "ValueError")


@pytest.mark.parametrize(
    "body", [b"", "\u2400".encode(), b'{"id": "e", "detail-type": "t", "source": "s", "detail": {}}']
)
async def test_a_letter_of_a_foreign_record_has_its_body_and_is_known_by_its_place(bench: Bench, body: bytes) -> None:
    """An empty one too, the character that stands for one, and what another service calls an envelope."""
    broker = await bench.broker(shards=1)
    source = await bench.group(broker)
    assert await die(bench, broker, source, body) is None
    place = await broker.admin.dead_letters(source)
    assert place is not None
    async with broker.receiver(place, prefetch=10) as receiver:
        (delivery,) = await some(receiver, 1)
        letter = DeadLetter.of(delivery)
        assert (letter.body, letter.damaged) == (body, "")
        assert letter.id == f"{letter.headers['kinesis-sequence']}-0"


async def test_a_body_too_large_for_the_queue_is_left_in_the_stream(bench: Bench) -> None:
    broker = await bench.broker(shards=1)
    source = await bench.group(broker)
    assert await die(bench, broker, source, b"\xff" * 900_000) is None
    place = await broker.admin.dead_letters(source)
    assert place is not None
    async with broker.receiver(place, prefetch=10) as receiver:
        (letter,) = await some(receiver, 1)
        headers = json.loads(letter.headers[h.PACKED])
        assert headers[OMITTED] == "900000 bytes"
        assert headers["kinesis-sequence"].isdecimal()


async def test_letters_in_a_bucket(bench: Bench) -> None:
    broker = await bench.broker(shards=1, failure="s3://letters/dead", endpoint=bench.direct)
    source = Source("topic", bench.topic, "g")
    missing = await broker._failures(source).ensure("create")
    assert [difference.made for difference in missing] == [False]
    await bench.group(broker)
    assert isinstance(await die(bench, broker, source, b"early"), Refused)
    async with broker._lifetime.client.client("s3") as s3:
        await s3.create_bucket(Bucket="letters")
        assert await broker._failures(source).ensure("verify") == []
        await broker.admin.purge(source)  # the early one stayed
        assert await die(bench, broker, source, b'{"a":1}') is None
        listed = await s3.list_objects_v2(Bucket="letters", Prefix=f"dead/{bench.topic}/g/shardId-000000000000/")
        bodies = []
        for entry in listed["Contents"]:
            got = await s3.get_object(Bucket="letters", Key=entry["Key"])
            bodies.append(json.loads(await got["Body"].read()))
    assert await broker.admin.dead_letters(source) is None
    assert not broker.capabilities().dead_letters
    assert '{"a":1}' in [body["body"] for body in bodies]
    assert all(body["headers"][h.DEAD_REASON] == "bad" for body in bodies)


async def test_letters_to_a_topic(bench: Bench) -> None:
    broker = await bench.broker(shards=1, failure="arn:aws:sns:us-east-1:000000000000:letters")
    source = await bench.group(broker)
    async with broker._lifetime.client.client("sns") as sns, broker._lifetime.client.client("sqs") as sqs:
        await sns.create_topic(Name="letters")
        queue = (await sqs.create_queue(QueueName=f"{bench.topic}-seen"))["QueueUrl"]
        arn = f"arn:aws:sqs:us-east-1:000000000000:{bench.topic}-seen"
        await sns.subscribe(
            TopicArn="arn:aws:sns:us-east-1:000000000000:letters",
            Protocol="sqs",
            Endpoint=arn,
            Attributes={"RawMessageDelivery": "true"},
        )
        assert await die(bench, broker, source, b"text") is None
        got = await sqs.receive_message(QueueUrl=queue, MessageAttributeNames=["All"], WaitTimeSeconds=5)
    (message,) = got["Messages"]
    assert message["Body"] == "text"
    assert json.loads(message["MessageAttributes"][h.PACKED]["StringValue"])[h.DEAD_REASON] == "bad"


async def test_a_missing_queue_leaves_the_message_where_it_is(bench: Bench) -> None:
    broker = await bench.broker(shards=1, failure="arn:aws:sqs:us-east-1:000000000000:nobody-made-this")
    source = Source("topic", bench.topic, "g")
    await bench.group(await bench.broker(shards=1))
    result = await die(bench, broker, source, b"x")
    assert isinstance(result, Refused)
    assert "nobody-made-this" in str(result)
    async with broker.receiver(source, prefetch=10) as receiver:
        assert [delivery.body for delivery in await some(receiver, 1)] == [b"x"]


@pytest.mark.parametrize(
    ("option", "names"),
    [
        ("failure=kafka", "failure"),
        ("shards=-1", "shards"),
        ("lease=0", "lease"),
        ("lease=x", "lease"),
        ("start=middle", "start"),
        ("aggregate=maybe", "aggregate"),
        ("leases=redis://x", "leases"),
        ("record_bytes=10", "record_bytes"),
        ("nonsense=1", "nonsense"),
    ],
)
def test_a_bad_option_is_named(option: str, names: str) -> None:
    with pytest.raises(ConfigError, match=names):
        parse_url(f"kinesis://us-east-1?{option}")


def test_a_driver_is_written_with_a_plus() -> None:
    """As in every URL, and as the page shows it; what was percent-encoded is the same."""
    for text in ("postgresql+asyncpg://u:p%2540@h/d", "postgresql%2Basyncpg%3A%2F%2Fu%3Ap%2540%40h%2Fd"):
        _, options, _ = parse_url(f"kinesis://us-east-1?leases={text}")
        assert options.leases == "postgresql+asyncpg://u:p%40@h/d"


def test_keys_do_not_belong_into_the_url() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_url("kinesis://key:secret@us-east-1")
    assert "secret" not in str(caught.value)
