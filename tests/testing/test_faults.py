"""The real Bus over a broker that breaks on purpose: nothing lost, every duplicate explained, order per key kept."""

import asyncio
import random
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import pytest
from tests.effort import messages
from tests.slowness import slowness

from msgbus import (
    Bus,
    Disconnected,
    LeaseLost,
    Limits,
    Message,
    Outgoing,
    Receipt,
    ReceiverClosed,
    Retry,
    Throttled,
    Topic,
    Unavailable,
    brokers,
)
from msgbus.broker import QueueSpec
from msgbus.brokers.memory import MemoryBroker
from msgbus.clock import Clock, SystemClock
from msgbus.message import Act, Settlement, Source
from msgbus.testing.faults import Chance, Fault, FaultyBroker, Plan, Script

pytestmark = pytest.mark.faults

MESSAGES = messages(4_000)
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
SURELY = {fault: [2] for fault in Fault if fault is not Fault.REFUSE_CONNECT} | {Fault.REFUSE_CONNECT: [1]}
"""Opportunities that every run has, on any machine: the second connect is there because of the cuts."""


class SurelyAndByChance:
    """Every fault that has a chance happens at least once; the rest is the seed's."""

    def __init__(self, seed: int, of: Mapping[Fault, float]) -> None:
        self._script = Script({fault: SURELY[fault] for fault in of})
        self._chance = Chance(seed, of)

    def strikes(self, fault: Fault) -> bool:
        """Asks both, so that each goes on in its own time."""
        return self._script.strikes(fault) | self._chance.strikes(fault)


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
def _scheme() -> Iterator[None]:
    with brokers.registered({"faulty": open_faulty}):
        yield


class Service:
    """A bus with one subscriber that notes what it handles."""

    def __init__(self, plan: Plan, *, ordered: bool, failing: float = 0.0) -> None:
        World.plan = plan
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
            async with asyncio.timeout(40 * slowness()):
                await self.complete.wait()


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
    service = Service(SurelyAndByChance(3, chances), ordered=ordered)
    await service.run()
    assert World.broker.struck[fault] > 0
    await _check(service)
    if ordered:
        _check_order(service)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("ordered", [False, True], ids=["unordered", "ordered"])
async def test_messages_survive_all_faults_together(seed: int, *, ordered: bool) -> None:
    service = Service(SurelyAndByChance(seed, TOGETHER), ordered=ordered, failing=0.03)
    await service.run()
    assert set(World.broker.struck) == set(Fault)
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


# -- each fault by itself, at an opportunity that a script names

QUEUE = Source("queue", "q")


async def _faulty(plan: Plan) -> FaultyBroker:
    """A connected broker with one queue."""
    clock = SystemClock()
    broker = FaultyBroker(MemoryBroker("memory://", clock=clock), plan, clock)
    await broker.connect()
    await broker.admin.ensure([QueueSpec(QUEUE)], "create")
    return broker


def _out(number: int) -> Outgoing:
    return Outgoing(QUEUE.address, str(number), b"", {"ce-id": str(number)})


async def test_cut_before_the_send_sends_nothing() -> None:
    broker = await _faulty(Script({Fault.CUT_BEFORE_SEND: [0]}))
    with pytest.raises(Disconnected):
        await broker.send([_out(1)])
    assert not broker.status().connected
    await broker.connect()
    assert await _ids(broker) == []


async def test_cut_after_the_send_has_sent() -> None:
    broker = await _faulty(Script({Fault.CUT_AFTER_SEND: [0]}))
    with pytest.raises(Disconnected):
        await broker.send([_out(1)])
    await broker.connect()
    assert await _ids(broker) == ["1"]
    assert broker.may_repeat == {"1"}


async def test_single_entries_fail() -> None:
    broker = await _faulty(Script({Fault.THROTTLE_ENTRY: [0], Fault.FAIL_ENTRY: [0]}))
    results = await broker.send([_out(1), _out(2), _out(3)])
    assert [type(result) for result in results] == [Throttled, Unavailable, Receipt]
    assert isinstance(results[0], Throttled)
    assert results[0].retry_after == broker.sizes.retry_after
    assert await _ids(broker) == ["3"]


async def test_a_refused_connection() -> None:
    broker = await _faulty(Script({Fault.REFUSE_CONNECT: [1]}))
    with pytest.raises(Disconnected):
        await broker.connect()


async def test_a_closed_receiver_leaves_others_alone() -> None:
    broker = await _faulty(Script({Fault.CLOSE_RECEIVER: [1]}))
    await broker.send([_out(1)])
    async with broker.receiver(QUEUE, prefetch=9) as receiver:
        (delivery,) = await receiver.receive(9, 0.0)
        for _ in range(2):
            with pytest.raises(ReceiverClosed):
                await receiver.receive(9, 0.0)
        (result,) = await receiver.settle([Settlement(delivery, Act.ACK)])
        assert isinstance(result, LeaseLost)
    assert broker.may_repeat == {"1"}
    assert broker.status().connected
    assert await _ids(broker) == ["1"]


async def test_a_cut_takes_every_receiver() -> None:
    broker = await _faulty(Script({Fault.CUT_RECEIVE: [1]}))
    await broker.send([_out(1)])
    async with broker.receiver(QUEUE, prefetch=9) as first, broker.receiver(QUEUE, prefetch=9) as second:
        await first.receive(9, 0.0)
        with pytest.raises(Disconnected):
            await second.receive(9, 0.0)
        with pytest.raises(Disconnected):
            await first.receive(9, 0.0)
    assert broker.may_repeat == {"1"}


async def test_a_duplicate_is_settled_for_itself() -> None:
    broker = await _faulty(Script({Fault.DUPLICATE: [0]}))
    await broker.send([_out(1), _out(2)])
    async with broker.receiver(QUEUE, prefetch=9) as receiver:
        first = await receiver.receive(2, 0.0)
        (third,) = await receiver.receive(9, 0.0)  # `limit` is kept: what is over comes with the next call
        got = [*first, third]
        assert [delivery.headers["ce-id"] for delivery in got] == ["1", "1", "2"]
        assert list(await receiver.settle([Settlement(delivery, Act.ACK) for delivery in got])) == [None] * 3
    assert broker.may_repeat == {"1", "2"}  # the one that waited: its lease may be over
    assert await _ids(broker) == []


async def test_a_copy_in_an_ordered_source_comes_with_its_original_or_not_at_all() -> None:
    """Alone, it would be handled before what was given back with its original."""
    broker = await _faulty(Script({Fault.DUPLICATE: range(9)}))
    await broker.send([_out(1), _out(2)])
    async with broker.receiver(replace(QUEUE, ordered=True), prefetch=9) as receiver:
        assert len(await receiver.receive(1, 0.0)) == 1
        assert len(await receiver.receive(3, 0.0)) == 2
        assert await receiver.receive(9, 0.0) == []


async def test_failed_settlements_stay_in_hand() -> None:
    broker = await _faulty(Script({Fault.FAIL_SETTLEMENT: [0]}))
    await broker.send([_out(1), _out(2)])
    async with broker.receiver(QUEUE, prefetch=9) as receiver:
        batch = [Settlement(delivery, Act.ACK) for delivery in await receiver.receive(9, 0.0)]
        assert [type(result) for result in await receiver.settle(batch)] == [Throttled, type(None)]
        assert list(await receiver.settle(batch[:1])) == [None]
    assert await _ids(broker) == []


async def test_lost_leases_bring_the_message_again() -> None:
    broker = await _faulty(Script({Fault.LOSE_LEASE: [0, 2]}))
    await broker.send([_out(1), _out(2)])
    async with broker.receiver(QUEUE, prefetch=9) as receiver:
        first, second = await receiver.receive(9, 0.0)
        extended = await receiver.extend([first, second], 30.0)
        assert [type(result) for result in extended] == [LeaseLost, type(None)]
        (again,) = await receiver.receive(9, 0.0)
        settled = await receiver.settle([Settlement(delivery, Act.ACK) for delivery in (second, again)])
        assert [type(result) for result in settled] == [LeaseLost, type(None)]
    assert broker.may_repeat == {"1", "2"}
    assert await _ids(broker) == ["2"]


async def test_cut_after_the_settlements_has_settled() -> None:
    broker = await _faulty(Script({Fault.CUT_AFTER_SETTLE: [0]}))
    await broker.send([_out(1)])
    async with broker.receiver(QUEUE, prefetch=9) as receiver:
        batch = [Settlement(delivery, Act.ACK) for delivery in await receiver.receive(9, 0.0)]
        with pytest.raises(Disconnected):
            await receiver.settle(batch)
    await broker.connect()
    assert await _ids(broker) == []


async def test_the_same_seed_gives_the_same_faults() -> None:
    first, second = (Chance(7, {Fault.DELAY: 0.3, Fault.DUPLICATE: 0.6}) for _ in range(2))
    asked = [Fault.DELAY, Fault.DUPLICATE, Fault.REORDER] * 30
    drawn = [first.strikes(fault) for fault in asked]
    assert drawn == [second.strikes(fault) for fault in asked]
    assert 0 < sum(drawn) < 60


async def _ids(broker: FaultyBroker) -> list[str]:
    """What is in the queue, without faults."""
    async with broker.inner.receiver(QUEUE, prefetch=9) as receiver:
        return [delivery.headers["ce-id"] for delivery in await receiver.receive(9, 0.0)]
