"""Real servers that are killed, cut off, frozen and replaced in mid-flow: nothing is lost, order is kept."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tests.amqp.crash import written
from tests.effort import clients
from tests.servers import Handle, Proxy, Server
from tests.stomp.flow import COUNT, PATIENCE, PREFETCH, SPAN, Flow, Item, a_bus

from msgbus import Message, Topic
from msgbus.broker import QueueSpec
from msgbus.brokers.stomp import StompBroker
from msgbus.brokers.stomp.copies import Copies
from msgbus.clock import SystemClock
from msgbus.errors import BusError
from msgbus.message import Act, Outgoing, Receipt, Settlement, Source
from msgbus.options import Limits, Retry

pytestmark = [pytest.mark.faults, pytest.mark.timeout(SPAN + 45)]
Start = Callable[[str], Server]
CLIENTS = clients("lean", "stomp.py")


@pytest.mark.parametrize("client", CLIENTS)
async def test_activemq_is_killed_in_mid_flow(killable: Start, client: str) -> None:
    server = killable("activemq")
    flow = Flow(f"{server.url}?client={client}")

    async def kill() -> None:
        server.kill()
        await server.restart_async()

    await flow.run((COUNT // 3, kill))
    flow.account(faults=1)


@pytest.mark.parametrize("client", CLIENTS)
async def test_rabbitmq_is_killed_in_mid_flow(killable: Start, client: str) -> None:
    server = killable("rabbitmq")
    flow = Flow(f"{server.url_of('stomp')}?client={client}")

    async def kill() -> None:
        await written(server)
        server.kill()
        await server.restart_async()

    await flow.run((COUNT // 3, kill))
    flow.account(faults=1)


@pytest.mark.parametrize("client", CLIENTS)
async def test_order_is_kept_when_the_server_is_killed(killable: Start, client: str) -> None:
    server = killable("activemq")
    flow = Flow(f"{server.url}?client={client}", ordered=True)

    async def kill() -> None:
        server.kill()
        await server.restart_async()

    await flow.run((COUNT // 3, kill))
    flow.account(faults=1)
    assert flow.in_order()


@pytest.mark.parametrize("client", CLIENTS)
async def test_the_server_is_killed_between_the_copy_and_the_ack_of_a_retry(
    killable: Start, monkeypatch: pytest.MonkeyPatch, client: str
) -> None:
    server, real = killable("activemq"), Copies.send
    killed = asyncio.Event()

    async def send(copies: Copies, source: Source, settlements: Sequence[Settlement]) -> Sequence[BusError | None]:
        outcomes = await real(copies, source, settlements)
        if not killed.is_set():
            assert list(outcomes) == [None]
            server.kill()
            killed.set()
        return outcomes

    monkeypatch.setattr(Copies, "send", send)
    bus = a_bus(f"{server.url}?client={client}", f"f{uuid.uuid4().hex[:8]}-")
    topic, attempts, both = Topic("items", Item), [], asyncio.Event()

    @bus.subscriber(topic, group="g", retry=Retry(first_delay=1.0, jitter=0.0))
    async def handle(message: Message[Item]) -> None:
        attempts.append(message.attempt)
        if len(attempts) == 1:
            raise ValueError("fails once")
        if {1, 2} <= set(attempts[1:]):
            both.set()

    async with bus.consuming():
        await bus.publish(topic, Item("k", 1))
        await killed.wait()
        await server.restart_async()
        async with asyncio.timeout(PATIENCE):
            await both.wait()
    assert sorted(attempts) == [1, 1, 2]  # the original, for it was not acknowledged, and the copy, for it was stored


async def test_a_confirmed_transaction_survives_a_kill(killable: Start) -> None:
    server = killable("activemq")
    url, source = server.url, Source("queue", f"together-{uuid.uuid4().hex[:8]}")
    for round_ in range(2):
        broker = StompBroker(url, clock=SystemClock())
        await broker.connect()
        await broker.admin.ensure([QueueSpec(source)], "create")
        ids = [f"{round_}-{number}" for number in range(500)]
        results = await broker.send([Outgoing(source.address, each, b"x" * 500, {"ce-id": each}) for each in ids])
        server.kill()
        assert {type(result) for result in results} == {Receipt}
        await broker.close()
        await server.restart_async()
    assert await _drain(url, source) == {f"{round_}-{number}" for round_ in range(2) for number in range(500)}


async def _drain(url: str, source: Source) -> set[str]:
    broker, found = StompBroker(url, clock=SystemClock()), []
    await broker.connect()
    async with broker.receiver(source, prefetch=1000) as receiver:
        while batch := await receiver.receive(1000, 2.0):
            found += [delivery.headers["ce-id"] for delivery in batch]
            await receiver.settle([Settlement(delivery, Act.ACK) for delivery in batch])
    await broker.close()
    assert len(found) == len(set(found))
    return set(found)


@pytest.mark.parametrize("client", CLIENTS)
async def test_the_connection_is_cut_and_frozen(activemq: Handle, client: str) -> None:
    async with Proxy(activemq.url_of("stomp")) as proxy:
        flow = Flow(f"{proxy.url}?client={client}&heartbeat=0.5")

        async def cut() -> None:
            proxy.cut()

        async def cut_gently() -> None:
            proxy.cut(reset=False)

        async def freeze() -> None:
            before = proxy.accepted
            proxy.freeze()
            while proxy.accepted == before:  # noqa: ASYNC110 - the silence is noticed when somebody connects again
                await asyncio.sleep(0.05)
            proxy.cut()
            proxy.thaw()

        fifth = COUNT // 5
        await flow.run((fifth, cut), (2 * fifth, freeze), (3 * fifth, cut_gently), (4 * fifth, cut))
        flow.account(faults=4)


@pytest.mark.parametrize("client", CLIENTS)
async def test_the_second_host_takes_over(activemq: Handle, client: str) -> None:
    """An active and a standby broker over the same store: of two doors one is open at a time."""
    url = activemq.url_of("stomp")
    async with Proxy(url) as first, Proxy(url) as second:
        second.refuse()
        places = f"127.0.0.1:{first.port},127.0.0.1:{second.port}"
        flow = Flow(f"{urlsplit(url).scheme}://{places}/?client={client}", ordered=True)

        async def over_and_back() -> None:
            closing, opening = (first, second) if first.connections else (second, first)
            closing.refuse()
            closing.cut()
            await opening.accept()

        await flow.run((COUNT // 3, over_and_back), (COUNT * 2 // 3, over_and_back))
        flow.account(faults=2)
        assert flow.in_order()
        assert first.accepted
        assert second.accepted


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("server", ["activemq", "rabbitmq"])
async def test_a_consumer_is_killed_with_messages_in_hand(
    request: pytest.FixtureRequest, server: str, client: str
) -> None:
    handle: Handle = request.getfixturevalue(server)
    url = f"{handle.url_of('stomp')}?client={client}"
    flow = Flow(url)
    worker = await asyncio.create_subprocess_exec(
        sys.executable,
        Path(__file__).with_name("worker.py"),
        *(url, flow.publisher.settings.prefix, str(PREFETCH)),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert worker.stdout is not None
    assert await worker.stdout.readline() == b"ready\n"
    async with asyncio.timeout(SPAN), flow.publisher:
        await flow.publish()
        killed = {int(await worker.stdout.readline()) for _ in range(COUNT // 10)}
        worker.send_signal(signal.SIGKILL)
        killed |= {int(line) for line in (await worker.stdout.read()).split()}
        await worker.wait()
        async with flow.consumer.consuming():
            missing = {item.number for item in flow.items} - killed
            await flow.wait(lambda: missing <= flow.distinct)
    again = killed & flow.distinct
    assert len(again) <= 2 * PREFETCH, "more came again than could be on their way"
    assert len(flow.seen) == len(flow.distinct)


@pytest.mark.parametrize("client", CLIENTS)
async def test_a_slow_consumer_holds_no_more_than_its_prefetch(activemq: Handle, client: str) -> None:
    url = f"{activemq.url_of('stomp')}?client={client}"
    flow = Flow(url)
    slow = a_bus(url, flow.publisher.settings.prefix)
    started, go = [], asyncio.Event()

    async def handle(item: Item) -> None:
        started.append(item.number)
        await go.wait()
        await flow.handle(item)

    slow.subscriber(flow.topic, group="g", limits=Limits(prefetch=10, concurrency=4))(handle)
    async with asyncio.timeout(SPAN), slow.consuming(), flow.publisher, flow.consumer.consuming():
        await flow.publish()
        await flow.until(COUNT - 10)  # all but what the slow one holds
        assert len(started) <= 4
        go.set()
        await flow.until(COUNT)
    assert sorted(flow.seen) == list(range(COUNT))
