"""What ActiveMQ does with order: facts that docs/reference/stomp.md states."""

from __future__ import annotations

import uuid
from contextlib import AsyncExitStack

import pytest
from tests.servers import Handle

from msgbus.broker import QueueSpec, Receiver
from msgbus.brokers.stomp import StompBroker
from msgbus.clock import SystemClock
from msgbus.message import Outgoing, Source


async def _taken(receiver: Receiver, count: int) -> list[int]:
    """The bodies of so many deliveries, which stay in hand."""
    found: list[int] = []
    while len(found) < count:
        found += [int(delivery.body) for delivery in await receiver.receive(100, 20.0)]
    return found


@pytest.mark.parametrize("prefetch", [10, 5], ids=["all was handed out", "some was not yet handed out"])
async def test_two_consumers_that_end_one_after_the_other(activemq: Handle, prefetch: int) -> None:
    """The server adds what is given back at the end of what was given back before, though it is older."""
    broker, source = (
        StompBroker(activemq.url, clock=SystemClock()),
        Source("queue", f"o-{uuid.uuid4().hex}", ordered=True),
    )
    await broker.connect()
    await broker.admin.ensure([QueueSpec(source)], "create")
    await broker.send(
        [Outgoing(source.address, str(n), str(n).encode(), {"ce-id": str(n)}, key="k") for n in range(10)]
    )
    async with AsyncExitStack() as stack:
        stack.push_async_callback(broker.close)
        first, second = AsyncExitStack(), AsyncExitStack()
        receiver = await first.enter_async_context(broker.receiver(source, prefetch=10))
        assert await _taken(receiver, 10) == list(range(10))
        receiver = await second.enter_async_context(broker.receiver(source, prefetch=prefetch))
        await first.aclose()
        assert await _taken(receiver, prefetch) == list(range(prefetch))
        third = await stack.enter_async_context(broker.receiver(source, prefetch=10))
        await second.aclose()
        assert await _taken(third, 10) == [*range(prefetch, 10), *range(prefetch)]
