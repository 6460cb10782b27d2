"""Bad input and bad luck of sends: each entry has its own result, and each error names what to do."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from urllib.parse import parse_qs

import pytest
from pydantic import BaseModel
from tests.faults.http import Call, FaultyHttp, Meet, answer
from tests.servers import Handle
from tests.sqs.conftest import Aws, url_of

from msgbus import Bus, Queue, Topic
from msgbus.config import load_settings
from msgbus.errors import ConfigError, PublishFailed, Refused
from msgbus.message import Address, Outgoing, Receipt

EMPTY_RESULT = '<{0}Response xmlns="http://sns.amazonaws.com/doc/2010-03-31/"><{0}Result>{1}</{0}Result></{0}Response>'


class Item(BaseModel):
    key: str
    text: str = ""


def action(call: Call) -> str:
    """Of either protocol."""
    return call.operation or parse_qs(call.body.decode())["Action"][0]


def xml(operation: str, inner: str) -> bytes:
    return answer(200, EMPTY_RESULT.format(operation, inner).encode())


def denying(*actions: str) -> Meet:
    """As IAM does it: SQS answers in JSON, SNS in XML."""

    async def meet(call: Call) -> bytes | None:
        if action(call) not in actions:
            return answer(*await call.forward())
        if call.operation:
            refused = {
                "__type": "com.amazon.coral.service#AccessDeniedException",
                "message": "User x is not authorized",
            }
            return answer(403, json.dumps(refused).encode())
        error = "<Error><Code>AuthorizationError</Code><Message>not allowed</Message></Error>"
        return answer(403, f"<ErrorResponse>{error}</ErrorResponse>".encode())

    return meet


@pytest.mark.parametrize(
    ("action_", "said"),
    [
        ("SendMessageBatch", r"allow sqs:SendMessage on \S+/NAME to the role or user"),
        ("GetQueueUrl", "allow sqs:GetQueueUrl on queue NAME to"),
        ("PublishBatch", r"allow sns:Publish on arn:aws:sns:us-east-1:000000000000:NAME to"),
        ("CreateTopic", "allow sns:CreateTopic on topic NAME to"),
    ],
)
async def test_a_missing_permission_names_action_and_resource(
    fauxqs: Handle, aws_fauxqs: Aws, name: str, action_: str, said: str
) -> None:
    await aws_fauxqs.queue(name)
    async with FaultyHttp(fauxqs.url, denying(action_)) as proxy, Bus(url_of(proxy.url)) as bus:
        is_queue = action_ in ("SendMessageBatch", "GetQueueUrl")
        sending = (
            bus.send(Queue(name, Item), Item(key="1")) if is_queue else bus.publish(Topic(name, Item), Item(key="1"))
        )
        with pytest.raises(Refused, match=said.replace("NAME", name)):
            await sending


async def test_without_the_right_to_look_at_a_topic_it_is_published_to(fauxqs: Handle, name: str) -> None:
    async with Bus(url_of(fauxqs.url)) as bus:
        await bus.publish(Topic(name, Item), Item(key="1"))
    trusting = load_settings(provision="trust")
    proxy = FaultyHttp(fauxqs.url, denying("GetTopicAttributes"))
    async with proxy, Bus(url_of(proxy.url), settings=trusting) as bus:
        results = await bus.link_for(name).broker.send(
            [Outgoing(Address("topic", name), str(size), b"x" * size, {}) for size in (9, 300_000)]
        )
    assert [type(result) for result in results] == [Receipt, Refused]  # 256 KiB is what any topic takes
    assert "or raise the topic's MaximumMessageSize" in str(results[1])


@pytest.mark.parametrize("ordered", [False, True])
async def test_an_oversize_entry_fails_alone(
    server: Handle, bus_on: Callable[..., Bus], aws: Aws, name: str, ordered: bool
) -> None:
    queue = Queue(name, Item, key="key", ordered=ordered)
    await aws.queue(name + (".fifo" if ordered else ""), **({"FifoQueue": "true"} if ordered else {}))
    async with bus_on(server.url) as bus:
        items = [Item(key="1"), Item(key="2", text="x" * 1_100_000), Item(key="3")]
        with pytest.raises(PublishFailed, match="1 of 3 entries failed") as failed:
            await bus.publish_many(queue, items)
        first, second, third = failed.value.results
        assert isinstance(first, Receipt)
        assert isinstance(third, Receipt)
        assert re.search(
            rf"queue {name}: the message has 1,100,\d+ bytes .* takes 1,044,480: give the Bus a store", str(second)
        )
    found = await aws.receive(name + (".fifo" if ordered else ""))
    assert sorted(json.loads(each["Body"])["key"] for each in found) == ["1", "3"]


@pytest.mark.parametrize("ordered", [False, True])
async def test_a_topic_that_takes_larger_messages(fauxqs: Handle, name: str, ordered: bool) -> None:
    """MaximumMessageSize is newer than the emulators: the proxy adds it, and takes what is published."""
    published: list[int] = []

    async def meet(call: Call) -> bytes | None:
        if action(call) == "PublishBatch":
            published.append(len(call.body))
            member = "<member><Id>0</Id><MessageId>m</MessageId></member>"
            return xml("PublishBatch", f"<Successful>{member}</Successful><Failed/>")
        status, body = await call.forward()
        more = b"<entry><key>MaximumMessageSize</key><value>1048576</value></entry></Attributes>"
        return answer(status, body.replace(b"</Attributes>", more))

    topic = Topic(name, Item, key="key", ordered=ordered)
    async with FaultyHttp(fauxqs.url, meet) as proxy:
        async with Bus(url_of(proxy.url)) as bus:  # makes it, with the default
            with pytest.raises(Refused, match="this broker takes 262,"):
                await bus.publish(topic, Item(key="1", text="x" * 900_000))
        async with Bus(url_of(proxy.url)) as bus:  # sees what it says
            await bus.publish(topic, Item(key="1", text="x" * 900_000))
    assert len(published) == 1


async def test_a_call_that_is_refused_for_one_entry_is_repeated_without_it(
    fauxqs: Handle, aws_fauxqs: Aws, name: str
) -> None:
    await aws_fauxqs.queue(name)

    async def meet(call: Call) -> bytes | None:
        if call.operation == "SendMessageBatch" and b"poison" in call.body:
            refused = {"__type": "com.amazonaws.sqs#InvalidMessageContents", "message": "odd"}
            return answer(400, json.dumps(refused).encode())
        return answer(*await call.forward())

    async with FaultyHttp(fauxqs.url, meet) as proxy, Bus(url_of(proxy.url)) as bus:
        with pytest.raises(
            PublishFailed, match=r"1 of 3 entries failed.*odd \(com.amazonaws.sqs#InvalidMessage"
        ) as failed:
            await bus.publish_many(Queue(name, Item), [Item(key="1"), Item(key="poison"), Item(key="3")])
    assert [type(result) for result in failed.value.results] == [Receipt, Refused, Receipt]
    assert sorted(json.loads(each["Body"])["key"] for each in await aws_fauxqs.receive(name)) == ["1", "3"]


async def test_only_the_entries_that_sns_failed_are_published_again(fauxqs: Handle, name: str) -> None:
    calls: list[list[str]] = []

    async def meet(call: Call) -> bytes | None:
        if action(call) != "PublishBatch":
            return answer(*await call.forward())
        form = parse_qs(call.body.decode())
        bodies = [form[key][0] for key in form if key.endswith(".Message")]
        calls.append([json.loads(body)["key"] for body in bodies])
        good = "<member><Id>0</Id><MessageId>m</MessageId></member>"
        entry = (
            "<member><Id>{}</Id><Code>InternalError</Code><Message>m</Message><SenderFault>false</SenderFault></member>"
        )
        failed = "".join(entry.format(place) for place in range(1, len(bodies)))
        return xml("PublishBatch", f"<Successful>{good}</Successful><Failed>{failed}</Failed>")

    async with FaultyHttp(fauxqs.url, meet) as proxy, Bus(url_of(proxy.url)) as bus:
        receipts = await bus.publish_many(Topic(name, Item), [Item(key=str(number)) for number in range(3)])
    assert len(receipts) == 3
    assert sorted(key for keys in calls for key in keys) == ["0", "1", "1", "2", "2", "2"]


async def test_a_fifo_topic_without_a_key(server: Handle, bus_on: Callable[..., Bus], name: str) -> None:
    async with bus_on(server.url) as bus:
        topic = Topic(f"{name}.fifo", Item, key=lambda item: item.key)
        with pytest.raises(PublishFailed, match="keeps order by key, and this message has none; give key=") as failed:
            await bus.publish_many(topic, [Item(key="1"), Item(key=""), Item(key="3")])
        assert [type(result) for result in failed.value.results] == [Receipt, Refused, Receipt]


async def test_more_filterable_headers_than_attributes_allow(
    fauxqs: Handle, bus_on: Callable[..., Bus], name: str
) -> None:
    async with bus_on(fauxqs.url) as bus:
        topic = Topic(name, Item, filter_on=[f"h{number}" for number in range(7)])
        with pytest.raises(ConfigError, match=rf"topic {name}: filter_on names 7 headers, this broker has room for 6"):
            await bus.publish(topic, Item(key="1"))


async def test_delays(server: Handle, bus_on: Callable[..., Bus], aws: Aws, name: str) -> None:
    await aws.queue(name)
    async with bus_on(server.url) as bus:
        with pytest.raises(Refused, match=rf"queue {name}: delay=901 s, this broker has delays of 0 to 900 s"):
            await bus.send(Queue(name, Item), Item(key="1"), delay=901)
        with pytest.raises(Refused, match=rf"topic {name}: delay=5 s, this broker has no delays"):
            await bus.publish(Topic(name, Item), Item(key="1"), delay=5)
        ordered = Queue(name, Item, key="key", ordered=True)
        with pytest.raises(Refused, match="this broker has no delays"):
            await bus.send(ordered, Item(key="1"), delay=5)
        await bus.send(Queue(name, Item), Item(key="1"), delay=900)
