"""ActiveMQ, and RabbitMQ's STOMP plugin, in the shared suite over both wires."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import ClassVar

import pytest
from tests.amqp import foreign
from tests.amqp.crash import written
from tests.amqp.odd import TABLES, RawClient
from tests.effort import at_full_size_only
from tests.servers import Handle, Proxy, Server
from tests.slowness import slowness
from tests.stomp import odd

from msgbus.brokers.mq.rabbitmq import queue_of
from msgbus.brokers.stomp import StompBroker
from msgbus.brokers.stomp.activemq import ActiveMq
from msgbus.brokers.stomp.settings import Options
from msgbus.clock import Clock
from msgbus.message import Source
from msgbus.testing.conformance import BrokerSuite, Harness


class WatchedBroker(StompBroker):
    """Known to the harness, which waits until each has noticed a cut."""

    opened: ClassVar[list[WatchedBroker]] = []

    def __init__(self, url: str, *, clock: Clock) -> None:
        super().__init__(url.removeprefix("watched-"), clock=clock)
        self.connects = 0
        self.opened.append(self)

    async def connect(self) -> None:
        await super().connect()
        self.connects += 1


class StompHarness(Harness):
    """The session's server, behind a proxy that can be cut."""

    brokers: ClassVar = {"watched-stomp": WatchedBroker}
    counts_crashes = False  # they are in the count of deliveries, and so is what was released
    quiet = 0.08
    delay = 0.5

    def __init__(self, proxy: Proxy, client: str, server: Server | None, handle: Handle) -> None:
        self._proxy, self._server, self._handle = proxy, server, handle
        self.url = f"watched-{proxy.url}?client={client}&max_bytes=1048576"
        self.unreachable = f"watched-stomp://127.0.0.1:1/?client={client}"

    def outage(self) -> AbstractAsyncContextManager[None]:
        return self._proxy.outage()

    async def cut(self) -> None:
        """Both ends are gone when it returns, and every client knows."""
        connected = [(broker, broker.connects) for broker in WatchedBroker.opened if broker.status().connected]
        self._proxy.cut()
        end = time.monotonic() + self.patience
        while any(broker.status().connected and broker.connects == before for broker, before in connected):
            assert time.monotonic() < end
            await asyncio.sleep(0.01)


class ActiveMqHarness(StompHarness):
    """ActiveMQ."""

    patience = 20.0 * slowness()  # its scheduler may be late, and a second of a busy machine

    async def put_odd(self, source: Source) -> int:
        return await odd.put(self._handle.url_of("stomp"), ActiveMq(Options()).queue_of(source))

    async def put_foreign(self, source: Source) -> Mapping[str, object]:
        return await odd.put_foreign(self._handle.url_of("stomp"), ActiveMq(Options()).queue_of(source))

    async def take_foreign(self, place: Source) -> Mapping[str, object]:
        return await odd.take_foreign(self._handle.url_of("stomp"), ActiveMq(Options()).queue_of(place))

    async def restart(self) -> None:
        """kill -9, and up again on the same data."""
        assert self._server is not None
        self._server.kill()
        await self._server.restart_async()


class RabbitMqHarness(StompHarness):
    """RabbitMQ."""

    patience = 20.0 * slowness()
    wrong: ClassVar = {
        "test_a_message_that_kills_its_consumers_is_dead_in_the_end": "STOMP can't set the queue's x-delivery-limit"
    }

    def __init__(self, proxy: Proxy, client: str, server: Server | None, handle: Handle) -> None:
        super().__init__(proxy, client, server, handle)
        self.unauthorized = self.url.replace("guest:guest@", "guest:wrong@")

    async def remove(self, source: Source) -> None:
        async with RawClient(self._handle.url) as client:
            await client.delete(queue_of(source))

    async def put_odd(self, source: Source) -> int:
        body = b'{"key": "odd", "number": 0}'
        async with RawClient(self._handle.url) as client:
            for table in TABLES.values():
                await client.put(queue_of(source), table, body)
        return len(TABLES)

    async def put_foreign(self, source: Source) -> Mapping[str, object]:
        """The plugin hands on text alone: types of headers are lost before they are here."""
        return await foreign.put(self._handle.url, queue_of(source), foreign.TEXTS)

    async def take_foreign(self, place: Source) -> Mapping[str, object]:
        return await foreign.take(self._handle.url, queue_of(place))

    async def restart(self) -> None:
        """kill -9, and up again on the same data."""
        assert self._server is not None
        await written(self._server)
        self._server.kill()
        await self._server.restart_async()


class StompSuite(BrokerSuite):
    """One client on one server over the shared suite."""

    client: ClassVar[str]
    server: ClassVar[str]
    kind: ClassVar[type[StompHarness]]

    @pytest.fixture
    async def harness(self, request: pytest.FixtureRequest) -> AsyncIterator[StompHarness]:
        private = request.function.__name__ == "test_messages_survive_a_restart_of_the_server"
        if private:
            at_full_size_only(self.client, "lean", "stomp.py")
        start = request.getfixturevalue("killable") if private else None
        server: Handle = start(self.server) if start else request.getfixturevalue(self.server)
        async with Proxy(server.url_of("stomp")) as proxy:
            yield self.kind(proxy, self.client, server if isinstance(server, Server) else None, server)
        WatchedBroker.opened.clear()


class TestLeanActiveMq(StompSuite):
    """`?client=lean`, the default."""

    client, server, kind = "lean", "activemq", ActiveMqHarness


class TestLeanRabbitMq(StompSuite):
    """`?client=lean` on RabbitMQ's plugin."""

    client, server, kind = "lean", "rabbitmq", RabbitMqHarness


class TestClientActiveMq(StompSuite):
    """`?client=stomp.py`."""

    client, server, kind = "stomp.py", "activemq", ActiveMqHarness


class TestClientRabbitMq(StompSuite):
    """`?client=stomp.py` on RabbitMQ's plugin."""

    client, server, kind = "stomp.py", "rabbitmq", RabbitMqHarness
