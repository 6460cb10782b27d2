"""The network between us and RabbitMQ: cut, frozen, one of two ways gone. On both wires."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

import pytest
from tests.effort import clients, messages
from tests.faults.amqp_run import Run, new_queue, some_items
from tests.faults.amqp_worker import Work
from tests.servers import Handle, Proxy
from tests.slowness import slowness

pytestmark = pytest.mark.faults

CLIENTS = clients(("lean", messages(10_000)), ("aio-pika", messages(2_000)))


@pytest.mark.timeout(150)
@pytest.mark.parametrize(("client", "count"), CLIENTS)
async def test_connections_are_cut_again_and_again(rabbitmq: Handle, client: str, count: int) -> None:
    async with Proxy(rabbitmq.url) as proxy:
        url = f"{proxy.url}?client={client}"
        async with Run(url, Work(queue=new_queue()), some_items(count)) as run:
            await run.start(2)
            publishing = asyncio.create_task(run.publish())
            for share in (0.1, 0.3, 0.5, 0.7):
                await run.handled(share)
                with run.trouble():
                    proxy.cut(reset=share < 0.4)
            await publishing
            await run.judge()


@pytest.mark.timeout(150)
@pytest.mark.parametrize(("client", "count"), CLIENTS)
async def test_a_connection_freezes(rabbitmq: Handle, client: str, count: int) -> None:
    """Heartbeats find it dead; the frozen half is closed when the network lives again."""
    async with Proxy(rabbitmq.url) as proxy:
        url = f"{proxy.url}?client={client}&heartbeat={slowness():.0f}"
        async with Run(url, Work(queue=new_queue()), some_items(count)) as run:
            await run.start(2)
            publishing = asyncio.create_task(run.publish())
            await run.handled(0.3)
            with run.trouble():
                proxy.freeze()
                while run.bus.link_for(run.work.queue).broker.status().connected:  # noqa: ASYNC110 - a status
                    await asyncio.sleep(0.05)
                proxy.thaw()
            await publishing
            await run.judge()


@pytest.mark.timeout(150)
@pytest.mark.parametrize(("client", "count"), CLIENTS)
async def test_the_first_host_goes_and_the_second_takes_over(rabbitmq: Handle, client: str, count: int) -> None:
    account = urlsplit(rabbitmq.url).netloc.rpartition("@")[0]
    async with Proxy(rabbitmq.url) as first, Proxy(rabbitmq.url) as second:
        url = f"amqp://{account}@127.0.0.1:{first.port},127.0.0.1:{second.port}/?client={client}"
        async with Run(url, Work(queue=new_queue()), some_items(count)) as run:
            await run.start(2)
            publishing = asyncio.create_task(run.publish())
            await run.handled(0.3)
            with run.trouble():
                first.refuse()
                first.cut()
            await publishing
            await run.judge()
            assert second.accepted
