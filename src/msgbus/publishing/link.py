"""One broker's connection: the only place that connects again, and the only one that sends a failed entry again."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from msgbus import backoff
from msgbus.broker import Broker, Result
from msgbus.brokers import broker_for
from msgbus.brokers.hiding import shown as shown_url
from msgbus.clock import Clock, cancelled_within
from msgbus.errors import RETRYABLE, BusError, ConfigError, Disconnected, Throttled, said, shown
from msgbus.message import Outgoing, Receipt
from msgbus.publishing.batcher import Batcher

log = logging.getLogger("msgbus.link")

T = TypeVar("T")

_LONGEST_PAUSE = 30.0  # seconds between two attempts of what is refused, or ends at once
_TROUBLES = 3  # batches that fail in a row, and are no hiccup any more
_REMEMBERED = 30.0  # seconds after which the last failure says nothing about now
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
        self._failing = 0  # batches in a row, of anything but throttling
        self._failed_of: BusError | None = None
        self._failed_at = 0.0
        self._batcher: Batcher | None = None

    @classmethod
    def to(cls, url: str, clock: Clock, setting: str) -> Link:
        """The link that a URL describes. Raises ConfigError, which names the setting that has it."""
        try:
            return cls(broker_for(url, clock), shown_url(url), clock)
        except ConfigError as error:
            raise ConfigError(f"{setting}: {error}") from error.__cause__

    def __str__(self) -> str:
        return self.name

    @property
    def send(self) -> Callable[[Sequence[Outgoing]], Awaitable[Sequence[Result]]]:
        """Send a batch: one final result per entry, in order; await it at once.

        The one way to the broker: through the batcher. What is throttled or cut off is tried again until its caller
        is cancelled. Raises BusError where the link was not connected when it was asked for.
        """
        return self._unconnected if self._batcher is None else self._batcher.send

    async def _unconnected(self, batch: Sequence[Outgoing]) -> Sequence[Result]:
        raise BusError(f"{self.name} is not connected yet")

    @property
    def load(self) -> tuple[int, int]:
        """Calls of the broker's send that are out, and messages that wait for theirs or are to be sent again."""
        return (0, 0) if self._batcher is None else self._batcher.load

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
            connecting = self._reconnecting()
            if self._refused is None:
                self._refused = asyncio.get_running_loop().create_future()
            await asyncio.wait([connecting, self._refused], return_when=asyncio.FIRST_COMPLETED)

    def _reconnecting(self) -> asyncio.Task[None]:
        """Whoever asks, there is one at a time."""
        if self._connecting is None:
            self._connecting = asyncio.get_running_loop().create_task(self._reconnect())
            self._connecting.add_done_callback(self._connected)
        return self._connecting

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
        if self._failing:
            self._look(results)
        for result in results:
            if result.__class__ is Disconnected:
                self._dead_generation = max(self._dead_generation, generation)
                break
        return results

    def _look(self, results: Sequence[Result]) -> None:
        """After batches that failed: whether the broker takes something again."""
        if any(isinstance(result, Receipt) for result in results):
            if self.trouble is not None:
                log.warning("%s: sending works again", self.name)
            self._failing, self._failed_of = 0, None

    @property
    def trouble(self) -> BusError | None:
        """Why the last batches all failed, where what they failed of may pass; None where something was sent.

        Forgotten where nobody has tried for a while: who is not ready may not be asked to publish, and would stay so.
        """
        is_news = self._clock.now() - self._failed_at < _REMEMBERED
        return self._failed_of if self._failing >= _TROUBLES and is_news else None

    async def _recover(self, errors: Sequence[BusError], attempt: int) -> None:
        """Until connected, and as long as the broker asked for. Raises where the broker refuses to be connected to."""
        if (failed_of := next((e for e in errors if not isinstance(e, Throttled)), None)) is not None:
            self._failing += 1
            self._failed_of, self._failed_at = failed_of, self._clock.now()
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
        await self.patiently(self.broker.connect, give_up)
        self.generation += 1

    async def patiently(self, work: Callable[[], Awaitable[T]], give_up: float) -> T:
        """What must be done before anything else, tried again until `give_up` while what goes wrong may pass.

        Raises the last error. `work`: connecting, or what a broker that has no connection asks its server first. Where
        it is the connection that is lost, another one is made meanwhile.
        """
        for attempt in itertools.count(1):
            generation = self.generation
            try:
                return await work()
            except RETRYABLE as error:
                if (left := give_up - self._clock.now()) <= 0:
                    raise
                await self._pause(min(left, backoff.delay(attempt, 0.1, longest=10.0)), attempt, error)
                if generation and generation == self.generation and isinstance(error, Disconnected):
                    self._reconnecting()
        raise AssertionError  # for the type checkers: it counts without an end

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
