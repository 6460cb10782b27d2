"""Which queues are there: STOMP itself can't tell, and no server minds what it is sent for a queue that is missing."""

from __future__ import annotations

from collections.abc import Collection

from msgbus.brokers.mq.sending import missing_queue
from msgbus.brokers.stomp.dialect import Dialect
from msgbus.brokers.stomp.wires import Wires
from msgbus.clock import Clock


class Catalog:
    """Asks the server once for each queue; what was there is taken to stay there."""

    def __init__(self, wires: Wires, clock: Clock) -> None:
        self.known: set[str] = set()
        self._wires = wires
        self._clock = clock
        self._blind = False

    async def missing(self, dialect: Dialect, names: Collection[str], *, anew: bool = False) -> Collection[str]:
        """Those that are not there; none where the server can't tell. `anew`: ask about known ones too."""
        asked = [name for name in dict.fromkeys(names) if anew or name not in self.known]
        if not asked or self._blind:
            return []
        there = await dialect.there(self._wires.another, self._clock, asked)
        if there is None:
            self._blind = True
            return []
        self.known.difference_update(asked)
        self.known.update(there)
        return [name for name in asked if name not in there]

    async def check(self, dialect: Dialect, what: object, name: str) -> None:
        """Raises Refused where it is missing."""
        if await self.missing(dialect, [name]):
            raise missing_queue(what, name)
