"""Which connections are open: each to the first host that answers, and opened again after it was lost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, Protocol, TypeVar

from msgbus.broker import Status
from msgbus.brokers.mq.errors import caused
from msgbus.brokers.urls import Hosts
from msgbus.errors import BusError, Disconnected, Refused


class Connection(Protocol):
    """One connection."""

    @property
    def closed(self) -> BusError | None:
        """Why it is not connected; None while it is."""
        ...

    @property
    def blocked(self) -> str:
        """Why publishers must wait; "" while they need not."""
        ...

    async def open(self) -> None:
        """Connect once. Raises Refused where no other host would help, another BusError where one may."""
        ...

    async def close(self) -> None:
        """Say goodbye; harmless when not connected."""
        ...


C = TypeVar("C", bound=Connection)


class Failover:
    """Opens a connection to the host that answered last, else to the next ones in turn."""

    def __init__(self, hosts: Hosts, what: object) -> None:
        self._hosts = hosts
        self._what = what
        self._last = 0

    async def open(self, make: Callable[[tuple[str, int]], C]) -> C:
        """The first that opens. Raises Refused at once, or what the last host said."""
        error: BusError | None = None
        for step in range(len(self._hosts)):
            place = (self._last + step) % len(self._hosts)
            connection = make(self._hosts[place])
            try:
                await connection.open()
            except Refused as refused:
                raise caused(Refused(f"{self._what}: {refused}"), refused.__cause__) from None
            except BusError as failed:
                error = failed
            else:
                self._last = place
                return connection
        raise error or Disconnected(f"{self._what}: no host")


class Reopened(Generic[C]):
    """One connection that `open` makes anew when it is lost. `what`: the server, for errors."""

    def __init__(self, what: object, connect: Callable[[], Awaitable[C]]) -> None:
        self._what = what
        self._connect = connect
        self._current: C | None = None
        self._opening = asyncio.Lock()

    @property
    def is_new(self) -> bool:
        """Whether it was never open, or was closed by us."""
        return self._current is None

    async def open(self) -> None:
        """Open it, if it is not."""
        async with self._opening:
            old = self._current
            if old is None or old.closed is not None:
                if old is not None:
                    await old.close()
                self._current = await self._connect()

    async def close(self) -> None:
        """Close it for good."""
        current, self._current = self._current, None
        if current is not None:
            await current.close()

    def alive(self) -> C:
        """The connection. Raises Disconnected."""
        current = self._current
        if current is None:
            raise Disconnected(f"{self._what}: not connected")
        if current.closed is not None:
            raise Disconnected(f"{self._what}: {current.closed}") from current.closed
        return current

    def status(self) -> Status:
        """Connected or not, and whether the server makes publishers wait."""
        try:
            blocked = self.alive().blocked
        except Disconnected as error:
            return Status(False, reason=str(error))
        return (
            Status(True, blocked=True, reason=f"{self._what} blocks publishers: {blocked}") if blocked else Status(True)
        )
