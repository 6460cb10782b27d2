"""What happens to a connection: refused, failed over, silent, full."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from urllib.parse import urlsplit

import pytest
from pamqp.commands import Exchange
from tests.amqp.conftest import Connect, out, queue, send, take
from tests.amqp.management import account, add_user, manage
from tests.servers import Handle, Proxy
from tests.servers.net import free_ports
from tests.slowness import slowness

from msgbus.broker import QueueSpec, TopicSpec
from msgbus.brokers.amqp import AmqpBroker
from msgbus.brokers.amqp.lean import LeanWire
from msgbus.errors import BusError, Disconnected, ReceiverClosed, Refused
from msgbus.message import Act, Address, Outgoing, Receipt, Settlement, Source


async def until_lost(broker: AmqpBroker) -> None:
    """Until the broker knows that its connection is gone."""
    for _ in range(3000):
        if not broker.status().connected:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it still says that it is connected")


# -- refused


async def test_wrong_credentials_are_refused_at_once(connect: Connect, rabbitmq: Handle) -> None:
    port = urlsplit(rabbitmq.url).port
    with pytest.raises(Refused, match=rf"amqp://127\.0\.0\.1:{port}/: ACCESS_REFUSED") as refused:
        await connect(url=account(rabbitmq, "guest:wrong"))
    assert "wrong" not in str(refused.value)


async def test_a_virtual_host_that_is_not_there_is_refused_at_once(connect: Connect, rabbitmq: Handle) -> None:
    with pytest.raises(Refused, match="nowhere"):
        await connect(url=f"{rabbitmq.url}nowhere")


async def test_what_a_user_may_not_do_is_refused(connect: Connect, rabbitmq: Handle, name: str) -> None:
    owner = await connect()
    topic, source = Source("topic", f"{name}.events", "g"), await queue(owner, name)
    await owner.admin.ensure([TopicSpec(topic.name)], "create")
    await add_user(rabbitmq, name, "secret", configure="^$", write="^$")
    try:
        broker = await connect(url=account(rabbitmq, f"{name}:secret"))
        with pytest.raises(Refused, match=f"ACCESS_REFUSED.*{name}.new"):
            await broker.admin.ensure([QueueSpec(Source("queue", f"{name}.new"))], "create")
        event = out(source, 1)
        event.address = Address("topic", topic.name)
        (result,) = await broker.send([event])
        assert isinstance(result, Refused)
        assert "ACCESS_REFUSED" in str(result)
    finally:
        await manage(rabbitmq, "DELETE", f"users/{name}")


# -- failover


async def test_the_next_host_is_tried(connect: Connect, rabbitmq: Handle, name: str) -> None:
    parts = urlsplit(rabbitmq.url)
    dead = free_ports(["dead"])["dead"]
    broker = await connect(url=f"amqp://guest:guest@127.0.0.1:{dead},127.0.0.1:{parts.port}/")
    await send(broker, out(await queue(broker, name), 1))


async def test_without_any_host_it_is_disconnected(connect: Connect) -> None:
    ports = free_ports(["one", "two"])
    with pytest.raises(Disconnected, match=f"127.0.0.1:{ports['two']}"):
        await connect(url=f"amqp://guest:guest@127.0.0.1:{ports['one']},127.0.0.1:{ports['two']}/")


async def test_a_host_that_refuses_us_is_the_last(connect: Connect, rabbitmq: Handle) -> None:
    """A wrong password is no outage: another host knows the same accounts."""
    port = urlsplit(rabbitmq.url).port
    with pytest.raises(Refused, match="ACCESS_REFUSED"):
        await connect(url=f"amqp://guest:wrong@127.0.0.1:{port},127.0.0.1:{port}/")


async def test_a_host_that_accepts_and_says_nothing_is_given_up(connect: Connect, rabbitmq: Handle) -> None:
    async with Proxy(rabbitmq.url) as proxy:
        proxy.freeze()
        with pytest.raises(Disconnected, match=r"did not answer in 0\.3 s"):
            await connect("timeout=0.3", url=proxy.url)


# -- silence


async def test_a_frozen_connection_is_found_dead(connect: Connect, rabbitmq: Handle, name: str) -> None:
    """Nothing is closed and nothing comes: only the heartbeat tells. Who waits is told, not left hanging."""
    async with Proxy(rabbitmq.url) as proxy:
        broker = await connect("heartbeat=1", url=proxy.url)
        source = await queue(broker, name)
        async with broker.receiver(source, prefetch=10) as receiver:
            proxy.freeze()
            waiting = asyncio.ensure_future(receiver.receive(10, 60.0))
            sending = asyncio.ensure_future(broker.send([out(source, 1)]))
            with pytest.raises(Disconnected):
                await waiting
            assert isinstance(await _outcome(sending), Disconnected)
            await until_lost(broker)
        proxy.cut()


async def _outcome(sending: Awaitable[object]) -> object:
    """`send` may raise Disconnected for all, or give it for each."""
    try:
        results = await sending
    except Disconnected as error:
        return error
    assert isinstance(results, list)
    return results[0]


async def test_heartbeats_keep_an_idle_connection(connect: Connect, name: str) -> None:
    beat = round(slowness())
    broker = await connect(f"heartbeat={beat}")
    source = await queue(broker, name)
    async with broker.receiver(source, prefetch=10) as receiver:
        assert await receiver.receive(10, 3.0 * beat) == []  # the server drops a silent client after two intervals
        await send(broker, out(source, 1))
        assert len(await take(receiver)) == 1


# -- back-pressure


@pytest.mark.parametrize("client", ["lean"])
async def test_a_slow_socket_holds_publishers_back(connect: Connect, rabbitmq: Handle, name: str) -> None:
    """Unawaited, 64 MiB would all be in the transport's buffer."""
    async with Proxy(rabbitmq.url) as proxy:
        broker = await connect(url=proxy.url)
        source = await queue(broker, name)
        wire = broker._wires.publishing()
        assert isinstance(wire, LeanWire)
        assert wire.transport is not None
        proxy.freeze()
        sending = [asyncio.ensure_future(broker.send([out(source, bytes(65_536))])) for _ in range(1024)]
        await asyncio.sleep(0.2)
        assert wire.transport.get_write_buffer_size() < 4 * 1024 * 1024
        proxy.thaw()
        results = await asyncio.gather(*sending)
        assert all(isinstance(result, Receipt) for batch in results for result in batch)


# -- the server's own


async def test_a_deleted_queue_closes_its_receiver_and_no_other(connect: Connect, rabbitmq: Handle, name: str) -> None:
    broker = await connect()
    source, other = await queue(broker, name), await queue(broker, f"{name}.other")
    async with broker.receiver(source, prefetch=10) as receiver, broker.receiver(other, prefetch=10) as second:
        waiting = asyncio.ensure_future(receiver.receive(10, 30.0))
        await asyncio.sleep(0)
        await manage(rabbitmq, "DELETE", f"queues/%2F/{name}")
        with pytest.raises(ReceiverClosed, match="cancelled the consumer"):
            await waiting
        await send(broker, out(other, 1))
        assert len(await take(second)) == 1
        (result,) = await broker.send([out(source, 1)])
        assert isinstance(result, Refused)
        assert str(result) == f"queue {name} is not there"


async def test_a_queue_that_is_not_there_can_not_be_read(connect: Connect, name: str) -> None:
    broker = await connect()
    with pytest.raises(BusError, match=f"no queue '{name}'"):
        async with broker.receiver(Source("queue", name), prefetch=10):
            pass
    assert broker.status().connected


async def test_what_differs_in_the_topology_is_said(connect: Connect, name: str) -> None:
    classic, quorum = await connect("queue_type=classic"), await connect()
    await queue(classic, name)
    with pytest.raises(Refused, match=rf"queue {name}\S* is there, but not as declared: wanted x-queue-type=quorum"):
        await queue(quorum, name)
    found = await quorum.admin.ensure([QueueSpec(Source("queue", name))], "verify")
    told = {d.wanted: d.found for d in found}
    assert told["x-queue-type=quorum"] in ("x-queue-type=none", "x-queue-type=classic")  # none is classic
    assert told["x-overflow=reject-publish"] == "x-overflow=none"
    assert quorum.status().connected


async def test_a_stale_delivery_touches_nothing(connect: Connect, name: str) -> None:
    """Its tag would be another message's on the next channel."""
    broker = await connect()
    source = await queue(broker, name)
    await send(broker, out(source, 1))
    async with broker.receiver(source, prefetch=10) as receiver:
        (stale,) = await take(receiver)
    async with broker.receiver(source, prefetch=10) as second:
        (again,) = await take(second)
        assert isinstance((await receiver.settle([Settlement(stale, Act.ACK)]))[0], BusError)
        assert isinstance((await second.settle([Settlement(stale, Act.ACK)]))[0], BusError)
        assert await second.settle([Settlement(again, Act.RELEASE)]) == [None]
        assert len(await take(second)) == 1


async def test_one_entry_that_closes_the_channel_fails_no_other_for_good(connect: Connect, name: str) -> None:
    """The exchange was deleted behind our back: the server closes the channel under the other entries too."""
    broker, behind = await connect(), await connect()
    source = await queue(broker, name)
    await broker.admin.ensure([TopicSpec(f"{name}.events")], "create")
    event = Outgoing(Address("topic", f"{name}.events"), "e", b"", {})
    await send(broker, event)
    await _delete_exchange(behind, f"{name}.events")
    results = await broker.send([out(source, 1), event, out(source, 2)])
    assert isinstance(results[1], Refused)
    for result in (results[0], results[2]):  # taken before the channel was closed, or worth another try
        assert not isinstance(result, Refused)
    await send(broker, out(source, 3))


async def _delete_exchange(broker: AmqpBroker, exchange: str) -> None:
    channel = await broker._wires.publishing().channel()
    await channel.call(Exchange.Delete(exchange=exchange))
    await channel.close()
