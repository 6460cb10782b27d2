"""What runs on the buses of a simulation: the handlers of a service, and publishers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tests.simulation.ledger import Ledger, What
from tests.simulation.scenario import Scenario
from tests.simulation.wire import Wire

from msgbus import Batch, Bus, Failed, Limits, Message, Queue, Retry, Rpc, Topic
from msgbus.clock import Clock
from msgbus.config import Settings
from msgbus.errors import Unavailable
from msgbus.publishing.middleware import PublishMiddleware

GROUPS = ("one", "two")


@dataclass(slots=True)
class Load:
    """What every message carries."""

    n: int
    key: str


class Targets:
    """Where a scenario's messages go."""

    def __init__(self, *, ordered: bool) -> None:
        self.topic = Topic("events", Load, key="key", ordered=ordered)
        self.queue = Queue("work", Load, key="key", ordered=ordered)
        self.call = Rpc("asks", Load, Load)


def bus_of(name: str, clock: Clock, grace: float, *middlewares: PublishMiddleware) -> Bus:
    """A bus that connects to the wire of this name."""
    settings = Settings(url=f"sim://{name}", grace=grace, service=name, connect_timeout=300.0)
    return Bus(settings=settings, clock=clock, publish_middlewares=middlewares)


class Service:
    """One process with all handlers; `life` is its task."""

    def __init__(self, name: str, wire: Wire, scenario: Scenario, ledger: Ledger, clock: Clock) -> None:
        self.name = name
        self.wire = wire
        self.bus = bus_of(name, clock, scenario.grace)
        self.up, self.leave = asyncio.Event(), asyncio.Event()
        self.life: asyncio.Task[None]
        self._items = {item.n: item for item in scenario.items}
        self._ledger = ledger
        self._clock = clock
        self._register(scenario)

    def _register(self, scenario: Scenario) -> None:
        targets, wanted = Targets(ordered=scenario.ordered), {item.target for item in scenario.items}
        retry = Retry(attempts=scenario.attempts, first_delay=scenario.first_delay, in_place=scenario.in_place)
        limits = Limits(concurrency=scenario.concurrency, prefetch=max(scenario.prefetch, scenario.concurrency))
        batch = Batch(size=scenario.batch, wait=0.02, bisect=scenario.bisect) if scenario.batch else None
        if "topic" in wanted:
            one, two = (f"topic/events/{group}" for group in GROUPS)
            self.bus.subscriber(targets.topic, group="one", retry=retry, limits=limits)(self._single(one))
            if batch is None:
                self.bus.subscriber(targets.topic, group="two", retry=retry, limits=limits)(self._single(two))
            else:
                handler = self._several(two, fails_whole=scenario.bisect)
                self.bus.subscriber(targets.topic, group="two", retry=retry, limits=limits, batch=batch)(handler)
        if "queue" in wanted:
            self.bus.consumer(targets.queue, retry=retry, limits=limits)(self._single("queue/work"))
        if "call" in wanted:
            self.bus.responder(targets.call, retry=retry, limits=limits)(self._answer)

    async def _answer(self, message: Message[Load]) -> Load:
        await self._single("queue/asks")(message)
        return message.payload

    def _single(self, origin: str) -> Callable[[Message[Load]], Awaitable[None]]:
        async def handle(message: Message[Load]) -> None:
            for failed in await self._handle(origin, [message], fails_whole=True):
                raise failed.error or OSError

        return handle

    def _several(self, origin: str, *, fails_whole: bool) -> Callable[[list[Message[Load]]], Awaitable[list[Failed]]]:
        async def handle(batch: list[Message[Load]]) -> list[Failed]:
            return await self._handle(origin, batch, fails_whole=fails_whole)

        return handle

    async def _handle(self, origin: str, batch: list[Message[Load]], *, fails_whole: bool) -> list[Failed]:
        """Which of them failed. What a dead process does is seen by nobody."""
        self._tell("begin", origin, batch)
        try:
            await self._clock.sleep(max(self._items[message.payload.n].slow for message in batch))
        except asyncio.CancelledError:
            self._tell("cut off", origin, batch)
            raise
        failed = [Failed(place, error) for place, message in enumerate(batch) if (error := self._error(message))]
        if failed and fails_whole and len(batch) > 1:
            self._tell("cut off", origin, batch)
            raise OSError("one of the batch fails")
        bad = {each.index for each in failed}
        self._tell("end", origin, [message for place, message in enumerate(batch) if place not in bad])
        self._tell("fail", origin, [batch[place] for place in bad])
        return failed

    def _tell(self, what: What, origin: str, batch: list[Message[Load]]) -> None:
        if not self.wire.dead:
            for message in batch:
                self._ledger.handler(what, (origin, message.payload.n), message.attempt, self.name)

    def _error(self, message: Message[Load]) -> Exception | None:
        item = self._items[message.payload.n]
        if message.attempt > item.fails:
            return None
        return Unavailable("what it needs is down") if item.down else OSError(f"attempt {message.attempt} fails")

    async def run(self) -> None:
        """Until it is told to leave."""
        async with self.bus.consuming():
            self._ledger.note(f"{self.name} is up")
            self.up.set()
            await self.leave.wait()
            self._ledger.note(f"{self.name} is told to stop")
        self._ledger.note(f"{self.name} has stopped")
