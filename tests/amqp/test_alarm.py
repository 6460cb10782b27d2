"""A server that takes no publishes, and one that gives up on a consumer: limits of a server of our own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from tests.amqp.conftest import Connect, out, queue, send, take
from tests.amqp.management import control
from tests.amqp.secure import configured, started
from tests.servers import Server

from msgbus.errors import LeaseLost, ReceiverClosed
from msgbus.message import Act, Receipt, Settlement

ALARM = ("eval", "rabbit_alarm:set_alarm({{resource_limit, memory, node()}, []}).")
CLEAR = ("eval", "rabbit_alarm:clear_alarm({resource_limit, memory, node()}).")


@pytest.fixture(scope="module")
def limited() -> Iterator[Server]:
    """It closes the channel of a consumer that settles nothing for two seconds."""
    with started(
        configured(advanced="[{rabbit, [{consumer_timeout, 2000}, {channel_tick_interval, 500}]}].")
    ) as server:
        yield server


async def test_a_memory_alarm_holds_publishers_and_lets_consumers_work(
    connect: Connect, limited: Server, name: str
) -> None:
    broker = await connect(url=limited.url)
    source = await queue(broker, name)
    await send(broker, *(out(source, n) for n in range(20)))
    await control(limited, *ALARM)  # it takes longer than what is prefetched may stay unsettled
    async with broker.receiver(source, prefetch=5) as receiver:
        sending = [asyncio.ensure_future(broker.send([out(source, n)])) for n in (20, 21)]
        try:
            while not broker.status().blocked:  # noqa: ASYNC110 - a status, nothing to await
                await asyncio.sleep(0.01)
            assert broker.status().connected
            assert "blocks publishers" in broker.status().reason
            sending.append(asyncio.ensure_future(broker.send([out(source, 22)])))
            for _ in range(20):  # more than the prefetch: acknowledgements are heard
                (delivery,) = await take(receiver)
                assert await receiver.settle([Settlement(delivery, Act.ACK)]) == [None]
            assert [each.done() for each in sending] == [False] * 3
        finally:
            await control(limited, *CLEAR)
        results = await asyncio.gather(*sending)
        assert all(isinstance(result, Receipt) for batch in results for result in batch)
        assert not broker.status().blocked
        assert sorted(d.body for d in await take(receiver, 3)) == [b"20", b"21", b"22"]


async def test_a_server_that_gives_up_on_a_consumer_closes_its_receiver(
    connect: Connect, limited: Server, name: str
) -> None:
    broker = await connect("consumer_timeout=2", url=limited.url)
    source = await queue(broker, name)
    assert broker.capabilities(source).lease_max == 2.0
    await send(broker, out(source, 1))
    async with broker.receiver(source, prefetch=5) as receiver:
        (delivery,) = await take(receiver)
        with pytest.raises(ReceiverClosed, match=r"(?i)timeout"):
            await receiver.receive(5, 30.0)
        assert isinstance((await receiver.settle([Settlement(delivery, Act.ACK)]))[0], LeaseLost)
    async with broker.receiver(source, prefetch=5) as receiver:
        (again,) = await take(receiver)
        assert (again.body, again.deliveries) == (b"1", 2)
        assert await receiver.settle([Settlement(again, Act.ACK)]) == [None]
