"""The connections of one broker: one publishes, one consumes, and each of them to the first host that answers.

A memory alarm blocks every connection that publishes, and with it the acknowledgements on it. So consumers and
topology have a connection of their own, opened when it is first needed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from msgbus.broker import Status
from msgbus.brokers.amqp.lean import LeanWire
from msgbus.brokers.amqp.settings import Target
from msgbus.brokers.amqp.wire import Channel, Publication, Wire
from msgbus.brokers.mq.connections import Failover, Reopened
from msgbus.brokers.mq.trial import Trial
from msgbus.clock import Clock
from msgbus.errors import BusError, Disconnected, ReceiverClosed, missing_extra


class Wires:
    """Opens, opens again, and says how they are."""

    def __init__(self, target: Target, clock: Clock) -> None:
        self._target = target
        self._clock = clock
        self._hosts = Failover(target.hosts, target)
        self._publishing: Reopened[Wire] = Reopened(target, self._connect)
        self._consuming: Reopened[Wire] = Reopened(target, self._connect)
        self._consumes = False
        self._publisher: Channel | None = None
        self._opening = asyncio.Lock()
        self._trial = Trial()

    async def open(self) -> None:
        """Open what is not open: the publishing connection, and the consuming one once it was asked for."""
        await self._publishing.open()
        if self._consumes:
            await self._consuming.open()

    async def close(self) -> None:
        """Close both."""
        self._publisher = None
        await asyncio.gather(self._consuming.close(), self._publishing.close())

    def status(self) -> Status:
        """Connected while no connection that was opened is lost."""
        publishing, consuming = self._publishing.status(), self._consuming.status()
        return consuming if publishing.connected and not (self._consuming.is_new or consuming.connected) else publishing

    async def publish(self, batch: Sequence[Publication]) -> Sequence[BusError | None]:
        """Publish and wait for all confirms; see wire.Channel. Raises Disconnected."""
        channel = self._publisher
        if channel is None or channel.closed is not None:
            channel = await self.publisher()
        return await self._trial.publish(batch, channel.publish)

    async def publisher(self) -> Channel:
        """The channel with confirms that everything is published on. Raises Disconnected."""
        if self._publisher is not None and self._publisher.closed is None:
            return self._publisher
        wire = self.publishing()
        async with self._opening:
            if self._publisher is None or self._publisher.closed is not None:
                try:
                    self._publisher = await wire.channel(confirms=True)
                except ReceiverClosed as error:
                    raise Disconnected(f"the channel was closed as it was opened: {error}") from error
            return self._publisher

    def publishing(self) -> Wire:
        """The connection that publishes. Raises Disconnected."""
        return self._publishing.alive()

    async def consuming(self) -> Wire:
        """The connection that consumes, opened when first asked for. Raises Disconnected."""
        if self._consuming.is_new:
            self.publishing()
            self._consumes = True
            await self.open()
        return self._consuming.alive()

    async def _connect(self) -> Wire:
        return await self._hosts.open(self._new)

    def _new(self, host: tuple[str, int]) -> Wire:
        if self._target.options.client == "aio-pika":
            try:
                from msgbus.brokers.amqp.aio import AioWire  # noqa: PLC0415 - the lean wire needs no aiormq
            except ModuleNotFoundError as error:
                raise missing_extra("client=aio-pika", error, "amqp") from error
            return AioWire(self._target, host, self._clock)
        return LeanWire(self._target, host, self._clock)
