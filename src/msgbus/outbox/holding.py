"""Which partitions a relay has: leases that it renews, and its fair share of them."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field

from msgbus.clock import Clock
from msgbus.errors import BusError, shown
from msgbus.outbox.floor import Floor
from msgbus.outbox.rows import PARTS
from msgbus.outbox.store import Hold, Store, Wanted

log = logging.getLogger("msgbus.outbox")

_SCAN = 30.0  # seconds between two reads of a whole partition: what a floor should have hidden is late then, not lost


@dataclass(slots=True)
class Held:
    """One partition."""

    hold: Hold
    scanned: float
    floor: Floor = field(default_factory=Floor)


class Holding:
    """`parts`: what is ours, until `until` by our clock, which is before the database's lease ends."""

    def __init__(self, store: Store, owner: str, lease: float, clock: Clock) -> None:
        self.parts: dict[int, Held] = {}
        self.until = -1.0
        self._store = store
        self._owner = owner
        self._lease = lease
        self._clock = clock
        self._relays = 1
        self._lock = asyncio.Lock()
        self._first = 0

    @property
    def is_ours(self) -> bool:
        """Whether what we hold is surely still ours."""
        return self._clock.now() < self.until

    async def renew(self) -> None:
        """Prolong every lease, and notice those that are gone. Raises Unavailable."""
        async with self._lock:
            await self._renew()

    async def _renew(self) -> None:
        now = self._clock.now()
        share = await self._store.share(self._owner, self._lease)
        self.until = now + self._lease
        self._relays = share.relays
        before = self.parts
        self.parts = {
            part: before[part] if part in before and before[part].hold == hold else Held(hold, now)
            for part, hold in share.parts.items()
        }

    async def balance(self) -> None:
        """Take what is free, up to our share; give back what is above it. Raises Unavailable."""
        async with self._lock:
            await self._renew()
            share = -(-PARTS // max(1, self._relays))
            surplus = list(self.parts)[share:]
            if surplus:
                for part in surplus:
                    del self.parts[part]
                await self._store.release(self._owner, surplus)
            elif len(self.parts) < share and await self._store.take(self._owner, self._lease, share - len(self.parts)):
                await self._renew()

    async def keep(self) -> None:
        """Renew for as long as the relay runs, whatever else it waits for."""
        while True:
            await self._clock.sleep(self._lease / 3)
            try:
                await self.renew()
            except BusError as error:
                log.warning("outbox: the leases can't be renewed: %s", shown(error))

    def wanted(self) -> list[Wanted]:
        """All that we hold, each time another one first: a full page leaves out the last ones."""
        now = self._clock.now()
        for held in self.parts.values():
            if now - held.scanned > _SCAN:
                held.scanned, held.floor = now, Floor()
        parts = list(self.parts)
        self._first = (self._first + 1) % max(1, len(parts))
        return [
            Wanted(part, self.parts[part].floor.value, self.parts[part].hold)
            for part in parts[self._first :] + parts[: self._first]
        ]
