"""The connections of one broker: one publishes, one consumes, and each of them to the first host that answers.

A memory alarm blocks every connection that publishes, and with it the acknowledgements on it. So consumers and
topology have a connection of their own, opened when it is first needed.
"""

from __future__ import annotations

import asyncio

from msgbus.broker import Status
from msgbus.brokers.amqp.lean import LeanWire
from msgbus.brokers.amqp.settings import Target
from msgbus.brokers.amqp.wire import Channel, Wire
from msgbus.brokers.writes import Failover
from msgbus.clock import Clock
from msgbus.errors import Disconnected


class Wires:
    """Opens, opens again, and says how they are."""

    def __init__(self, target: Target, clock: Clock) -> None:
        self._target = target
        self._clock = clock
        self._publishing: Wire | None = None
        self._consuming: Wire | None = None
        self._consumes = False
        self._publisher: Channel | None = None
        self._opening = asyncio.Lock()
        self._hosts = Failover(target.hosts, target)

    async def open(self) -> None:
        """Open what is not open: the publishing connection, and the consuming one once it was asked for."""
        async with self._opening:
            if self._publishing is None or self._publishing.closed is not None:
                self._publishing = await self._connect(self._publishing)
            if self._consumes and (self._consuming is None or self._consuming.closed is not None):
                self._consuming = await self._connect(self._consuming)

    async def close(self) -> None:
        """Close both."""
        wires = [wire for wire in (self._consuming, self._publishing) if wire is not None]
        self._publishing = self._consuming = self._publisher = None
        await asyncio.gather(*(wire.close() for wire in wires))

    def status(self) -> Status:
        """Connected while no connection that was opened is lost."""
        publishing, consuming = self._publishing, self._consuming
        if publishing is None:
            return Status(False, reason=f"{self._target}: not connected")
        for wire in (publishing, consuming):
            if wire is not None and wire.closed is not None:
                return Status(False, reason=f"{self._target}: {wire.closed}")
        if publishing.blocked:
            return Status(True, blocked=True, reason=f"{self._target} blocks publishers: {publishing.blocked}")
        return Status(True)

    async def publisher(self) -> Channel:
        """The channel with confirms that everything is published on. Raises Disconnected."""
        if self._publisher is not None and self._publisher.closed is None:
            return self._publisher
        wire = self.publishing()
        async with self._opening:
            if self._publisher is None or self._publisher.closed is not None:
                self._publisher = await wire.channel(confirms=True)
            return self._publisher

    def publishing(self) -> Wire:
        """The connection that publishes. Raises Disconnected."""
        return self._alive(self._publishing)

    async def consuming(self) -> Wire:
        """The connection that consumes, opened when first asked for. Raises Disconnected."""
        if self._consuming is None:
            self._alive(self._publishing)
            self._consumes = True
            await self.open()
        return self._alive(self._consuming)

    def _alive(self, wire: Wire | None) -> Wire:
        if wire is None:
            raise Disconnected(f"{self._target}: not connected")
        if wire.closed is not None:
            raise Disconnected(f"{self._target}: {wire.closed}") from wire.closed
        return wire

    async def _connect(self, old: Wire | None) -> Wire:
        if old is not None:
            await old.close()
        return await self._hosts.open(self._new)

    def _new(self, host: tuple[str, int]) -> Wire:
        if self._target.options.client == "aio-pika":
            from msgbus.brokers.amqp.aio import AioWire  # noqa: PLC0415 - the lean wire needs no aio-pika

            return AioWire(self._target, host, self._clock)
        return LeanWire(self._target, host, self._clock)
