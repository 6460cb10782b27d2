"""Where a bus and the routers in it publish through: what is open, or what says why nothing is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn, Protocol

from msgbus.clock import Alarms
from msgbus.errors import BusError
from msgbus.publishing.outlet import Outlet
from msgbus.topic import Queue, Rpc, Topic

NOT_OPEN = "the bus is not open: use `async with bus:` or `async with bus.consuming():`"

_NONE_YET = (
    "a Router publishes through the bus that includes it, and none was open yet: bus.include(router), open the bus"
)


class Asks(Protocol):
    """The requester's side of a call."""

    async def request(self, payload: Any, timeout: float, key: str | None, headers: dict[str, str]) -> Any:
        """Ask and await the reply."""
        ...


class Port(Protocol):
    """An open bus, as its verbs see it: what was published before, to be found quickly, and what makes the rest.

    `timeout`: seconds that a publish may take.
    """

    @property
    def topics(self) -> Mapping[object, Outlet]: ...
    @property
    def queues(self) -> Mapping[object, Outlet]: ...
    @property
    def calls(self) -> Mapping[object, Asks]: ...
    @property
    def alarms(self) -> Alarms: ...
    @property
    def timeout(self) -> float: ...

    async def outlet_for(
        self, target: Topic[Any] | Queue[Any], wanted: type | tuple[type, ...] = (Topic, Queue)
    ) -> Outlet:
        """Where a topic or queue is published. Raises ConfigError."""
        ...

    async def call_for(self, rpc: Rpc[Any, Any]) -> Asks:
        """The requester's side of a call. Raises ConfigError."""
        ...


class Ports:
    """Those of the open buses that a router is in; `port` is what it publishes through."""

    def __init__(self, why: str = _NONE_YET) -> None:
        self.open: list[Port] = []
        self.port: Port = Shut(why)

    def join(self, port: Port) -> None:
        """A bus was opened."""
        self.open.append(port)
        self._settle()

    def leave(self, port: Port) -> None:
        """A bus was closed."""
        self.open.remove(port)
        self._settle()

    def _settle(self) -> None:
        first, *others = self.open or [Shut(NOT_OPEN)]
        is_one = all(other is first for other in others)
        self.port = first if is_one else Shut("this Router is in several open buses: publish through one of them")


class Shut:
    """A Port of nothing: whoever publishes gets a BusError that says why."""

    timeout = 0.0

    def __init__(self, why: str) -> None:
        self._why = why
        self.topics: Mapping[object, Outlet] = {}
        self.queues: Mapping[object, Outlet] = {}
        self.calls: Mapping[object, Asks] = {}

    @property
    def alarms(self) -> NoReturn:
        """Of nothing."""
        raise BusError(self._why)

    async def outlet_for(
        self, target: Topic[Any] | Queue[Any], wanted: type | tuple[type, ...] = (Topic, Queue)
    ) -> NoReturn:
        """Raises BusError."""
        raise BusError(self._why)

    async def call_for(self, rpc: Rpc[Any, Any]) -> NoReturn:
        """Raises BusError."""
        raise BusError(self._why)
