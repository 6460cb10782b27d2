"""One run: the world of a scenario, from its first connection until everything has come to rest and is judged."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from tests.simulation.judge import Judge, pending
from tests.simulation.ledger import Ledger
from tests.simulation.loop import SeededLoop, Stuck, run
from tests.simulation.profiles import PROFILES
from tests.simulation.publisher import Publisher
from tests.simulation.rest import left_over
from tests.simulation.scenario import Incident, Scenario
from tests.simulation.service import Service
from tests.simulation.wire import ModelBroker, Wire

from msgbus import brokers
from msgbus.brokers.memory.hub import Hub, HubOptions
from msgbus.clock import Clock
from msgbus.publishing import ids
from msgbus.testing import VirtualClock
from msgbus.testing.faults import Chance, Fault, FaultyBroker, Sizes

_PATIENCE = 30_000.0  # virtual seconds after the last incident until everything has been handled
_SILENCE = 31.0  # virtual seconds after which a broker gives up a client that says nothing; longer than any lease


@dataclass(frozen=True, slots=True)
class Report:
    """What a run came to. `digest` tells two runs apart that differ in anything that was seen."""

    scenario: Scenario
    violations: Sequence[str]
    trace: Sequence[str]
    steps: int
    seconds: float

    @property
    def digest(self) -> str:
        """Of the trace, and of how many callbacks ran."""
        return hashlib.sha256("\n".join((*self.trace, str(self.steps))).encode()).hexdigest()[:16]


class Weather:
    """A Chance that can be switched off, so that what is left can come to rest."""

    def __init__(self, seed: int, scenario: Scenario) -> None:
        self.calm = False
        self._chance = Chance(seed, dict(scenario.faults))

    def strikes(self, fault: Fault) -> bool:
        """As drawn, while there is weather."""
        return not self.calm and self._chance.strikes(fault)


class World:
    """The broker, and all processes that there have been."""

    def __init__(self, scenario: Scenario, loop: SeededLoop) -> None:
        self.scenario = scenario
        self.loop = loop
        self.clock: Clock = loop.clock
        self.ledger = Ledger(loop)
        self.services: dict[int, Service] = {}
        self.weather: list[Weather] = []
        self.wires: dict[str, Wire] = {}
        self._profile = PROFILES[scenario.profile]
        self._waiting_steps: list[tuple[int, asyncio.Future[None]]] = []
        self._past: list[asyncio.Task[None]] = []
        self._seeds = random.Random(scenario.seed)
        loop.on_step = self._step

    async def run(self) -> None:
        """Everything that the scenario says, and then to rest."""
        self.hub = Hub(HubOptions(lease=self._profile.lease), self.clock)
        with brokers.registered({"sim": self._open}):
            for number in range(self.scenario.processes):
                await self._start(number)
            self._wire("publisher")
            publisher = Publisher(self.scenario, self.ledger, self.clock)
            self.publisher = publisher.bus
            async with publisher.bus:
                async with asyncio.TaskGroup() as group:
                    group.create_task(publisher.run())
                    for incident in self.scenario.incidents:
                        group.create_task(self._befall(incident))
                await self._rest()
            await self._stop_all()
        self.ledger.violations += Judge(self.scenario, self.ledger, self.hub, self._may_repeat()).verdict()

    # -- processes

    def _open(self, url: str, *, clock: Clock) -> Wire:
        return self.wires[url.removeprefix("sim://")]

    def _wire(self, name: str) -> Wire:
        """What the process `name` will connect to."""
        seed = self._seeds.randrange(1 << 30)
        weather = Weather(seed, self.scenario)
        self.weather.append(weather)
        sizes = Sizes(delay=max(0.005, self.scenario.latency))
        model = ModelBroker(self.hub, self._profile, self.clock)
        faulty = FaultyBroker(model, weather, self.clock, sizes=sizes, seed=seed)
        wire = self.wires[name] = Wire(name, faulty, self.ledger, self.scenario.latency, seed)
        return wire

    async def _start(self, number: int) -> None:
        """Another process in the place of the last one; returns when it consumes, or has ended."""
        name = f"p{number}.{len(self.wires)}"
        service = Service(name, self._wire(name), self.scenario, self.ledger, self.clock)
        self.services[number] = service
        service.life = self.loop.create_task(service.run())
        up = self.loop.create_task(service.up.wait())
        await asyncio.wait([service.life, up], return_when=asyncio.FIRST_COMPLETED)
        up.cancel()

    async def _befall(self, incident: Incident) -> None:
        await self.clock.sleep(incident.at)
        await self._steps(incident.steps)
        service = self.services.pop(incident.process, None)
        if service is None:  # it is down already
            return
        self.ledger.note(f"{service.name}: {incident.kind}")
        if incident.kind == "stop":
            service.leave.set()
        else:
            noticed = 0.0 if incident.kind == "crash" else _SILENCE
            service.wire.die()
            self._past.append(self.loop.create_task(service.wire.fade(noticed)))
            service.life.cancel()
        self._past.append(service.life)
        await self.clock.sleep(incident.down)
        await self._start(incident.process)

    async def _steps(self, count: int) -> None:
        """So many callbacks later: between any two of them something can happen."""
        over: asyncio.Future[None] = self.loop.create_future()
        self._waiting_steps.append((self.loop.steps + count, over))
        give_up = self.clock.call_later(1.0, lambda: None if over.done() else over.set_result(None))
        await over
        give_up.cancel()

    def _step(self, steps: int) -> None:
        if self._waiting_steps:
            due = [over for at, over in self._waiting_steps if at <= steps]
            self._waiting_steps = [(at, over) for at, over in self._waiting_steps if at > steps]
            for over in due:
                if not over.done():
                    over.set_result(None)

    # -- the end

    async def _rest(self) -> None:
        """The weather is fine, and everything that waits is handled."""
        for weather in self.weather:
            weather.calm = True
        self.ledger.note("the weather is fine")
        give_up = self.clock.now() + _PATIENCE
        while (pending(self.hub) or any(self._kept())) and self.clock.now() < give_up:
            await self.clock.sleep(5.0)
        for what in pending(self.hub):
            self.ledger.violated(f"not handled within {_PATIENCE:g} s: {what}")
        for what in self._kept():
            self.ledger.violated(f"at rest {what}")

    def _kept(self) -> Iterator[str]:
        """What a process holds on to: a copy that is handled still, or what it will never let go."""
        for service in self.services.values():
            yield from (f"{service.name} keeps {what}" for what in left_over(service.bus))
        yield from (f"the publisher keeps {what}" for what in left_over(self.publisher))

    async def _stop_all(self) -> None:
        """Softly, which leaves nothing: no task, nothing in hand, no error that nobody saw."""
        for service in self.services.values():
            service.leave.set()
        ends = [*(service.life for service in self.services.values()), *self._past]
        ended = await asyncio.gather(*ends, return_exceptions=True)
        for error in ended:
            if error is not None and not isinstance(error, asyncio.CancelledError):
                self.ledger.violated(f"a process ended with {error!r}")
        await self.clock.sleep(0.1)
        for task in asyncio.all_tasks(self.loop) - {asyncio.current_task()}:
            self.ledger.violated(f"a task is left: {task.get_coro()}".split(" at ")[0])

    def _may_repeat(self) -> set[str]:
        return {name for wire in self.wires.values() for name in wire.inner.may_repeat}


def simulate(scenario: Scenario) -> Report:
    """Run it. The same scenario gives the same report, in any process."""
    random.seed(scenario.seed)  # back-off draws from the process's own
    ids._random.seed(scenario.seed)
    loop = SeededLoop(scenario.seed, VirtualClock(), shuffle=scenario.shuffle)
    world = World(scenario, loop)
    ledger = world.ledger
    with _errors_told(ledger):
        try:
            run(loop, world.run())
        except Stuck as error:
            ledger.violated(str(error))
        except Exception as error:
            ledger.violated(f"the run ended with {error!r}")
        ledger.violations += loop.errors
    return Report(scenario, tuple(ledger.violations), ledger.trace, loop.steps, loop.time())


class _Alarming(logging.Handler):
    """An error in the log that no broker's error explains is a bug."""

    def __init__(self, ledger: Ledger) -> None:
        super().__init__(logging.ERROR)
        self._ledger = ledger

    def emit(self, record: logging.LogRecord) -> None:
        """Tell it; what handlers raised, what a requester is told of it, and what that pauses, are no bugs."""
        if record.name not in ("msgbus.handler", "msgbus.reply", "msgbus.flow"):
            self._ledger.violated(f"logged by {record.name}: {record.getMessage()}")


@contextmanager
def _errors_told(ledger: Ledger) -> Iterator[None]:
    """Logs nothing else: it would take longer than the run."""
    log, handlers, alarming = logging.getLogger("msgbus"), logging.getLogger("msgbus.handler"), _Alarming(ledger)
    before = (log.level, log.propagate, handlers.level)
    log.setLevel(logging.ERROR)
    handlers.setLevel(logging.CRITICAL)
    log.propagate = False
    log.addHandler(alarming)
    try:
        yield
    finally:
        log.removeHandler(alarming)
        log.setLevel(before[0])
        log.propagate = before[1]
        handlers.setLevel(before[2])
