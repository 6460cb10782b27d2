"""Consumers of RabbitMQ that are killed, slow, or lose their channel. On both wires."""

from __future__ import annotations

import asyncio

import pytest
from tests.effort import clients, messages, pause
from tests.faults.amqp_run import Run, new_queue, some_items
from tests.faults.amqp_worker import Work
from tests.servers import Handle

pytestmark = pytest.mark.faults

CLIENTS = clients(("lean", messages(10_000)), ("aio-pika", messages(2_000)))


@pytest.mark.timeout(150)
@pytest.mark.parametrize(("client", "count"), CLIENTS)
async def test_killed_with_messages_in_hand(rabbitmq: Handle, client: str, count: int) -> None:
    work = Work(queue=new_queue(), pause=pause(0.005))
    async with Run(f"{rabbitmq.url}?client={client}", work, some_items(count)) as run:
        await run.start(2)
        publishing = asyncio.create_task(run.publish())
        for number, share in enumerate((0.2, 0.5)):
            await run.handled(share)
            await run.kill(number)
            await run.start()
        await publishing
        await run.judge()


@pytest.mark.timeout(150)
@pytest.mark.parametrize(("client", "count"), CLIENTS)
async def test_the_server_closes_the_channel(rabbitmq: Handle, client: str, count: int) -> None:
    """A handler spoils its channel: all that it holds comes again, and nothing else stops."""
    items = some_items(count)
    for item in items[count // 5 :: count // 4]:
        item.sabotage, item.poison = True, False
    async with Run(f"{rabbitmq.url}?client={client}", Work(queue=new_queue(), pause=0.001), items) as run:
        with run.trouble():
            await run.start(2)
            await run.publish()
            await run.handled()
        await run.judge()
        spoilt = [item.n for item in items if item.sabotage]
        assert len(spoilt) >= 3
        assert all(len([line for line in run.of[n] if line.event == "begin"]) > 1 for n in spoilt)


@pytest.mark.timeout(150)
@pytest.mark.parametrize(("client", "count"), CLIENTS)
async def test_a_slow_consumer_gets_everything_once(rabbitmq: Handle, client: str, count: int) -> None:
    """The backlog waits on the server: the consumer holds no more than its prefetch."""
    work = Work(queue=new_queue(), pause=0.02, concurrency=32, prefetch=40)
    async with Run(f"{rabbitmq.url}?client={client}", work, some_items(count)) as run:
        await run.declare()
        await run.publish(ahead=1.0)
        await run.start()
        await run.judge()
        assert run.duplicates() == 0


@pytest.mark.timeout(150)
@pytest.mark.parametrize(("client", "count"), CLIENTS)
async def test_order_is_kept_when_the_active_consumer_is_killed(rabbitmq: Handle, client: str, count: int) -> None:
    """Two consumers, one of them active; retries, dead letters and the handover keep each key in order."""
    work = Work(queue=new_queue(), ordered=True, pause=pause(0.002), concurrency=100)
    async with Run(f"{rabbitmq.url}?client={client}", work, some_items(count)) as run:
        await run.start(1)
        await run.start(1)
        publishing = asyncio.create_task(run.publish())
        await run.handled(0.3)
        await run.kill(0)
        await run.handled(0.6)
        await run.start(1)
        await run.kill(1)
        await publishing
        await run.judge()
        assert run.disorder() == []
