"""Calls about exchanges and queues, each on a channel of its own: the server closes it for every "no"."""

from __future__ import annotations

from collections.abc import Iterable

from pamqp.base import Frame
from pamqp.commands import Exchange

from msgbus.brokers.amqp.errors import NOT_FOUND, has_code
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


async def is_missing(wire: Wire, passive: Frame) -> bool:
    """Whether what is declared passively is not there."""
    try:
        await ask(wire, passive)
    except BusError as error:
        if has_code(error, NOT_FOUND):
            return True
        raise
    return False


class Exchanges:
    """Which exchanges are there. Publishing to a missing one closes the channel under everybody's messages."""

    def __init__(self, wires: Wires) -> None:
        self.known: set[str] = set()
        self._wires = wires

    async def absent(self, names: Iterable[str]) -> dict[str, BusError]:
        """Why nothing can be published to some of these."""
        found = {name: await self._missing(name) for name in names}
        return {name: error for name, error in found.items() if error is not None}

    async def _missing(self, name: str) -> BusError | None:
        try:
            if await is_missing(self._wires.publishing(), Exchange.Declare(exchange=name, passive=True)):
                return Refused(f"topic {name} is not there: with MSGBUS_PROVISION=create it is made at start")
        except Disconnected:
            raise
        except BusError as error:
            return error
        self.known.add(name)
        return None
