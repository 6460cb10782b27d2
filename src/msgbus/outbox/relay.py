"""The relay: reads the partitions that it holds and hands their rows to the brokers, round after round."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import socket
import uuid
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from msgbus import backoff
from msgbus.bus import Bus
from msgbus.errors import BusError, ConfigError, Unavailable, shown
from msgbus.outbox.holding import Holding
from msgbus.outbox.reading import Read, Reader
from msgbus.outbox.rows import Row
from msgbus.outbox.sending import OnRefused, Sender
from msgbus.outbox.store import Store

log = logging.getLogger("msgbus.outbox")

_PATIENCE = 1.0  # seconds that a round waits for a place; one that takes longer keeps the others no more
_SHORTEST_POLL = 0.01
_LAST_SENDS = 5.0  # seconds that what is being sent may take when the relay stops


@dataclass(slots=True)
class _Trouble:
    """A place that is not read for a while."""

    failures: int = 0
    until: float = 0.0
    error: BaseException | None = None


class Relay:
    """Sends what transactions have published; several of them share the work, and take over from one that died.

    `bus`: open, and declares by `publishes` what may come. `batch`: rows of a read. `lease`: seconds after which
    others take over from a relay that hangs or was killed. `poll`: seconds between two looks when nothing comes.
    `on_refused`: a message that its broker refuses is dead, and kept with the reason; with "pass" the later ones of
    its key are sent, with "hold" they wait until it is sent again or thrown away (then one message of a key is sent
    at a time). At least once: what was being sent when a relay died is sent again, under the same id.

    `trouble`: what fails now and may pass. `failure`: what ended it. Both are told by `bus.health()`.
    """

    name = "outbox"

    def __init__(
        self,
        bus: Bus,
        store: Store,
        *,
        batch: int = 1000,
        lease: float = 15.0,
        poll: float = 0.5,
        on_refused: OnRefused = "pass",
    ) -> None:
        if not 1 <= batch <= 10_000 or lease < 1 or poll < _SHORTEST_POLL or on_refused not in ("pass", "hold"):
            raise ConfigError(
                'Relay: batch is 1 to 10,000, lease at least 1 s, poll 0.01 s, on_refused "pass" or "hold"'
            )
        self.owner = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self.trouble: BaseException | None = None
        self.failure: BaseException | None = None
        self.lag = 0.0
        self._bus = bus
        self._clock = bus.clock
        self._store = store
        self._batch = batch
        self._lease = lease
        self._poll = poll
        self._holding = Holding(store, self.owner, lease, bus.clock)
        self._reader = Reader(store, self.owner, self._holding, batch)
        self._sender = Sender(bus, store, self.owner, self._holding, on_refused)
        self._sending: dict[str, asyncio.Task[BusError | None]] = {}
        self._troubles: dict[str, _Trouble] = {}
        self._balanced = float("-inf")
        self._woken = asyncio.Event()
        self._stopped = False

    @property
    def sent(self) -> int:
        """Messages that a broker has confirmed."""
        return self._sender.sent

    @property
    def parts(self) -> Sequence[int]:
        """The partitions that it holds."""
        return sorted(self._holding.parts)

    def wake(self) -> None:
        """Look now: something was committed."""
        self._woken.set()

    def stop(self) -> None:
        """End after what is being sent."""
        self._stopped = True
        self._woken.set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Relay]:
        """Run beside the block. Raises what `run` does."""
        task = asyncio.create_task(self.run())
        try:
            yield self
        finally:
            self.stop()
            await task

    async def run(self) -> None:
        """Until `stop`. A database that is down is waited for; raises ConfigError where the tables are wrong."""
        beside = [asyncio.create_task(self._holding.keep()), asyncio.create_task(self._listen())]
        self._bus.beside[:] = [*(each for each in self._bus.beside if each.failure is None), self]
        try:
            await self._rounds()
        except Exception as error:
            self.failure = error
            raise
        finally:
            for task in beside:
                task.cancel()
            await asyncio.wait(beside)
            await self._end()
            if self.failure is None:
                self._bus.beside.remove(self)

    async def _listen(self) -> None:
        """What is missed while the connection is gone is found by polling."""
        while True:
            with suppress(Unavailable):
                async with self._store.listening(self.wake) as ended:
                    await ended.wait()
            await self._clock.sleep(self._lease / 3)

    async def _rounds(self) -> None:
        failures, idle, is_checked = 0, 0, False
        while not self._stopped:
            try:
                if not is_checked:
                    await self._store.check()
                    is_checked = True
                    log.info("outbox: relaying as %s", self.owner)
                idle = 0 if await self._round() else idle + 1
                failures = 0
                pause = min(self._poll, _SHORTEST_POLL * 2 ** min(idle, 10)) if idle else 0.0
            except Unavailable as error:
                failures += 1
                self.trouble = error
                pause = backoff.delay(failures, 0.1, longest=5.0, jitter=0.5)
                log.warning("outbox: trying again in %.1f s: %s", pause, shown(error))
            await self._rest(pause)

    async def _rest(self, seconds: float) -> None:
        if seconds and not self._stopped:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._woken.wait()
        self._woken.clear()

    async def _round(self) -> bool:
        """Read and send once; whether there was anything to do."""
        now, buried = self._clock.now(), self._sender.buried
        if not self._holding.is_ours or (now - self._balanced > self._lease / 3 and not self._sending):
            await self._holding.balance()
            self._balanced = now
        if not self._holding.is_ours:  # the database took longer than the lease
            return False
        self._collect()
        skip = {*self._sending, *(place for place, trouble in self._troubles.items() if trouble.until > now)}
        read = await self._reader.read(skip)
        self._begin(read, skip)
        if self._sending:
            await asyncio.wait(self._sending.values(), timeout=_PATIENCE)
        self._collect()
        is_whole = not (skip or self._sending or self._troubles)
        if not is_whole or self._sender.buried > buried:
            await self._reader.forget()
        if is_whole and not read.is_ahead:
            self._raise_floors(read)
        self.trouble = next((trouble.error for trouble in self._troubles.values()), None)
        return bool(read.page.rows)

    def _begin(self, read: Read, skip: Collection[str]) -> None:
        """Send what was read, place by place, and read on meanwhile."""
        tokens, places = read.tokens, _by_place(read.page.rows)
        if len(read.page.rows) < self._batch:  # nothing is left for a place that was read and had no rows
            self._troubles = {each: self._troubles[each] for each in self._troubles if each in places or each in skip}
        for place, rows in places.items():
            self._sending[place] = asyncio.create_task(self._sender.send(place, rows, tokens))
        if not skip:
            self._reader.read_ahead(read)
        self.lag = max(0.0, self._clock.time() - min((row.created for row in read.page.rows), default=math.inf))

    def _collect(self) -> None:
        """What came of the tasks that have ended."""
        for place, task in list(self._sending.items()):
            if not task.done():
                continue
            del self._sending[place]
            error = task.exception() or task.result()
            if error is None:
                self._troubles.pop(place, None)
                continue
            trouble = self._troubles.setdefault(place, _Trouble())
            trouble.failures += 1
            pause = backoff.delay(trouble.failures, 0.1, longest=30.0, jitter=0.5)
            trouble.error, trouble.until = error, self._clock.now() + pause
            log.warning("outbox: %s waits %.1f s: %s", place, pause, shown(error))

    def _raise_floors(self, read: Read) -> None:
        page, tops = read.page, read.tops
        whole = len(page.rows) < self._batch
        for each in read.wanted:
            held = self._holding.parts.get(each.part)
            top = tops.get(each.part, 0)
            if held is not None and held.hold == each.hold and (whole or top):
                held.floor.read(top, page.oldest, page.next_, whole=whole)

    async def _end(self) -> None:
        """What is being sent may end; then others may have the partitions."""
        if self._sending:
            _, late = await asyncio.wait(self._sending.values(), timeout=_LAST_SENDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*self._sending.values(), return_exceptions=True)
        await self._reader.forget()
        try:
            await self._store.leave(self.owner)
        except BusError as error:
            log.warning("outbox: the partitions are free only when their leases end: %s", shown(error))


def _by_place(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Rows by where they go; of each partition in their order, and no key is in two of them."""
    places: dict[str, list[Row]] = {}
    for row in rows:
        places.setdefault(row.place, []).append(row)
    return places
