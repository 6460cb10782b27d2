"""What is planned, what is created and what is allowed agree: on ministack, and under the policy itself."""

from __future__ import annotations

import asyncio
import json

import pytest
from tests.aws.deploying import ACCOUNT, Guard, deploy
from tests.kinesis.conftest import Bench
from tests.servers import Handle

from msgbus import Bus, Reject, Topic
from msgbus.broker import Mode, Part
from msgbus.brokers.aws import AwsClient, AwsSettings
from msgbus.brokers.aws.templates import FORMATS
from msgbus.brokers.plan import Use
from msgbus.config import Settings
from msgbus.errors import ConfigError
from msgbus.handlers.topology import parts_of, use_of_published
from msgbus.message import Source


def needed(bench: Bench) -> tuple[list[Use], list[Part]]:
    source = Source("topic", bench.topic, "g")
    parts = parts_of(source, 20)
    return [Use("consume", source, tuple(parts)), use_of_published(Topic(bench.topic, str), "")], parts


async def test_a_deployed_template_is_as_declared(ministack: Handle) -> None:
    async with Bench(ministack) as bench:
        broker = await bench.broker()
        uses, parts = needed(bench)
        assert len(await broker.admin.ensure(parts, "verify")) == 4
        async with AwsClient(AwsSettings(endpoint=bench.direct)) as client:
            await deploy(client, bench.topic, FORMATS["cloudformation"]([broker.plan(uses, "verify")]))
        assert await broker.admin.ensure(parts, "verify") == []
        async with broker.receiver(parts[1].source, prefetch=10):  # type: ignore[union-attr]
            pass


async def test_what_is_created_is_what_is_printed(ministack: Handle) -> None:
    async with Bench(ministack) as bench:
        broker = await bench.broker(shards=3, table_prefix="p-")
        uses, parts = needed(bench)
        await broker.admin.ensure(parts, "create")
        template = json.loads(FORMATS["cloudformation"]([broker.plan(uses, "verify")]))["Resources"]
        printed = {each["Type"].split("::")[1]: each["Properties"] for each in template.values()}
        async with AwsClient(AwsSettings(endpoint=bench.direct)) as client:
            told = await client.call("kinesis", "DescribeStreamSummary", {"StreamName": printed["Kinesis"]["Name"]})
            assert told["StreamDescriptionSummary"]["OpenShardCount"] == printed["Kinesis"]["ShardCount"] == 3
            named = {"TableName": printed["DynamoDB"]["TableName"]}
            table = (await client.call("dynamodb", "DescribeTable", named))["Table"]
            for name in ("TableName", "AttributeDefinitions", "KeySchema"):
                assert table[name] == printed["DynamoDB"][name]
            assert table["BillingModeSummary"]["BillingMode"] == printed["DynamoDB"]["BillingMode"]
            place = {"QueueUrl": f"{bench.direct}/{ACCOUNT}/{printed['SQS']['QueueName']}", "AttributeNames": ["All"]}
            queue = (await client.call("sqs", "GetQueueAttributes", place))["Attributes"]
            assert queue["MessageRetentionPeriod"] == str(printed["SQS"]["MessageRetentionPeriod"])


RARE = {
    "sqs:TagQueue": "asked by CreateQueue itself",
    "dynamodb:TagResource": "asked by CreateTable itself",
    "dynamodb:DeleteItem": "the lease of a shard that the stream has forgotten",
    "dynamodb:GetItem": "a lease that somebody else has written",
}


class Service:
    """Handles what it publishes: one message is dead, the other not."""

    def __init__(self, name: str, url: str, mode: Mode) -> None:
        self.bus = Bus(settings=Settings(url=url, provision=mode))
        self.topic = Topic(name, str)
        self.bus.publishes(self.topic)
        self.bus.subscriber(self.topic, group="g")(self.handle)
        self.handled: asyncio.Queue[str] = asyncio.Queue()

    async def handle(self, text: str) -> None:
        self.handled.put_nowait(text)
        if text == "bad":
            raise Reject(text)

    async def work_through(self) -> None:
        async with self.bus.consuming() as bus:
            await bus.publish(self.topic, "bad")
            await bus.publish(self.topic, "good")
            assert {await self.handled.get(), await self.handled.get()} == {"bad", "good"}


@pytest.mark.parametrize("mode", ["create", "verify", "trust"])
async def test_a_service_runs_with_the_rights_that_are_printed_and_with_no_less(
    ministack: Handle, mode: Mode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCOUNT_ID", ACCOUNT)
    async with Bench(ministack) as bench:
        options = {"rate": 1000, "start": "oldest"}
        uses, parts = needed(bench)
        broker = await bench.broker(**options)
        if mode != "create":
            await broker.admin.ensure(parts[:2], "create")  # as a template does: without leases
        policy = json.loads(FORMATS["iam"]([broker.plan(uses, mode)]))
        guard = Guard(ministack.url, policy)
        async with guard.proxy:
            await Service(bench.topic, bench.url(**options, endpoint=guard.proxy.url), mode).work_through()
    assert set(guard.refused) <= {"kinesis:ListStreams on ['*']"}  # then the own clock is believed
    assert guard.used <= guard.granted
    assert guard.granted - guard.used <= RARE.keys()


async def test_filters_are_refused_when_the_bus_opens(ministack: Handle) -> None:
    async with Bench(ministack) as bench:
        bus = Bus(bench.url())
        bus.publishes(Topic(bench.topic, str, filter_on=["region"]))
        with pytest.raises(ConfigError, match=r"filter_on=\['region'\] needs headers"):
            await bus.__aenter__()
