"""RabbitMQ in the shared suite, over both wires."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import ClassVar

import pytest
from tests.amqp import foreign
from tests.amqp.crash import written
from tests.amqp.odd import TABLES, RawClient, pamqp_reads
from tests.effort import at_full_size_only
from tests.servers import Handle, Proxy, Server
from tests.slowness import slowness

from msgbus.brokers.amqp import AmqpBroker
from msgbus.brokers.mq.rabbitmq import queue_of
from msgbus.clock import Clock
from msgbus.message import Source
from msgbus.testing.conformance import BrokerSuite, Harness


class WatchedBroker(AmqpBroker):
    """Known to the harness, which waits until each has noticed a cut."""

    opened: ClassVar[list[WatchedBroker]] = []

    def __init__(self, url: str, *, clock: Clock) -> None:
        super().__init__(url.removeprefix("watched-"), clock=clock)
        self.connects = 0
        self.opened.append(self)

    async def connect(self) -> None:
        await super().connect()
        self.connects += 1


class AmqpHarness(Harness):
    """The session's server, behind a proxy that can be cut."""

    brokers: ClassVar = {"watched-amqp": WatchedBroker}
    counts_crashes = False  # they are in the count of deliveries, and so is what was released
    quiet = 0.15
    delay = 0.5  # a rung of the ladder of delay queues

    def __init__(self, proxy: Proxy, client: str) -> None:
        self._proxy, self._client = proxy, client
        self.url = f"watched-{proxy.url}?client={client}&max_bytes=1048576"
        self.unauthorized = self.url.replace("guest:guest@", "guest:wrong@")
        self.unreachable = f"watched-amqp://127.0.0.1:1/?client={client}"

    async def put_odd(self, source: Source) -> int:
        tables = {name: table for name, table in TABLES.items() if self._client == "lean" or pamqp_reads(table)}
        async with RawClient(self._proxy.url) as client:
            for name, table in tables.items():
                body = json.dumps({"key": "odd", "number": 0, "why": name}).encode()
                await client.put(queue_of(source), table, body)
        return len(tables)

    async def put_foreign(self, source: Source) -> Mapping[str, object]:
        return await foreign.put(self._proxy.url, queue_of(source), user_id="guest")

    async def take_foreign(self, place: Source) -> Mapping[str, object]:
        return await foreign.take(self._proxy.url, queue_of(place))

    def outage(self) -> AbstractAsyncContextManager[None]:
        return self._proxy.outage()

    async def remove(self, source: Source) -> None:
        async with RawClient(self._proxy.url) as client:
            await client.delete(queue_of(source))

    async def cut(self) -> None:
        """Both ends are gone when it returns, and every client knows."""
        connected = [(broker, broker.connects) for broker in WatchedBroker.opened if broker.status().connected]
        self._proxy.cut()
        end = time.monotonic() + self.patience
        while any(broker.status().connected and broker.connects == before for broker, before in connected):
            assert time.monotonic() < end
            await asyncio.sleep(0.01)


class RestartHarness(AmqpHarness):
    """A server of the test's own, to be killed."""

    patience = 20.0 * slowness()

    def __init__(self, proxy: Proxy, client: str, server: Server) -> None:
        super().__init__(proxy, client)
        self._server = server

    async def restart(self) -> None:
        """kill -9, and up again on the same data."""
        await written(self._server)
        self._server.kill()
        await self._server.restart_async()


class AmqpSuite(BrokerSuite):
    """One client over the shared suite."""

    client: ClassVar[str]

    @pytest.fixture
    async def harness(self, request: pytest.FixtureRequest, rabbitmq: Handle) -> AsyncIterator[AmqpHarness]:
        if request.function.__name__ == "test_messages_survive_a_restart_of_the_server":
            at_full_size_only(self.client, "lean", "aio-pika")
            server = request.getfixturevalue("killable")("rabbitmq")
            async with Proxy(server.url) as proxy:
                yield RestartHarness(proxy, self.client, server)
        else:
            async with Proxy(rabbitmq.url) as proxy:
                yield AmqpHarness(proxy, self.client)
        WatchedBroker.opened.clear()


class TestLean(AmqpSuite):
    """`?client=lean`, the default."""

    client = "lean"


class TestAioPika(AmqpSuite):
    """`?client=aio-pika`."""

    client = "aio-pika"
