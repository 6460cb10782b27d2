"""What every test of the AMQP broker may use: brokers of both wires on the session's RabbitMQ."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack

import pytest
from tests.servers import Handle
from tests.slowness import slowness

from msgbus import headers as h
from msgbus.broker import Part, QueueSpec
from msgbus.brokers.amqp import AmqpBroker
from msgbus.brokers.amqp.wire import Arrived
from msgbus.brokers.mailbox import ReplyInbox
from msgbus.brokers.mq.receiver import PushReceiver
from msgbus.clock import SystemClock
from msgbus.errors import BusError
from msgbus.message import Address, Delivery, Outgoing, Receipt, Source

Connect = Callable[..., Awaitable[AmqpBroker]]


@pytest.fixture(params=["lean", "aio-pika"])
def client(request: pytest.FixtureRequest) -> str:
    """Each test runs on both wires."""
    return str(request.param)


@pytest.fixture
def name() -> str:
    """A name that no other test has."""
    return f"t-{uuid.uuid4().hex[:12]}"


@pytest.fixture
async def connect(client: str, rabbitmq: Handle) -> AsyncIterator[Connect]:
    """`await connect("heartbeat=2", url=...)`: a connected broker, closed when the test ends."""
    async with AsyncExitStack() as stack:

        async def make(*options: str, url: str = "") -> AmqpBroker:
            query = "&".join((f"client={client}", *options))
            broker = AmqpBroker(f"{url or rabbitmq.url}?{query}", clock=SystemClock())
            stack.push_async_callback(broker.close)
            await broker.connect()
            return broker

        yield make


async def queue(broker: AmqpBroker, name: str, *parts: Part, ordered: bool = False) -> Source:
    """A queue that is there."""
    source = Source("queue", name, ordered=ordered)
    await broker.admin.ensure([QueueSpec(source), *parts], "create")
    return source


def out(to: Source, body: bytes | int, **headers: str) -> Outgoing:
    """A message to a queue."""
    message_id = uuid.uuid4().hex
    data = str(body).encode() if isinstance(body, int) else body
    return Outgoing(Address(to.kind, to.name), message_id, data, {h.ID: message_id, **headers})


async def send(broker: AmqpBroker, *outs: Outgoing) -> None:
    """Every one is taken."""
    assert wrong(await broker.send(outs)) == []


def wrong(results: Sequence[Receipt | BusError | None]) -> list[BusError]:
    """The errors among results."""
    return [result for result in results if isinstance(result, BusError)]


async def take(receiver: PushReceiver[Arrived, Arrived] | ReplyInbox[Arrived], count: int = 1) -> list[Delivery]:
    """Exactly `count` messages, unsettled."""
    got: list[Delivery] = []
    end = time.monotonic() + 20.0 * slowness()
    while len(got) < count:
        assert time.monotonic() < end, f"{len(got)} of {count} messages came in time"
        got += await receiver.receive(count - len(got), 1.0)
    return got
