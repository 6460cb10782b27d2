"""Calls about exchanges and queues, each on a channel of its own: the server closes it for every "no"."""

from __future__ import annotations

from pamqp.base import Frame
from pamqp.commands import Exchange

from msgbus.brokers.amqp.errors import NOT_FOUND, said
from msgbus.brokers.amqp.wire import Wire
from msgbus.brokers.amqp.wires import Wires
from msgbus.errors import BusError, Disconnected, Refused


async def ask(wire: Wire, method: Frame) -> Frame:
    """Call a method on a channel of its own. Raises what the server says against it."""
    channel = await wire.channel()
    try:
        return await channel.call(method)
    finally:
        channel.abandon()


def is_missing(error: BusError) -> bool:
    """Whether the server said that it is not there."""
    cause = said(error)
    return cause is not None and cause.code == NOT_FOUND


class Exchanges:
    """Which exchanges are there. Publishing to a missing one closes the channel under everybody's messages."""

    def __init__(self, wires: Wires) -> None:
        self.known: set[str] = set()
        self._wires = wires

    async def missing(self, name: str) -> BusError | None:
        """Why nothing can be published to it; None where it is there."""
        try:
            await ask(self._wires.publishing(), Exchange.Declare(exchange=name, passive=True))
        except Disconnected:
            raise
        except BusError as error:
            return (
                Refused(f"topic {name} is not there: with MSGBUS_PROVISION=create it is made at start")
                if (is_missing(error))
                else error
            )
        self.known.add(name)
        return None
