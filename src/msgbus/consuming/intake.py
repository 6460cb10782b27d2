"""The poller of a session: asks the receiver for as much as there is room for."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence, Sized
from typing import Any

from msgbus import backoff
from msgbus.broker import Receiver
from msgbus.clock import Alarms, Clock
from msgbus.consuming.fate import Fate
from msgbus.consuming.flow import Rate, Window
from msgbus.consuming.life import Life
from msgbus.consuming.policy import Policy
from msgbus.errors import GONE, PASSING, BusError, said, shown
from msgbus.handlers.subscription import Subscription
from msgbus.message import Delivery

log = logging.getLogger("msgbus.intake")

_WAIT = 20.0  # seconds of one `receive`; stop() ends it earlier


class Intake:
    """Polls until stopped.

    `fate` is told what came, and knows what is unsettled and what no worker has taken yet; `starving(True)` is told
    when it must wait for room, `life` of what goes wrong. `turning` is done when another prefetch is wanted.
    """

    def __init__(
        self,
        subscription: Subscription,
        policy: Policy,
        receiver: Receiver,
        clock: Clock,
        alarms: Alarms,
        fate: Fate,
        starving: Callable[[bool], None],
        life: Life,
    ) -> None:
        self._subscription = subscription
        self._breaker, self._suspicion = policy.breaker, policy.suspicion
        self._receiver = receiver
        self._clock = clock
        self._alarms = alarms
        self._fate = fate
        self._in_hand: Sized = fate.in_hand
        self._ready: Sized = fate.ready
        self._starving = starving
        self._life = life
        batch = subscription.options.batch.size if subscription.handle_batch is not None else 0
        self._prefetch = 1 if policy.suspicion.is_careful else subscription.prefetch
        self._window = Window(max(subscription.concurrency, 2 * batch), self._prefetch)
        rate = subscription.options.limits.rate
        self._rate = Rate(rate) if rate is not None else None
        self._stopping = False
        self._aside: Sequence[Delivery] = ()
        self.turning: asyncio.Future[None] = alarms.loop.create_future()
        self._waiting: asyncio.Future[None] | None = None

    async def run(self) -> None:
        """Raises Disconnected or ReceiverClosed when the receiver is dead; other errors are waited out."""
        failures = 0
        while limit := self._room() or await self._wait_for_room():
            try:
                batch = await self._receiver.receive(limit, _WAIT)
            except GONE:
                raise
            except BusError as error:
                failures += 1
                await self._after(error, failures)
                continue
            if failures:
                log.warning("%s: receiving works again", self._subscription.source)
                failures = 0
                self._life.recovers()
            if not batch:
                continue
            if self._rate is not None:
                self._rate.take(len(batch))
            self._take(batch)
        await self._take_the_last()

    async def _take_the_last(self) -> None:
        """What was on its way when it was stopped."""
        try:
            while batch := await self._receiver.receive(self._subscription.capabilities.receive_batch, 0.0):
                self._fate.take_late(batch)
        except PASSING:  # nothing more is handed out: running handlers may still end
            log.warning("%s: the last receive failed while stopping", self._subscription.source, exc_info=True)

    async def _after(self, error: BusError, failures: int) -> None:
        """The receiver is alive, and what it failed of may pass."""
        self._life.failed(error, passing=isinstance(error, PASSING))
        about = {"attempt": failures, "error": said(error)}
        log.warning("%s: receiving failed, trying again: %s", self._subscription.source, shown(error), extra=about)
        asked = getattr(error, "retry_after", None) or 0.0
        await self._clock.sleep(asked + backoff.delay(failures, 0.1, longest=10.0))

    def _take(self, batch: Sequence[Delivery]) -> None:
        """To the workers; back to the broker where nothing is to be started, or one thing at a time."""
        turns = not self._stopping and self._suspicion.turns(batch, self._alarms.now())
        if turns and self._suspicion.is_careful:
            self._aside = batch  # given back once nothing new comes, or it would come at once
        else:
            (self._fate.take_late if self._stopping else self._fate.take)(batch)
        if turns:  # end this receiver softly, for one with another prefetch
            self._stopping = True
            self.turning.set_result(None)

    def stop(self) -> Coroutine[Any, Any, None]:
        """Ask for nothing more from now on; await it, and what is on its way comes in and is released."""
        self._stopping = True
        return self._stop()

    async def _stop(self) -> None:
        await self._receiver.stop()
        aside, self._aside = self._aside, ()
        if aside:
            self._fate.take_late(aside)
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

        While workers have something to do, a nearly full window is left to empty: fewer, fuller receives. The window
        is for what can be worked on: what only waits to be tried again takes none of it, up to the prefetch.
        """
        breaker, window = self._breaker, min(self._window.size + self._fate.waiting, self._prefetch)
        room = window - len(self._in_hand)
        if room <= 0 or self._stopping or (self._ready and room <= window // 4):
            return 0
        if breaker is not None and not breaker.is_closed:
            room = 0 if self._in_hand or breaker.wait(self._alarms.now()) else 1
        elif self._rate is not None:
            room = min(room, self._rate.available(self._alarms.now()))
        return min(room, self._subscription.capabilities.receive_batch)

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
        breaker = self._breaker
        if breaker is not None and not breaker.is_closed:
            return breaker.wait(self._alarms.now())
        return self._rate.wait() if self._rate is not None else 0.0
