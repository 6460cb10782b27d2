"""What is planned, what is created and what is allowed agree: on the emulators, and under the policy itself."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import pytest
from pydantic import BaseModel
from tests.aws.deploying import ACCOUNT, Guard, deploy, resolved
from tests.servers import Handle
from tests.sqs.conftest import Aws, topic_arn, url_of

from msgbus import Bus, Queue, Reject, Rpc, Select, Topic
from msgbus.broker import Mode
from msgbus.brokers.aws import AwsClient, AwsSettings
from msgbus.brokers.sqs import S3Store, SqsBroker
from msgbus.cli.needs import written
from msgbus.clock import SystemClock
from msgbus.config import Settings
from msgbus.errors import Refused
from msgbus.handlers.topology import use_of_published


class Order(BaseModel):
    number: int
    text: str = ""


class Service:
    """Handles a topic and two queues, answers, publishes, sends and requests; everything under names of its own."""

    def __init__(self, name: str, url: str, mode: Mode = "create", store: S3Store | None = None) -> None:
        self.bus = Bus(settings=Settings(url=url, provision=mode), store=store)
        self.orders = Topic(f"{name}-orders", Order, filter_on=["region"])
        self.line = Queue(f"{name}-line", Order, key="number", ordered=True)
        self.work = Queue(f"{name}-work", Order)
        self.quotes = Rpc(f"{name}-quotes", Order, Order)
        self.handled: asyncio.Queue[Order] = asyncio.Queue()
        self.bus.publishes(self.orders, self.line, self.work, self.quotes)
        select = Select(where={"region": ["eu"]})
        self.bus.subscriber(self.orders, group="billing", select=select)(self.handle)
        self.bus.consumer(self.line)(self.handle)
        self.bus.consumer(self.work)(self.handle)
        self.bus.responder(self.quotes)(self.quote)

    async def handle(self, order: Order) -> None:
        self.handled.put_nowait(order)
        if order.number < 0:
            raise Reject("bad")

    async def quote(self, order: Order) -> Order:
        return order

    async def work_through(self) -> None:
        """Everything once, a body in the store too, and a dead letter."""
        async with self.bus.consuming() as bus:
            large = "x" * 1_100_000 if self.bus.store is not None else ""
            await bus.publish(self.orders, Order(number=1, text=large), headers={"region": "eu"})
            await bus.send(self.line, Order(number=2))
            await bus.send(self.work, Order(number=3, text=large))
            await bus.send(self.work, Order(number=-1))
            assert await bus.request(self.quotes, Order(number=4)) == Order(number=4)
            for _ in range(4):
                await self.handled.get()


def template_of(service: Service) -> dict[str, Any]:
    text, _ = in_thread(lambda: written(service.bus, "cloudformation", "verify"))
    return cast(dict[str, Any], json.loads(text))


def in_thread(work: Callable[[], tuple[str, list[str]]]) -> tuple[str, list[str]]:
    """The command line begins a loop of its own."""

    with ThreadPoolExecutor(1) as threads:
        return threads.submit(work).result()


async def test_a_deployed_template_is_as_declared(ministack: Handle, name: str) -> None:
    service = Service(name, url_of(ministack.url), "verify")
    async with AwsClient(AwsSettings(endpoint=ministack.url)) as client:
        await deploy(client, name, json.dumps(template_of(service)))
    async with service.bus.connected():
        for link, parts in service.bus.needs().items():
            assert await link.broker.admin.ensure(parts, "verify") == []
    await service.work_through()


async def test_what_is_created_is_what_is_printed(server: Handle, aws: Aws, name: str) -> None:
    service = Service(name, url_of(server.url))
    async with service.bus.connected():
        for link, parts in service.bus.needs().items():
            await link.broker.admin.ensure(parts, "create")
    template = template_of(service)
    kinds = [each["Type"] for each in template["Resources"].values()]
    assert (kinds.count("AWS::SQS::Queue"), kinds.count("AWS::SQS::QueuePolicy")) == (8, 2)
    assert (kinds.count("AWS::SNS::Topic"), kinds.count("AWS::SNS::Subscription")) == (1, 1)
    for resource in template["Resources"].values():
        await compare(aws, template, resource)


async def compare(aws: Aws, template: dict[str, Any], resource: dict[str, Any]) -> None:
    wanted = resolved(template, resource["Properties"])
    match resource["Type"]:
        case "AWS::SQS::Queue":
            queue = wanted.pop("QueueName")
            tags = (await aws.sqs("ListQueueTags", QueueUrl=await aws.url(queue)))["Tags"]
            assert {each["Key"]: each["Value"] for each in wanted.pop("Tags")} == tags
            same(wanted, await aws.attributes(queue))
        case "AWS::SQS::QueuePolicy":
            (queue,) = (each.rpartition(":")[2] for each in wanted["Queues"])
            found = json.loads((await aws.attributes(queue))["Policy"])
            for statement in found["Statement"]:
                del statement["Sid"]
            assert found == wanted["PolicyDocument"]
        case "AWS::SNS::Topic":
            tags = (await aws.sns("ListTagsForResource", ResourceArn=topic_arn(wanted["TopicName"])))["Tags"]
            assert tags == wanted["Tags"]
        case "AWS::SNS::Subscription":
            same(wanted, await aws.subscription(wanted["TopicArn"]))


def same(wanted: dict[str, Any], found: dict[str, str]) -> None:
    for name, value in wanted.items():
        assert (value if isinstance(value, str) else json.dumps(value)) == (
            found[name] if not isinstance(value, dict) else json.dumps(json.loads(found[name]))
        ), name


# -- rights

RARE = {
    "sqs:ChangeMessageVisibility": "a heartbeat, a retry",
    "sqs:DeleteQueue": "also of orphaned inboxes",
    "sqs:ListQueueTags": "an inbox of somebody else",
    "sqs:TagQueue": "asked by CreateQueue itself; a sign of life every ten minutes",
    "sns:TagResource": "asked by CreateTopic itself",
    "sns:GetSubscriptionAttributes": "of one that is there already",
    "sns:SetSubscriptionAttributes": "a filter that changes",
    "sqs:SetQueueAttributes": "only of what is there",
    "s3:ListBucket": "asked by S3 itself, for an object that is gone",
}
"""What a service is allowed and may not do in one run, and when it does."""


@pytest.mark.parametrize("mode", ["create", "verify", "trust"])
async def test_a_service_runs_with_the_rights_that_are_printed_and_with_no_less(
    ministack: Handle, name: str, mode: Mode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCOUNT_ID", ACCOUNT)
    bucket = S3Store(f"{name}-bodies", settings=AwsSettings(endpoint=ministack.url))
    if mode != "create":
        async with Service(name, url_of(ministack.url)).bus.consuming():
            pass
    async with AwsClient(AwsSettings(endpoint=ministack.url)) as client, bucket:
        await client.call("s3", "CreateBucket", {"Bucket": bucket.bucket})
        printed = Service(name, url_of(ministack.url), mode, bucket)
        policy = json.loads(in_thread(lambda: written(printed.bus, "iam", mode))[0])
    guard = Guard(ministack.url, policy)
    async with guard.proxy:
        store = S3Store(f"{name}-bodies", settings=AwsSettings(endpoint=guard.proxy.url))
        async with store:
            await Service(name, url_of(guard.proxy.url), mode, store).work_through()
    assert guard.refused == []
    assert guard.used <= guard.granted
    assert guard.granted - guard.used <= RARE.keys()


async def test_the_guard_refuses_what_is_not_allowed(ministack: Handle, name: str) -> None:
    guard = Guard(ministack.url, {"Statement": []})
    async with guard.proxy:
        broker = SqsBroker(url_of(guard.proxy.url), clock=SystemClock())
        await broker.connect()
        use = use_of_published(Topic(name, Order), "")
        with pytest.raises(Refused, match="not authorized to perform: sns:GetTopicAttributes"):
            await broker.admin.ensure(use.parts, "verify")
        await broker.close()
    assert len(guard.refused) == 1
