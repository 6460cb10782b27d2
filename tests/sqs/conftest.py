"""An environment of nobody's, the two emulators, and a bus or a bare client on one of them.

`server` is both, one after the other: what the documents of the service say must hold on each.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from tests import awsenv
from tests.servers import Handle
from tests.servers.fixtures import fauxqs, ministack, server_pool

from msgbus import Bus
from msgbus.brokers.aws import AwsClient, AwsSettings
from msgbus.brokers.sqs import SqsBroker
from msgbus.clock import SystemClock

__all__ = ["fauxqs", "ministack", "server_pool"]


@pytest.fixture(autouse=True)
def aws_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    awsenv.use(monkeypatch, tmp_path)


@pytest.fixture(params=["fauxqs", "ministack"])
def server(request: pytest.FixtureRequest) -> Handle:
    handle: Handle = request.getfixturevalue(request.param)
    return handle


@pytest.fixture
def name() -> str:
    """Of a queue or topic of this test alone."""
    return f"t-{uuid.uuid4().hex[:12]}"


def url_of(endpoint: str, options: str = "") -> str:
    """A broker's URL. Short polls, so that a stop is short."""
    return f"sqs://us-east-1?wait=1&endpoint={quote(endpoint, safe='')}{options}"


@pytest.fixture
def bus_on() -> Callable[..., Bus]:
    """`bus_on(server.url, "&fair=off")`: a bus, not yet open."""
    return lambda endpoint, options="", **more: Bus(url_of(endpoint, options), **more)


class Aws:
    """The emulator as somebody else's program sees it."""

    def __init__(self, client: AwsClient) -> None:
        self.client = client

    async def sqs(self, operation: str, **params: Any) -> dict[str, Any]:
        return await self.client.call("sqs", operation, params)

    async def sns(self, operation: str, **params: Any) -> dict[str, Any]:
        return await self.client.call("sns", operation, params)

    async def s3(self, operation: str, **params: Any) -> dict[str, Any]:
        return await self.client.call("s3", operation, params)

    async def url(self, queue: str) -> str:
        return str((await self.sqs("GetQueueUrl", QueueName=queue))["QueueUrl"])

    async def queue(self, name: str, **attributes: str) -> str:
        """A new queue; its URL."""
        return str((await self.sqs("CreateQueue", QueueName=name, Attributes=attributes))["QueueUrl"])

    async def attributes(self, queue: str) -> dict[str, str]:
        found = await self.sqs("GetQueueAttributes", QueueUrl=await self.url(queue), AttributeNames=["All"])
        attributes: dict[str, str] = found["Attributes"]
        return attributes

    async def receive(self, queue: str, wait: int = 5) -> list[dict[str, Any]]:
        """What a foreign consumer sees; it stays invisible for a while."""
        names = {"MessageAttributeNames": ["All"], "MessageSystemAttributeNames": ["All"]}
        params = {"QueueUrl": await self.url(queue), "MaxNumberOfMessages": 10, "WaitTimeSeconds": wait, **names}
        return (await self.sqs("ReceiveMessage", **params)).get("Messages") or []

    async def subscribe(self, topic: str, queue: str, **attributes: str) -> str:
        """As somebody without msgbus does it; the subscription's ARN."""
        arn = (await self.attributes(queue))["QueueArn"]
        params = {"TopicArn": topic, "Protocol": "sqs", "Endpoint": arn, "ReturnSubscriptionArn": True}
        return str((await self.sns("Subscribe", **params, Attributes=attributes))["SubscriptionArn"])

    async def subscription(self, topic: str) -> dict[str, str]:
        """Attributes of the only subscription of a topic."""
        (one,) = (await self.sns("ListSubscriptionsByTopic", TopicArn=topic))["Subscriptions"]
        found = await self.sns("GetSubscriptionAttributes", SubscriptionArn=one["SubscriptionArn"])
        attributes: dict[str, str] = found["Attributes"]
        return attributes


@pytest.fixture
async def aws(server: Handle) -> AsyncIterator[Aws]:
    async with AwsClient(AwsSettings(endpoint=server.url)) as client:
        yield Aws(client)


@pytest.fixture
async def aws_fauxqs(fauxqs: Handle) -> AsyncIterator[Aws]:
    async with AwsClient(AwsSettings(endpoint=fauxqs.url)) as client:
        yield Aws(client)


@pytest.fixture
async def broker(server: Handle) -> AsyncIterator[SqsBroker]:
    """Connected."""
    one = SqsBroker(url_of(server.url), clock=SystemClock())
    await one.connect()
    yield one
    await one.close()


def topic_arn(name: str) -> str:
    """Of the emulators' account."""
    return f"arn:aws:sns:us-east-1:000000000000:{name}"
