"""`bus.idle()` ends when nothing is in hand, being sent or ready, as far as it can be known; `bus.stats()` counts."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from tests.conftest import OpenScripted
from tests.models import ORDERS, WORK, Order, orders
from tests.scripted import HandClock, ScriptedAdmin, ScriptedBroker, consuming, delivery, turns

from msgbus import Batch, Bus, BusError, BusStats, Delivery, Disconnected, Limits, Message, Refused, Retry, Topic
from msgbus import Timeout as TimeIsUp
from msgbus.broker import Backlog
from msgbus.message import Outgoing, Receipt, Source
from msgbus.testing import TestBus

SOURCE = Source("queue", "work")
NEXT = Topic("next", str)


class Counting(ScriptedAdmin):
    """Answers what a test gives, in turn, the last one again and again."""

    def __init__(self, *answers: Backlog | BusError | None) -> None:
        super().__init__()
        self.answers = list(answers)
        self.asked = 0

    async def backlog(self, source: Source) -> Backlog | None:
        self.asked += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, BusError):
            raise answer
        return answer


def counting(broker: ScriptedBroker, *answers: Backlog | BusError | None) -> Counting:
    """Have it answer so."""
    broker.admin = admin = Counting(*answers)
    return admin


def order(name: str) -> Delivery:
    return delivery(SOURCE, name, b'{"order_id": "1"}')


async def test_it_waits_for_retries_delays_and_what_they_cause() -> None:
    bus, log = Bus(), list[str]()

    @bus.consumer(WORK, retry=Retry(attempts=3, first_delay=60.0))
    async def work(message: Message[Order]) -> None:
        if message.attempt < 3:
            raise ValueError("not yet")
        await bus.publish(NEXT, message.payload.order_id, delay=600.0)

    @bus.subscriber(NEXT, group="g")
    async def following(name: str) -> None:
        log.append(name)

    async with TestBus(bus) as test:
        await test.send(WORK, Order(order_id="1"))
        assert list(await test.idle()) == []
        assert log == ["1"]
        first, second = bus.stats().subscriptions
        assert (first.received, first.handled, first.retried) == (3, 1, 2)
        assert (second.source, second.handled) == (Source("topic", "next", "g"), 1)


async def test_what_is_running_and_in_hand_is_counted(clock: HandClock) -> None:
    bus, gate = Bus(clock=clock), asyncio.Event()

    @bus.consumer(WORK, limits=Limits(concurrency=2, prefetch=4))
    async def work(order: Order) -> None:
        await gate.wait()

    @bus.subscriber(ORDERS, group="many", batch=Batch(size=10, wait=0.0))
    async def many(batch: list[Order]) -> None:
        await gate.wait()

    assert bus.stats() == BusStats((), ())
    async with consuming(bus, clock):
        await bus.publish_many(WORK, orders("1", "2", "3", "4", "5"))
        await bus.publish_many(ORDERS, orders("1", "2", "3"))
        await turns()
        stats = bus.stats()
        assert [(each.in_hand, each.running) for each in stats.subscriptions] == [(4, 2), (3, 1)]
        assert [(each.broker, each.calls, each.waiting) for each in stats.brokers] == [("memory://", 0, 0)]
        idle = asyncio.ensure_future(bus.idle())
        await clock.advance(60.0)
        assert not idle.done()
        gate.set()
        await clock.until(idle.done)
    assert [each.handled for each in bus.stats().subscriptions] == [5, 3]


async def test_it_waits_for_what_is_being_sent(scripted: OpenScripted, clock: HandClock) -> None:
    """Without handlers too; of what its broker does not count it says so."""
    broker, out = scripted(), asyncio.Event()

    async def slowly(batch: Sequence[Outgoing]) -> Sequence[Receipt]:
        await out.wait()
        return [Receipt(entry.headers["ce-id"]) for entry in batch]

    broker.on_send = slowly
    bus = Bus("scripted://one", clock=clock)
    async with bus:
        sending = asyncio.ensure_future(bus.publish_many(WORK, orders(*map(str, range(50)))))
        await turns()
        assert [(each.calls, each.waiting) for each in bus.stats().brokers] == [(2, 50)]
        with pytest.raises(TimeIsUp, match=r"idle \(scripted://one: sending\): not done within 5 s"):
            await asyncio.gather(bus.idle(timeout=5.0), clock.advance(6.0))
        idle = asyncio.ensure_future(bus.idle())
        out.set()
        await sending
        await clock.until(idle.done)
        assert await idle == []


async def test_what_a_broker_does_not_count_is_told(scripted: OpenScripted, clock: HandClock) -> None:
    counting(scripted(), None)
    bus = Bus("scripted://one", clock=clock)

    @bus.consumer(WORK)
    async def work(order: Order) -> None: ...

    async with consuming(bus, clock):
        idle = asyncio.ensure_future(bus.idle())
        await clock.until(idle.done)
        assert await idle == [SOURCE]


async def test_what_comes_between_two_looks_is_waited_for(scripted: OpenScripted, clock: HandClock) -> None:
    """A broker has handed it to its client: it is not ready any more, and not in hand yet."""
    broker, begun, gate = scripted(), asyncio.Event(), asyncio.Event()
    admin = counting(broker, Backlog(0))
    bus = Bus("scripted://one", clock=clock)

    @bus.consumer(WORK)
    async def work(order: Order) -> None:
        begun.set()
        await gate.wait()

    async with consuming(bus, clock):
        await turns()
        idle = asyncio.ensure_future(bus.idle())
        await clock.until(lambda: admin.asked == 1)
        broker.feed("work", order("1"))
        await begun.wait()
        await clock.advance(60.0)
        assert not idle.done()
        gate.set()
        await clock.until(idle.done)
        assert bus.stats().subscriptions[0].handled == 1


async def test_an_outage_is_waited_out_and_a_refusal_is_raised(scripted: OpenScripted, clock: HandClock) -> None:
    broker = scripted()
    admin = counting(broker, Disconnected("away"), Backlog(3), Backlog(0, 2), Backlog(0, 0))
    bus = Bus("scripted://one", clock=clock)

    @bus.consumer(WORK)
    async def work(order: Order) -> None: ...

    async with consuming(bus, clock):
        idle = asyncio.ensure_future(bus.idle())
        await clock.until(idle.done)
        assert admin.asked == 5
        counting(broker, Backlog(7))
        with pytest.raises(TimeIsUp, match=r"queue work: 7 not handled yet\): not done within 20 s"):
            await asyncio.gather(bus.idle(timeout=20.0), clock.advance(30.0))
        counting(broker, Refused("not allowed to count"))
        with pytest.raises(Refused, match="not allowed to count"):
            await bus.idle()


async def test_a_stop_ends_it(scripted: OpenScripted, clock: HandClock) -> None:
    counting(scripted(), Backlog(1))
    bus = Bus("scripted://one", clock=clock)

    @bus.consumer(WORK)
    async def work(order: Order) -> None: ...

    async with bus:
        async with consuming(bus, clock):
            idle = asyncio.ensure_future(bus.idle())
            await turns()
        with pytest.raises(BusError, match="queue work: it was stopped while"):
            await asyncio.gather(idle, clock.advance(60.0))
        again = asyncio.ensure_future(bus.idle())  # nothing consumes: there is nothing to wait for
        await clock.until(again.done)
        assert await again == []


async def test_it_is_refused_where_it_would_never_end() -> None:
    bus, refused = Bus("memory://"), list[str]()

    @bus.consumer(WORK)
    async def work(order: Order) -> None:
        with pytest.raises(BusError, match="not for handlers") as error:
            await bus.idle()
        refused.append(str(error.value))

    with pytest.raises(BusError, match="the bus is not open"):
        await bus.idle()
    async with TestBus(bus) as test:
        await test.send(WORK, Order(order_id="1"))
        await test.settled()
    assert refused
