"""Keeps one subscription open: receiver after receiver, for as long as the bus consumes."""

from __future__ import annotations

import asyncio
import logging

from msgbus import backoff
from msgbus.broker import Receiver
from msgbus.clock import Alarms, Clock, cancelled_within
from msgbus.consuming.policy import Policy
from msgbus.consuming.session import Session
from msgbus.errors import PASSING, Disconnected, ReceiverClosed
from msgbus.handlers.subscription import Subscription
from msgbus.publishing.link import Link

log = logging.getLogger("msgbus.consume")

_HARD_STOP = 5.0  # seconds that a cancelled client, or the closing of a receiver, may take


class Runner:
    """Opens a receiver, runs a Session on it, and again when it dies. Anything but a dead receiver ends it."""

    def __init__(self, subscription: Subscription, link: Link, clock: Clock, alarms: Alarms) -> None:
        self.subscription = subscription
        self.policy = Policy(subscription, clock.time)
        self.link = link
        self.session: Session | None = None
        self.error: BaseException | None = None
        self._clock = clock
        self._alarms = alarms
        self._stopping = False
        self._task: asyncio.Task[None] | None = None
        self._left: asyncio.Future[None] = alarms.loop.create_future()  # nobody waits for the task any more

    async def run(self) -> None:
        """Until stopped. Raises what no new receiver can cure.

        The work is a task of its own, so that a client in it that can't be cancelled does not keep the service.
        """
        self._task = work = asyncio.create_task(self._run(), name=f"msgbus {self.subscription.source}")
        try:
            await asyncio.wait([work, self._left], return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            await self._end(work)
            raise
        if not work.done() or work.cancelled():
            return
        self.error = work.exception()
        if self.error is not None:
            raise self.error

    async def _run(self) -> None:
        source, prefetch = self.subscription.source, self.subscription.prefetch
        failures = 0
        while not self._stopping:
            generation = self.link.generation
            try:
                async with self.link.broker.receiver(source, prefetch=prefetch) as receiver:
                    failures = 0
                    if not self._stopping:  # opening may have swallowed the cancellation of `stop`
                        await self._run_session(receiver)
            except Disconnected as error:
                self._say(error)
                await self.link.restore(generation)
            except (ReceiverClosed, *PASSING) as error:
                self._say(error)
                failures += 1
                await self._clock.sleep(backoff.delay(failures, 0.1, longest=10.0))

    async def _run_session(self, receiver: Receiver) -> None:
        self.session = Session(self.subscription, self.policy, receiver, self._clock, self._alarms)
        try:
            await self.session.run()
        finally:
            self.session = None

    async def stop(self, grace: float) -> None:
        """Soft, then hard after `grace` seconds; see Session.stop. It comes to an end, whatever a client does."""
        self._stopping = True
        give_up = self._clock.now() + grace
        if self.session is not None:
            await self.session.stop(grace)
            if self._task is not None:  # the receiver is being closed
                await asyncio.wait([self._task], timeout=max(_HARD_STOP, give_up - self._clock.now()))
        if self._task is not None and not self._task.done():  # or between two receivers, with nothing in hand
            await self._end(self._task)

    async def _end(self, work: asyncio.Task[None]) -> None:
        """Cancel it. A session gets its time to end its handlers: cancelled twice, it would leave them running."""
        if self.session is not None:
            work.cancel()
            await asyncio.wait([work], timeout=2 * _HARD_STOP)
        if not await cancelled_within(work, _HARD_STOP):
            log.error("%s: its client does not end when cancelled, and is left behind", self.subscription.source)
            work.add_done_callback(_look)
        if not self._left.done():
            self._left.set_result(None)

    def _say(self, error: Exception) -> None:
        if not self._stopping:
            log.warning("%s: receiver lost, opening another one: %s", self.subscription.source, error)


def _look(task: asyncio.Task[None]) -> None:
    """What it raised after all is of no interest, but looked at."""
    if not task.cancelled():
        task.exception()
