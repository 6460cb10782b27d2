"""Priorities: asked for by the URL, carried by the message, kept by a retry."""

from __future__ import annotations

import pytest
from tests.amqp.conftest import Connect, out, queue, send, take

from msgbus.brokers.amqp import AmqpOptions
from msgbus.brokers.amqp.settings import parse
from msgbus.errors import ConfigError
from msgbus.message import Act, Outgoing, Settlement, Source


def urgent(source: Source, body: int, priority: int) -> Outgoing:
    message = out(source, body)
    message.native = AmqpOptions(priority=priority)
    return message


async def test_the_urgent_come_first_after_a_retry_too(connect: Connect, name: str) -> None:
    broker = await connect("max_priority=5")
    source = await queue(broker, name)
    await send(broker, urgent(source, 1, 5))
    async with broker.receiver(source, prefetch=1) as receiver:
        (first,) = await take(receiver)
        assert await receiver.settle([Settlement(first, Act.RETRY, delay=0.0)]) == [None]
        await take(receiver)
    await send(broker, *(urgent(source, body, priority) for body, priority in ((2, 0), (3, 3), (4, 1))))
    async with broker.receiver(source, prefetch=1) as receiver:
        for body in (b"1", b"3", b"4", b"2"):
            (delivery,) = await take(receiver)
            assert delivery.body == body
            assert await receiver.settle([Settlement(delivery, Act.ACK)]) == [None]


def test_what_no_queue_can_have_is_refused() -> None:
    assert parse("amqp://?max_priority=10").options.queue_type == "classic"
    with pytest.raises(ConfigError, match="max_priority=256, allowed are 0 to 255"):
        parse("amqp://?max_priority=256")
