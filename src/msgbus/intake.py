"""The poller of a session: asks the receiver for as much as there is room for."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence, Sized

from msgbus import backoff
from msgbus.broker import Receiver
from msgbus.clock import Alarms, Clock
from msgbus.errors import BusError, Disconnected, ReceiverClosed, Throttled, Unavailable
from msgbus.flow import Rate, Window
from msgbus.message import Delivery
from msgbus.plan import Plan

log = logging.getLogger("msgbus.intake")

_WAIT = 20.0  # seconds of one `receive`; stop() ends it earlier


class Intake:
    """Polls until stopped.

    `in_hand` is everything unsettled and `ready` what no worker has taken yet; `starving(True)` is told when it must
    wait for room. `take(batch)` is told what came, and `release(batch)` what came after the stop.
    """

    def __init__(
        self,
        plan: Plan,
        receiver: Receiver,
        clock: Clock,
        alarms: Alarms,
        in_hand: Sized,
        ready: Sized,
        starving: Callable[[bool], None],
    ) -> None:
        self._plan = plan
        self._receiver = receiver
        self._clock = clock
        self._alarms = alarms
        self._in_hand = in_hand
        self._ready = ready
        self._starving = starving
        batch = plan.options.batch.size if plan.handle_batch is not None else 0
        self._window = Window(max(plan.concurrency, 2 * batch), plan.prefetch)
        rate = plan.options.limits.rate
        self._rate = Rate(rate) if rate is not None else None
        self._stopping = False
        self._waiting: asyncio.Future[None] | None = None

    async def run(
        self, take: Callable[[Sequence[Delivery]], None], release: Callable[[Sequence[Delivery]], None]
    ) -> None:
        """Raises Disconnected or ReceiverClosed when the receiver is dead; other errors are waited out."""
        failures = 0
        while limit := self._room() or await self._wait_for_room():
            try:
                batch = await self._receiver.receive(limit, _WAIT)
            except (Disconnected, ReceiverClosed):
                raise
            except BusError as error:
                failures += 1
                log.warning(
                    "%s: receiving failed, trying again",
                    self._plan.source,
                    extra={"attempt": failures, "error": str(error)},
                )
                asked = getattr(error, "retry_after", None) or 0.0
                await self._clock.sleep(asked + backoff.delay(failures, 0.1, longest=10.0))
                continue
            failures = 0
            if not batch:
                continue
            if self._rate is not None:
                self._rate.take(len(batch))
            (release if self._stopping else take)(batch)
        try:
            while batch := await self._receiver.receive(self._plan.capabilities.receive_batch, 0.0):
                release(batch)
        except (Throttled, Unavailable):  # nothing more is handed out: running handlers may still end
            log.warning("%s: the last receive failed while stopping", self._plan.source, exc_info=True)

    async def stop(self) -> None:
        """Ask for nothing more; what is on its way comes in and is released."""
        self._stopping = True
        await self._receiver.stop()
        self.look_again()

    def settled(self, count: int) -> None:
        """`count` deliveries are no longer in hand."""
        self._window.handled(count, self._alarms.now())
        if self._waiting is not None:
            self.look_again()

    def look_again(self) -> None:
        """There may be room now."""
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def _room(self) -> int:
        """How many deliveries may be asked for now; 0 for none.

        While workers have something to do, a nearly full window is left to empty: fewer, fuller receives.
        """
        plan, window = self._plan, self._window.size
        room = window - len(self._in_hand)
        if room <= 0 or self._stopping or (self._ready and room <= window // 4):
            return 0
        if plan.breaker is not None and not plan.breaker.is_closed:
            room = 0 if self._in_hand or plan.breaker.wait(self._alarms.now()) else 1
        elif self._rate is not None:
            room = min(room, self._rate.available(self._alarms.now()))
        return min(room, plan.capabilities.receive_batch)

    async def _wait_for_room(self) -> int:
        """Room for at least one; 0 when stopping."""
        while not self._stopping:
            if room := self._room():
                return room
            self._waiting = self._alarms.loop.create_future()
            pause = self._pause()
            alarm = self._alarms.call(pause, self.look_again) if pause else None
            self._starving(True)
            try:
                await self._waiting
            finally:
                self._waiting = None
                self._starving(False)
                if alarm is not None:
                    alarm.cancel()
        return 0

    def _pause(self) -> float:
        """Seconds after which there may be room without anything being settled; 0: never."""
        breaker = self._plan.breaker
        if breaker is not None and not breaker.is_closed:
            return breaker.wait(self._alarms.now())
        return self._rate.wait() if self._rate is not None else 0.0
