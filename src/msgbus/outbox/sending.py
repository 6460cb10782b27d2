"""Rows of one topic or queue to its broker, and what became of each into the store."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Literal

from msgbus import backoff
from msgbus.broker import Result
from msgbus.bus import Bus
from msgbus.errors import BusError, Refused, Unavailable, shown
from msgbus.message import Outgoing, Receipt
from msgbus.outbox.holding import Holding
from msgbus.outbox.outbox import declared
from msgbus.outbox.rows import Row, outgoing_of
from msgbus.outbox.store import Store
from msgbus.publishing.outlet import Outlet

log = logging.getLogger("msgbus.outbox")

OnRefused = Literal["pass", "hold"]
"""What becomes of the later messages of a key whose message is dead: they are sent, or they wait for it."""


class Sender:
    """Sends what a relay read. Nothing of it is open in the database meanwhile."""

    def __init__(self, bus: Bus, store: Store, owner: str, holding: Holding, on_refused: OnRefused) -> None:
        self.sent = 0
        self.buried = 0
        self._bus = bus
        self._store = store
        self._owner = owner
        self._holding = holding
        self._holds = on_refused == "hold"

    async def send(self, place: str, rows: Sequence[Row], tokens: Mapping[int, int]) -> BusError | None:
        """Send rows that are all for one place, in order; why those that are left were not sent, or None."""
        kind, _, name = place.partition("/")
        target = declared(self._bus, kind, name)
        if target is None:
            return Unavailable(f"{place} is not declared here: bus.publishes(...) declares it")
        try:
            outlet = await self._bus.outlet_for(target)
        except BusError as error:
            return error
        dead: set[str | None] = set()
        for wave in _waves(rows) if self._holds else [rows]:
            left = [row for row in wave if row.key not in dead]
            failure = await self._send(outlet, left, tokens, dead)
            if failure is not None:
                return failure
        return None

    async def _send(
        self, outlet: Outlet, rows: Sequence[Row], tokens: Mapping[int, int], dead: set[str | None]
    ) -> BusError | None:
        results = await _results(outlet, rows)
        good = [row for row, result in zip(rows, results, strict=True) if isinstance(result, Receipt)]
        failure: BusError | None = None
        if good:
            await self._forget(good, tokens)
        for row, result in zip(rows, results, strict=True):
            if isinstance(result, Receipt):
                continue
            if isinstance(result, Refused) and outlet.link.failure is None:
                await self._bury(row, tokens[row.part], result)
                if self._holds and row.key is not None:
                    dead.add(row.key)
            else:
                failure = result
        return failure

    async def _forget(self, rows: Sequence[Row], tokens: Mapping[int, int]) -> None:
        """Delete them, however often that fails: they are sent, and would be again. Raises Unavailable in the end."""
        attempt = 0
        while True:
            try:
                gone = await self._store.done(self._owner, rows, tokens)
                break
            except Unavailable as error:
                attempt += 1
                if not self._holding.is_ours:
                    raise
                log.warning("outbox: sent, but not yet deleted: %s", shown(error))
                await self._bus.clock.sleep(backoff.delay(attempt, 0.05, longest=2.0))
        self.sent += len(rows)
        if gone < len(rows) and not attempt:
            log.warning("outbox: %d messages may be sent twice: another relay has their partitions", len(rows) - gone)

    async def _bury(self, row: Row, token: int, error: Refused) -> None:
        if await self._store.bury(self._owner, row, token, shown(error), holds=self._holds and row.key is not None):
            self.buried += 1
            log.error("outbox: %s is dead: %s", row.id, shown(error), extra={"place": row.place, "key": row.key})


async def _results(outlet: Outlet, rows: Sequence[Row]) -> list[Result]:
    """One per row. What is no message is Refused alone; a middleware that raises, or a broker's bug, fails all."""
    results: list[Result | None] = []
    batch: list[Outgoing] = []
    for row in rows:
        try:
            batch.append(outgoing_of(row, outlet))
            results.append(None)
        except Exception as error:
            results.append(Refused(f"the row of {row.id} is damaged: {shown(error)}"))
    try:
        sent = iter(await outlet.send(batch) if batch else ())
        return [next(sent) if result is None else result for result in results]
    except BusError as error:
        failure: BusError = error if not isinstance(error, Refused) else Unavailable(shown(error))
    except Exception as error:
        failure = Unavailable(f"{outlet.address}: sending raised {shown(error)}")
    return [failure if result is None else result for result in results]


def _waves(rows: Sequence[Row]) -> list[list[Row]]:
    """Each with one row of a key at most, so that none is sent before what came before it is taken."""
    waves: list[list[Row]] = []
    counts: dict[str, int] = {}
    for row in rows:
        place = 0
        if row.key is not None:
            place = counts.get(row.key, 0)
            counts[row.key] = place + 1
        if place == len(waves):
            waves.append([])
        waves[place].append(row)
    return waves
