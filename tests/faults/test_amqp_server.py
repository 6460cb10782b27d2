"""RabbitMQ itself: killed and started again, in alarm. On both wires, on a server of the worker's own."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Sequence

import pytest
from tests.amqp.conftest import out, queue, send, take
from tests.amqp.crash import written
from tests.amqp.management import control
from tests.effort import clients, messages, pause
from tests.faults.amqp_run import Run, new_queue, some_items
from tests.faults.amqp_worker import Work
from tests.servers import Server

from msgbus import headers as h
from msgbus.brokers.amqp import AmqpBroker
from msgbus.clock import SystemClock
from msgbus.errors import BusError
from msgbus.message import Act, Settlement, Source

pytestmark = pytest.mark.faults

CLIENTS = clients(("lean", messages(10_000)), ("aio-pika", messages(2_000)))


@pytest.fixture
def own(killable: Callable[[str], Server]) -> Server:
    """It is up again after each test."""
    return killable("rabbitmq")


@pytest.mark.timeout(100)
@pytest.mark.parametrize(("client", "count"), CLIENTS)
async def test_killed_in_mid_flow(own: Server, client: str, count: int) -> None:
    async with Run(f"{own.url}?client={client}", Work(queue=new_queue()), some_items(count)) as run:
        await run.start(2)
        publishing = asyncio.create_task(run.publish())
        await run.handled(0.3)
        await written(own)
        with run.trouble():
            own.kill()
            await own.restart_async()
        await publishing
        await run.judge()


@pytest.mark.timeout(100)
@pytest.mark.parametrize(("client", "count"), CLIENTS)
async def test_a_memory_alarm_in_mid_flow(own: Server, client: str, count: int) -> None:
    """Publishers wait, and with them every retry; all else that is there is handled and acknowledged."""
    work = Work(queue=new_queue(), pause=pause(0.001))
    async with Run(f"{own.url}?client={client}", work, some_items(count)) as run:
        await run.declare()
        await run.publish(ahead=1.0, until=0.5)
        await control(own, "eval", "rabbit_alarm:set_alarm({{resource_limit, memory, node()}, []}).")
        try:
            await run.start(2)
            publishing = asyncio.create_task(run.publish(ahead=1.0))
            await run.handled(0.48)  # all but the ones that fail first
            while not run.bus.link_for(work.queue).broker.status().blocked:  # noqa: ASYNC110 - nothing to await
                await asyncio.sleep(0.01)  # the workers may be done before the publisher has begun
            assert not publishing.done()
        finally:
            await control(own, "eval", "rabbit_alarm:clear_alarm({resource_limit, memory, node()}).")
        await publishing
        await run.judge()
        assert run.duplicates() == 0


@pytest.mark.timeout(100)
@pytest.mark.parametrize("client", clients("lean", "aio-pika"))
@pytest.mark.parametrize("act", [Act.RETRY, Act.DEAD])
async def test_killed_between_a_copy_and_the_acknowledgement(own: Server, client: str, act: Act) -> None:
    """The copy is confirmed, the original not yet acknowledged: both come, neither is lost."""
    broker = AmqpBroker(f"{own.url}?client={client}", clock=SystemClock())
    await broker.connect()
    source = await queue(broker, f"t-{uuid.uuid4().hex[:12]}")
    async with broker.receiver(source, prefetch=10) as receiver:
        await send(broker, out(source, b"x"))
        (delivery,) = await take(receiver)
        broker._copies.send = _then(broker._copies.send, lambda: _kill(own, broker))  # type: ignore[method-assign, assignment]
        settlement = Settlement(delivery, act, 0.25, "broken", {h.ATTEMPT: "2"})
        (result,) = await receiver.settle([settlement])
        assert isinstance(result, BusError)
    await broker.close()
    await own.restart_async()
    await _judge_copies(f"{own.url}?client={client}", source, act)


async def _judge_copies(url: str, source: Source, act: Act) -> None:
    broker = AmqpBroker(url, clock=SystemClock())
    await broker.connect()
    try:
        grave = await broker.admin.dead_letters(source)
        assert grave is not None
        async with broker.receiver(source, prefetch=10) as receiver:
            found = await take(receiver, 2 if act is Act.RETRY else 1)
            assert sorted(d.attempt for d in found) == ([1, 2] if act is Act.RETRY else [1])
            assert {d.body for d in found} == {b"x"}
        if act is Act.DEAD:
            async with broker.receiver(grave, prefetch=10) as receiver:
                assert [d.body for d in await take(receiver)] == [b"x"]
    finally:
        await broker.close()


def _then(copy: Callable[..., object], what: Callable[[], object]) -> Callable[..., object]:
    async def both(source: Source, settlements: Sequence[Settlement]) -> object:
        outcome = await copy(source, settlements)  # type: ignore[misc]
        assert outcome == [None]
        await what()  # type: ignore[misc]
        return outcome

    return both


async def _kill(server: Server, broker: AmqpBroker) -> None:
    await written(server)
    server.kill()
    while broker.status().connected:  # noqa: ASYNC110 - a status, nothing to await
        await asyncio.sleep(0.01)
