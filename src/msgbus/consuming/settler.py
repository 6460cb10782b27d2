"""Gathers settlements, hands them to the receiver in batches and reads each entry's result."""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

from msgbus import backoff
from msgbus.broker import Capabilities, Receiver
from msgbus.clock import Clock
from msgbus.errors import GONE, BusError
from msgbus.message import Act, Delivery, Settlement

_ACK = Act.ACK
_GIVES_BACK = (Act.RELEASE, Act.RETRY)  # what ends a message may have been done in part, and is worth another try

AfterRefusal = Callable[[Settlement, BusError, int], Settlement | None]
"""What is settled next in place of a settlement that was answered with an error, the how manyth; None: nothing."""


class Told(Protocol):
    """Is told the end of each settlement, once."""

    def accepted(self, batch: Sequence[Settlement]) -> None:
        """The broker took all of them."""
        ...

    def ended(self, batch: Sequence[Settlement], results: Sequence[BusError | None]) -> None:
        """One result per settlement, None where the broker took it."""
        ...

    def is_over(self, settlement: Settlement) -> bool:
        """Whether its lease was lost meanwhile, so that there is nothing to settle any more."""
        ...


class Settler:
    """The settlements of one receiver.

    `add` never waits; a flusher (one per `settle_slots`) takes what is there, after `settle_linger` seconds at the
    latest. Where there are several, one of them is for acknowledgements alone, and no batch mixes them with what
    may be a copy that is sent: while a server takes no copies, they go on.
    `hurry`: somebody waits for the room that settling makes, so flush at once. `after_refusal` decides what becomes of
    an entry that the broker did not take, `results` is told the end of each.
    """

    def __init__(
        self,
        receiver: Receiver,
        capabilities: Capabilities,
        clock: Clock,
        results: Told,
        after_refusal: AfterRefusal,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._loop = loop
        self._receiver = receiver
        self._limit = capabilities.settle_batch
        self._linger = capabilities.settle_linger
        self._clock = clock
        self._results = results
        self._after_refusal = after_refusal
        self._pending: deque[Settlement] = deque()
        self._copies = self._pending if capabilities.settle_slots == 1 else deque[Settlement]()
        self._idle: asyncio.Future[None] | None = None
        self._waking: asyncio.Handle | None = None
        self._flushed: asyncio.Future[None] | None = None
        self._running = 0
        self._waiting = 0  # copies that are being sent, and what waits to be tried again
        self._hurry = False

    def add(self, settlement: Settlement) -> None:
        """Settle it soon."""
        pending = self._pending if settlement.act is _ACK else self._copies
        pending.append(settlement)
        if self._waking is None:
            if self._idle is not None:
                self._wake_soon()
        elif len(pending) == self._limit:
            self._wake()

    def drop(self, delivery: Delivery) -> None:
        """Its lease was lost before the broker was asked: it is another's now."""
        for pending in (self._pending, self._copies):
            for settlement in [each for each in pending if each.delivery is delivery]:
                pending.remove(settlement)
        self._tell_flushed()

    @property
    def waiting(self) -> int:
        """How many that are no plain acknowledgements have no result yet: an alarm of the server may hold them."""
        return self._waiting if self._copies is self._pending else self._waiting + len(self._copies)

    @property
    def hurry(self) -> bool:
        """Whether to flush without lingering."""
        return self._hurry

    @hurry.setter
    def hurry(self, value: bool) -> None:
        self._hurry = value
        if value and (self._pending or self._copies):
            self._wake()

    async def flush(self) -> None:
        """Wait until everything added so far has its result."""
        self.hurry = True
        while self._pending or self._copies or self._running:
            self._flushed = self._flushed or self._loop.create_future()
            await self._flushed

    async def run(self, *, copies: bool = True) -> None:
        """A flusher; run `settle_slots` of them. `copies`: it takes more than acknowledgements."""
        while True:
            while not (pending := (copies and self._copies) or self._pending):
                await self._sleep()
            batch = self._take(pending)
            self._running += 1
            copying = 0 if pending is self._pending else len(batch)
            self._waiting += copying
            results = await self._receiver.settle(batch)
            if results.count(None) == len(results):
                self._results.accepted(batch)
            else:
                await self._again(batch, results)
            self._running -= 1
            self._waiting -= copying
            self._tell_flushed()

    def _tell_flushed(self) -> None:
        if self._flushed is not None and not (self._pending or self._copies or self._running):
            self._flushed.set_result(None)
            self._flushed = None

    def _wake_soon(self) -> None:
        """After the linger, or a turn of the loop later: gather what comes until then.

        On the loop's own timer, whatever clock the bus has: it is about gathering, not about time.
        """
        most = max(len(self._pending), len(self._copies))
        if self._linger and not self._hurry and most < self._limit:
            self._waking = self._loop.call_later(self._linger, self._wake)
        else:
            self._waking = self._loop.call_soon(self._wake)

    def _wake(self) -> None:
        if self._waking is not None:
            self._waking.cancel()
            self._waking = None
        idle, self._idle = self._idle, None
        if idle is not None and not idle.done():
            idle.set_result(None)

    def _sleep(self) -> asyncio.Future[None]:
        if self._idle is None:
            self._idle = self._loop.create_future()
        return self._idle

    def _take(self, pending: deque[Settlement]) -> list[Settlement]:
        if len(pending) <= self._limit:
            batch = list(pending)
            pending.clear()
            return batch
        return [pending.popleft() for _ in range(self._limit)]

    async def _again(self, batch: Sequence[Settlement], results: Sequence[BusError | None]) -> None:
        """Until every entry has an end; only what failed and may succeed is tried again."""
        for attempt in itertools.count(1):
            batch = await self._after_failures(batch, results, attempt)
            if not batch:
                return
            results = await self._receiver.settle(batch)

    async def _after_failures(
        self, batch: Sequence[Settlement], results: Sequence[BusError | None], attempt: int
    ) -> Sequence[Settlement]:
        """Report what has ended; what is to be tried again, after a pause."""
        again: list[Settlement] = []
        ended: list[tuple[Settlement, BusError | None]] = []
        for settlement, result in zip(batch, results, strict=True):
            if isinstance(result, GONE):
                raise result
            following = None if result is None else self._after_refusal(settlement, result, attempt)
            if following is None:
                ended.append((settlement, result))
            elif following.delay and following.act is not Act.RETRY:
                self._later(following)
            else:
                again.append(following)
        if ended:
            self._results.ended([s for s, _ in ended], [r for _, r in ended])
        if again:
            await self._clock.sleep(backoff.delay(attempt, 0.05, longest=5.0))
        return [each for each in again if each.act not in _GIVES_BACK or not self._results.is_over(each)]

    def _later(self, settlement: Settlement) -> None:
        """It stays in hand until its delay is over."""

        self._waiting += 1

        def again() -> None:
            self._waiting -= 1
            if not self._results.is_over(settlement):
                self.add(replace(settlement, delay=0.0))

        self._clock.call_later(settlement.delay, again)
