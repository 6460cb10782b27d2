"""One broker's connection: the only place that connects again, and the only one that sends a failed entry again."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable, Sequence

from msgbus import backoff
from msgbus.broker import Broker, Result
from msgbus.clock import Clock, cancelled_within
from msgbus.errors import RETRYABLE, BusError, Disconnected, Throttled, said, shown
from msgbus.message import Outgoing
from msgbus.publishing.batcher import Batcher

log = logging.getLogger("msgbus.link")

_LONGEST_PAUSE = 30.0  # seconds between two attempts of what is refused, or ends at once
_LAST_SENDS = 5.0  # seconds that sends in flight may take when the link is closed


class Link:
    """Keeps a broker connected, and says when sending again is worth it.

    `failure` is set while the broker refuses to be connected to again: what is published fails with it at once, and
    connecting is still tried, since a password or a permission can be put right.
    """

    def __init__(self, broker: Broker, name: str, clock: Clock) -> None:
        self.broker = broker
        self.name = name
        self.generation = 0
        self.failure: BusError | None = None
        self._clock = clock
        self._dead_generation = -1
        self._connecting: asyncio.Task[None] | None = None
        self._refused: asyncio.Future[None] | None = None
        self._closed = False
        self._batcher: Batcher | None = None

    @property
    def send(self) -> Callable[[Sequence[Outgoing]], Awaitable[Sequence[Result]]]:
        """Send a batch: one final result per entry, in order; await it at once.

        The one way to the broker: through the batcher. What is throttled or cut off is tried again until its caller
        is cancelled. Raises BusError where the link was never connected.
        """
        if self._batcher is None:
            raise BusError(f"{self.name} is not connected yet")
        return self._batcher.send

    async def connect(self, timeout: float) -> None:
        """Connect for the first time, trying for `timeout` seconds. Raises the broker's own error."""
        give_up = self._clock.now() + timeout
        await self._connect(give_up)
        self._batcher = Batcher(self._attempt, self.broker.capabilities(), recover=self._recover)

    async def close(self) -> None:
        """Let what was taken go out, for a short while, then disconnect."""
        if self._batcher is not None:
            await self._batcher.close(_LAST_SENDS if self.broker.status().connected else 0.0)
        self._closed = True
        if self._connecting is not None:
            await cancelled_within(self._connecting, _LAST_SENDS)
        await self.broker.close()

    async def restore(self, generation: int) -> None:
        """Wait until there is a connection newer than `generation`; many callers, one reconnect.

        Raises the broker's error where it refuses to be connected to.
        """
        while self.generation == generation:
            if self.failure is not None:
                raise self.failure
            if self._closed:
                raise Disconnected(f"{self.name} is closed")
            if self._connecting is None:
                self._connecting = asyncio.get_running_loop().create_task(self._reconnect())
                self._connecting.add_done_callback(self._connected)
            if self._refused is None:
                self._refused = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._connecting, self._refused], return_when=asyncio.FIRST_COMPLETED)

    async def ready_again(self, error: Exception, generation: int, failures: int) -> None:
        """Wait until a receiver is worth opening again that ended with `error`, `failures` times in a row now.

        Raises as `restore` does. The first connection that is lost is made again without a pause.
        """
        if isinstance(error, Disconnected):
            await self.restore(generation)
            if failures == 1:
                return
        await self._clock.sleep(backoff.delay(failures, 0.1, longest=_LONGEST_PAUSE, jitter=0.5))

    async def _attempt(self, batch: Sequence[Outgoing]) -> Sequence[Result]:
        if self._dead_generation == self.generation:  # nothing is tried on a connection that is known to be gone
            await self.restore(self.generation)
        generation = self.generation
        try:
            results = await self.broker.send(batch)
        except Disconnected as error:
            results = [error] * len(batch)
        for result in results:
            if result.__class__ is Disconnected:
                self._dead_generation = max(self._dead_generation, generation)
                break
        return results

    async def _recover(self, errors: Sequence[BusError], attempt: int) -> None:
        """Until connected, and as long as the broker asked for. Raises where the broker refuses to be connected to."""
        log.info(
            "%s: %d entries failed, sending them again",
            self.name,
            len(errors),
            extra={"attempt": attempt, "error": str(errors[0])},
        )
        if any(isinstance(error, Disconnected) for error in errors):
            await self.restore(self._dead_generation)
            if attempt == 1:
                return
        asked = max((e.retry_after or 0.0 for e in errors if isinstance(e, Throttled)), default=0.0)
        await self._clock.sleep(asked + backoff.delay(attempt, 0.05, longest=5.0))

    async def _connect(self, give_up: float) -> None:
        for attempt in itertools.count(1):
            try:
                await self.broker.connect()
            except RETRYABLE as error:
                pause = backoff.delay(attempt, 0.1, longest=10.0)
                if self._clock.now() + pause > give_up:
                    raise
                await self._pause(pause, attempt, error)
            else:
                self.generation += 1
                return

    async def _reconnect(self) -> None:
        """However long it takes, and whatever it is that goes wrong."""
        for attempt in itertools.count(1):
            try:
                await self.broker.connect()
            except RETRYABLE as error:
                await self._pause(backoff.delay(attempt, 0.1, longest=10.0), attempt, error)
            except Exception as error:
                self._refuse(error)
                await self._pause(backoff.delay(attempt, 1.0, longest=_LONGEST_PAUSE, jitter=0.5), attempt, error)
            else:
                self.generation += 1
                self.failure = None
                log.warning("%s: connected again", self.name)
                return

    async def _pause(self, seconds: float, attempt: int, error: Exception) -> None:
        about = {"attempt": attempt, "error": said(error)}
        log.warning("%s: can't connect, trying again in %.1f s: %s", self.name, seconds, shown(error), extra=about)
        await self._clock.sleep(seconds)

    def _refuse(self, error: Exception) -> None:
        """Who waits for the connection is told: it may take a person to put that right."""
        failure = error if isinstance(error, BusError) else BusError(f"{self.name}: connecting failed: {shown(error)}")
        self.failure = failure
        if failure is not error:
            log.error("%s: connecting failed", self.name, exc_info=error)
        if self._refused is not None and not self._refused.done():
            self._refused.set_result(None)
        self._refused = None

    def _connected(self, task: asyncio.Task[None]) -> None:
        self._connecting = None
