"""Keeps one subscription open: receiver after receiver, for as long as the bus consumes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, nullcontext

from msgbus import backoff
from msgbus.broker import Receiver
from msgbus.clock import Alarms, Clock, SystemClock, cancelled_within
from msgbus.config import OnFailure
from msgbus.consuming.blocking import LoopWatch
from msgbus.consuming.life import Life
from msgbus.consuming.policy import Policy
from msgbus.consuming.session import Session
from msgbus.errors import GONE, PASSING, BusError, ReceiverClosed, bare_errors, shown
from msgbus.handlers.subscription import Subscription
from msgbus.publishing.link import Link

log = logging.getLogger("msgbus.consume")

_HARD_STOP = 5.0  # seconds that a cancelled client, or the closing of a receiver, may take
_STEADY = 5.0  # seconds after which a receiver has proven that it works
_LONGEST_PAUSE = 30.0  # seconds between two looks at a broker that refuses to be connected to


class Runner:
    """Opens a receiver, runs a Session on it, and again when it ends, whatever it ended of, with growing pauses.

    What can't be opened when the service starts ends the Runner, and with `on_failure` "exit" so does anything but
    a lost connection: `run` raises it.
    """

    def __init__(
        self, subscription: Subscription, link: Link, clock: Clock, alarms: Alarms, on_failure: OnFailure = "retry"
    ) -> None:
        self.subscription = subscription
        self.policy = Policy(subscription, clock.time)
        self.link = link
        self.life = Life(subscription.source, clock.time)
        self.session: Session | None = None
        self.error: BaseException | None = None
        self._clock = clock
        self._alarms = alarms
        self._must_exit = on_failure == "exit"
        self._has_worked = False
        self._stopping = False
        self._task: asyncio.Task[None] | None = None
        self._left: asyncio.Future[None] = alarms.loop.create_future()  # nobody waits for the task any more

    async def run(self) -> None:
        """Until stopped. Raises what it is told to end of.

        The work is a task of its own, so that a client in it that can't be cancelled does not keep the service.
        """
        while True:
            self._task = work = asyncio.create_task(self._run(), name=f"msgbus {self.subscription.source}")
            try:
                await asyncio.wait([work, self._left], return_when=asyncio.FIRST_COMPLETED)
            except asyncio.CancelledError:
                await self._end(work)
                raise
            if self._stopping or not work.cancelled():
                break
            self._broke(ReceiverClosed("its task was cancelled from within"))
        self.life.stops()
        if not work.done() or work.cancelled():
            return
        self.error = work.exception()
        if self.error is not None:
            raise self.error

    async def _run(self) -> None:
        while not self._stopping:
            began, settled, generation = self._clock.now(), self.subscription.stats.settled, self.link.generation
            try:
                await self._run_receiver()
            except Exception as error:
                if self._has_proven_itself(began, settled):
                    self.life.steady()
                elif not self._has_worked and not isinstance(error, (*GONE, *PASSING)):
                    raise  # at the start: not there, not allowed
                await self._after(error, generation)

    async def _run_receiver(self) -> None:
        source = self.subscription.source
        prefetch = 1 if self.policy.suspicion.is_careful else self.subscription.prefetch
        async with self.link.broker.receiver(source, prefetch=prefetch) as receiver:
            if not self._stopping:  # opening may have swallowed the cancellation of `stop`
                self.life.runs()
                await self._run_session(receiver)

    async def _run_session(self, receiver: Receiver) -> None:
        self.session = Session(self.subscription, self.policy, receiver, self._clock, self._alarms, self.life)
        try:
            await self.session.run()
        finally:
            self.session = None

    def _has_proven_itself(self, began: float, settled: int) -> bool:
        """Whether the receiver lived for a while, or something was done: else the next pause is longer."""
        stats = self.subscription.stats
        is_good = self._clock.now() - began >= _STEADY or stats.settled > settled
        self._has_worked = self._has_worked or is_good or stats.received > 0
        return is_good

    async def _after(self, error: Exception, generation: int) -> None:
        """Until another receiver may be opened."""
        self._broke(error)
        if self._must_exit and not isinstance(error, (*GONE, *PASSING)):
            raise error
        while not self._stopping:  # else there is no other one: nobody waits for a connection
            try:
                await self.link.ready_again(error, generation, self.life.failures)
            except BusError as refused:  # to be connected to
                if self._must_exit:
                    raise
                self._broke(refused)
            else:
                return
            await self._clock.sleep(backoff.delay(self.life.failures, 0.1, longest=_LONGEST_PAUSE, jitter=0.5))

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

    def _broke(self, error: Exception) -> None:
        if self._stopping:
            return
        is_known = isinstance(error, BusError)
        self.life.failed(error, passing=isinstance(error, (*GONE, *PASSING)))
        log.log(
            logging.WARNING if is_known else logging.ERROR,
            "%s: receiver lost, opening another one (%d in a row): %s",
            self.subscription.source,
            self.life.failures,
            shown(error),
            exc_info=None if is_known else error,
        )


def _look(task: asyncio.Task[None]) -> None:
    """What it raised after all is of no interest, but looked at."""
    if not task.cancelled():
        task.exception()


@asynccontextmanager
async def running(runners: Sequence[Runner], grace: float, clock: Clock) -> AsyncIterator[None]:
    """Run them for the length of the block, then stop them softly. Raises, and cancels the block, what one ends of."""
    watch = LoopWatch() if isinstance(clock, SystemClock) else nullcontext()
    async with bare_errors(), asyncio.TaskGroup() as group:
        for runner in runners:
            group.create_task(runner.run(), name=f"msgbus {runner.subscription.source}")
        try:
            with watch:
                yield
        finally:
            await stop_all(runners, grace)


async def stop_all(runners: Sequence[Runner], grace: float) -> None:
    """Stop them within `grace` seconds, shielded: a cancelled service must still hand back what it holds."""
    stopping = asyncio.ensure_future(asyncio.gather(*(runner.stop(grace) for runner in runners)))
    try:
        await asyncio.shield(stopping)
    except asyncio.CancelledError:
        await stopping
        raise
    finally:
        for runner in runners:
            if (threads := runner.subscription.threads) is not None:
                threads.close()
