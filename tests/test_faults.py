"""The real Bus over a broker that breaks on purpose: nothing lost, every duplicate explained, order per key kept."""

import asyncio
import random
from collections import Counter
from dataclasses import dataclass

import pytest

from msgbus import Bus, Limits, Message, Retry, Topic, brokers
from msgbus.brokers.memory import MemoryBroker
from msgbus.clock import Clock
from msgbus.message import Source
from msgbus.testing.faults import Chance, Fault, FaultyBroker, Plan

MESSAGES = 2_000
KEYS = 20

CHANCES = {
    Fault.REFUSE_CONNECT: 0.3,
    Fault.CUT_BEFORE_SEND: 0.1,
    Fault.CUT_AFTER_SEND: 0.1,
    Fault.THROTTLE_ENTRY: 0.02,
    Fault.FAIL_ENTRY: 0.02,
    Fault.CUT_RECEIVE: 0.05,
    Fault.CLOSE_RECEIVER: 0.05,
    Fault.THROTTLE_RECEIVE: 0.05,
    Fault.DUPLICATE: 0.05,
    Fault.REORDER: 0.5,
    Fault.CUT_AFTER_SETTLE: 0.05,
    Fault.FAIL_SETTLEMENT: 0.05,
    Fault.LOSE_LEASE: 0.05,
    Fault.DELAY: 0.3,
}
TOGETHER = {fault: chance / 4 for fault, chance in CHANCES.items()}


@dataclass
class Entry:
    key: str
    number: int


class World:
    """What the scheme `faulty://` opens, so that the test sees the broker inside the bus."""

    plan: Plan
    broker: FaultyBroker


def open_faulty(url: str, *, clock: Clock) -> FaultyBroker:
    World.broker = FaultyBroker(MemoryBroker("memory://", clock=clock), World.plan, clock, seed=1)
    return World.broker


@pytest.fixture(autouse=True)
def _scheme(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(brokers.BUILT_IN, "faulty", (__name__, "open_faulty", ""))


class CalmAtStop:
    """Keeps a throttled receive away from the stop: see test_a_throttled_receive_while_stopping_is_no_failure."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self.stopping = False

    def strikes(self, fault: Fault) -> bool:
        return self._plan.strikes(fault) and not (self.stopping and fault is Fault.THROTTLE_RECEIVE)


class Service:
    """A bus with one subscriber that notes what it handles."""

    def __init__(self, plan: Plan, *, ordered: bool, failing: float = 0.0) -> None:
        World.plan = self.plan = CalmAtStop(plan)
        self._random = random.Random(5)
        self._failing = failing
        self.bus = Bus("faulty://")
        self.topic = Topic("entries", Entry, key="key", ordered=ordered)
        self.handled: list[Entry] = []
        self.ids: list[str] = []
        self.numbers: set[int] = set()
        self.complete = asyncio.Event()
        self.bus.subscriber(
            self.topic,
            group="g",
            retry=Retry(attempts=50, first_delay=0.01, max_delay=0.02),
            limits=Limits(concurrency=16),
        )(self.handle)

    async def handle(self, message: Message[Entry]) -> None:
        await asyncio.sleep(0)
        if self._random.random() < self._failing:
            raise OSError("a handler that fails now and then")
        self.handled.append(message.payload)
        self.ids.append(message.id)
        self.numbers.add(message.payload.number)
        if len(self.numbers) == MESSAGES:
            self.complete.set()

    async def publish(self, entries: list[Entry]) -> None:
        for start in range(0, len(entries), 25):
            await self.bus.publish_many(self.topic, entries[start : start + 25])

    async def run(self) -> None:
        """Publish by several tasks, each with keys of its own, until everything was handled; then stop."""
        entries = [Entry(f"k{number % KEYS}", number) for number in range(MESSAGES)]
        parts = [[entry for entry in entries if int(entry.key[1:]) % 4 == part] for part in range(4)]
        async with self.bus.consuming():
            await asyncio.gather(*(self.publish(part) for part in parts))
            async with asyncio.timeout(40):
                await self.complete.wait()
            self.plan.stopping = True


async def _left_over(broker: FaultyBroker) -> list[str]:
    """Ids of what is still in the broker after the stop."""
    await broker.inner.connect()
    async with broker.inner.receiver(Source("topic", "entries", "g"), prefetch=MESSAGES) as receiver:
        return [delivery.headers["ce-id"] for delivery in await receiver.receive(MESSAGES, 0.0)]


async def _check(service: Service) -> None:
    """Nothing lost, and whatever was handled twice or is still there has a fault to explain it."""
    assert service.numbers == set(range(MESSAGES))
    doubled = {id_ for id_, count in Counter(service.ids).items() if count > 1}
    assert doubled - World.broker.may_repeat == set()
    assert set(await _left_over(World.broker)) - World.broker.may_repeat == set()


def _check_order(service: Service) -> None:
    """A key's entries were handled in order, counting the first time of each."""
    for key in {entry.key for entry in service.handled}:
        numbers = [entry.number for entry in service.handled if entry.key == key]
        first = list(dict.fromkeys(numbers))
        assert first == sorted(first)


@pytest.mark.parametrize("ordered", [False, True], ids=["unordered", "ordered"])
@pytest.mark.parametrize("fault", Fault, ids=lambda fault: fault.value)
async def test_messages_survive_each_fault(fault: Fault, *, ordered: bool) -> None:
    chances = {fault: CHANCES[fault]}
    if fault is Fault.REFUSE_CONNECT:  # needs something to make it connect
        chances[Fault.CUT_RECEIVE] = 0.05
    service = Service(Chance(3, chances), ordered=ordered)
    await service.run()
    assert World.broker.struck[fault] > 0
    await _check(service)
    if ordered:
        _check_order(service)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("ordered", [False, True], ids=["unordered", "ordered"])
async def test_messages_survive_all_faults_together(seed: int, *, ordered: bool) -> None:
    service = Service(Chance(seed, TOGETHER), ordered=ordered, failing=0.03)
    await service.run()
    assert len(World.broker.struck) >= 10
    await _check(service)
    if ordered:
        _check_order(service)


async def test_without_faults_everything_is_handled_once() -> None:
    service = Service(Chance(0, {}), ordered=True)
    await service.run()
    assert Counter(entry.number for entry in service.handled) == Counter(range(MESSAGES))
    assert World.broker.may_repeat == set()
    await _check(service)


class Switch:
    """One fault, at every opportunity once it is on."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self.on = False

    def strikes(self, fault: Fault) -> bool:
        if self.on and fault is self.fault:
            self.on = False
            return True
        return False


@pytest.mark.xfail(strict=True, reason="the last receive of a stop is not guarded: Throttled comes out of consuming()")
async def test_a_throttled_receive_while_stopping_is_no_failure() -> None:
    World.plan = switch = Switch(Fault.THROTTLE_RECEIVE)
    bus, handled = Bus("faulty://"), asyncio.Event()
    topic = Topic("entries", Entry)

    @bus.subscriber(topic, group="g")
    async def handle(entry: Entry) -> None:
        handled.set()

    async with bus.consuming():
        await bus.publish(topic, Entry("k", 1))
        await handled.wait()
        await asyncio.sleep(0.05)  # until it waits in a receive again
        switch.on = True
