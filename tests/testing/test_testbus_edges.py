"""TestBus: what the clock waits for, what it says when a test gets stuck, and what it refuses."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from tests.slowness import slowness
from tests.testing.models import (
    DAY,
    INVOICES,
    ONCE,
    ORDERS,
    PRICES,
    Ask,
    Order,
    Price,
    exact,
    failing,
    ids,
)

from msgbus import (
    Bus,
    BusError,
    ConfigError,
    Limits,
    Message,
    Settings,
    Timeout,
)
from msgbus.brokers.memory.broker import MemoryReceiver
from msgbus.clock import SystemClock
from msgbus.testing import NotSettled, TestBus


async def test_the_clock_stands_while_a_handler_waits_for_something_real() -> None:
    bus = Bus()

    @bus.subscriber(ORDERS, group="billing", limits=Limits(timeout=1.0))
    async def charge(order: Order) -> None:
        await asyncio.sleep(0.05)

    async with TestBus(bus) as test:
        await test.publish(ORDERS, Order(id="later"), delay=10.0)
        await test.publish(ORDERS, Order(id="now"))
        await test.settled()
        assert [(a.payload.id, a.outcome) for a in test.attempts()] == [("now", "handled"), ("later", "handled")]
        assert test.attempts()[0].ended == test.attempts()[0].started == 0.0


async def test_a_timeout_is_seen_by_turning_the_clock_by_hand() -> None:
    bus = Bus()

    @bus.subscriber(ORDERS, group="billing", limits=Limits(timeout=5.0), retry=exact(attempts=2))
    async def charge(order: Order) -> None:
        await asyncio.Event().wait()

    async with TestBus(bus) as test:
        await test.publish(ORDERS, Order(id="1"))
        await test.advance(20.0)
        await test.settled()
        assert [(a.outcome, type(a.error)) for a in test.attempts(charge)] == [("retried", Timeout), ("dead", Timeout)]


async def test_a_handler_that_asks_another_waits_for_the_bus_not_for_the_world() -> None:
    bus, fail = Bus(), failing(1)

    @bus.responder(PRICES, retry=exact(attempts=2, first_delay=10.0))
    async def price(ask: Ask) -> Price:
        fail()
        await asyncio.sleep(0.01)
        return Price(cents=5)

    @bus.subscriber(ORDERS, group="billing")
    async def charge(order: Order) -> None:
        both = [bus.request(PRICES, Ask(sku=sku)) for sku in "ab"]
        await asyncio.gather(*both)

    async with TestBus(bus) as test:
        await test.publish(ORDERS, Order(id="1"))
        await test.settled()
        (attempt,) = test.attempts(charge)
        assert attempt.ended == pytest.approx(10, abs=0.02)
        assert attempt.outcome == "handled"


async def test_a_handler_whose_request_timed_out_holds_the_clock_again() -> None:
    bus = Bus()

    @bus.responder(PRICES, retry=exact(attempts=9, first_delay=100.0))
    async def price(ask: Ask) -> Price:
        raise ConnectionError

    @bus.subscriber(ORDERS, group="billing", limits=Limits(timeout=20.0), retry=ONCE)
    async def charge(order: Order) -> None:
        with pytest.raises(Timeout):
            await bus.request(PRICES, Ask(sku="a"), timeout=10.0)
        await asyncio.sleep(0.03)

    async with TestBus(bus) as test:
        await test.publish(ORDERS, Order(id="1"))
        await test.settled()
        (attempt,) = test.attempts(charge)
        assert attempt.outcome == "handled"
        assert attempt.ended == pytest.approx(10, abs=0.2)


async def test_a_handler_that_fills_its_own_queue_does_not_hang() -> None:
    bus = Bus(settings=Settings(publish_timeout=5.0))

    @bus.consumer(INVOICES, limits=Limits(concurrency=1, prefetch=1), retry=ONCE)
    async def copy(order: Order) -> None:
        await bus.publish_many(INVOICES, [Order(id="x")] * 5)

    async with TestBus(bus, url="memory://?depth=2") as test:
        await test.send(INVOICES, Order(id="1"))
        await test.advance(10.0)
        assert isinstance(test.dead(copy)[0].error, Timeout)


async def test_not_settled_says_what_is_pending() -> None:
    bus = Bus()

    @bus.subscriber(ORDERS, group="billing", retry=exact(), limits=Limits(concurrency=1))
    async def charge(message: Message[Order]) -> None:
        if message.attempt == 1:
            raise ValueError("first")
        await asyncio.Event().wait()

    async with TestBus(bus) as test:
        await test.publish(ORDERS, Order(id="1"))
        await test.publish(ORDERS, Order(id="2"), delay=50.0)
        with pytest.raises(NotSettled) as caught:
            await test.settled(patience=0.1)
    text = str(caught.value)
    assert "not settled within 0.1 s of real time, at 1.005 s on the virtual clock" in text
    assert "topic orders (group billing): 1 waiting or delayed, 1 in hand, after 1 retries" in text
    assert "ValueError('first')" in text
    assert "charge has run for 0." in text
    assert "(attempt 2)" in text
    assert "await test.advance(seconds)" in text


async def test_a_message_that_is_retried_for_ever_ends_the_patience() -> None:
    bus = Bus()

    @bus.subscriber(ORDERS, group="billing", retry=exact(attempts=1_000_000, max_delay=5.0))
    async def charge(order: Order) -> None:
        raise ValueError("never")

    async with TestBus(bus, patience=0.3) as test:
        await test.publish(ORDERS, Order(id="1"))
        with pytest.raises(NotSettled, match="the last for ValueError"):
            await test.settled()


async def test_two_of_them_share_nothing() -> None:
    def service() -> Bus:
        bus = Bus()

        @bus.subscriber(ORDERS, group="billing")
        async def charge(order: Order) -> None: ...

        return bus

    async with TestBus(service()) as one, TestBus(service()) as other:
        await one.publish(ORDERS, Order(id="1"), delay=DAY)
        await other.publish(ORDERS, Order(id="2"))
        await asyncio.gather(one.settled(), other.settled())
        assert (ids(one.published(ORDERS)), ids(one.handled(ORDERS))) == (["1"], ["1"])
        assert (ids(other.published(ORDERS)), ids(other.handled(ORDERS))) == (["2"], ["2"])
        assert one.bus.clock.now() > DAY > other.bus.clock.now()


async def test_a_handler_that_never_ends_does_not_hold_up_the_end_of_the_test() -> None:
    bus = Bus()

    @bus.subscriber(ORDERS, group="billing")
    async def charge(order: Order) -> None:
        await asyncio.Event().wait()

    before = time.monotonic()
    async with TestBus(bus, patience=0.1) as test:
        await test.publish(ORDERS, Order(id="1"))
        await test.advance(0.0)
    assert time.monotonic() - before < 4 * slowness()
    assert isinstance(test.attempts()[0].error, Timeout)


async def test_what_a_consumer_dies_of_is_raised_by_settled_and_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    class Bug(Exception):
        pass

    async def fail(receiver: MemoryReceiver, batch: object) -> None:
        raise Bug

    monkeypatch.setattr(MemoryReceiver, "settle", fail)
    bus = Bus()

    @bus.subscriber(ORDERS, group="billing")
    async def charge(order: Order) -> None: ...

    test = await TestBus(bus).__aenter__()
    await test.publish(ORDERS, Order(id="1"))
    with pytest.raises(Bug):
        await test.settled()
    with pytest.raises(Bug):
        await test.__aexit__(None, None, None)


async def test_what_fails_at_the_start_is_raised_and_the_bus_is_as_before() -> None:
    @asynccontextmanager
    async def lifespan(bus: Bus) -> AsyncIterator[None]:
        if bus.registrations == []:
            raise ConnectionError("no database")
        yield

    bus = Bus(lifespan=lifespan)
    with pytest.raises(ConnectionError, match="no database"):
        async with TestBus(bus):
            pass
    assert isinstance(bus.clock, SystemClock)
    assert not bus.links


async def test_wrong_use_is_refused() -> None:
    with pytest.raises(ConfigError, match="memory://"):
        TestBus(Bus(), url="sqs://")
    bus = Bus("memory://")
    async with bus:
        with pytest.raises(BusError, match="open already"):
            await TestBus(bus).__aenter__()
    async with TestBus(bus) as test:
        pass
    with pytest.raises(BusError, match="closed"):
        await test.settled()
    with pytest.raises(BusError, match="one block"):
        await test.__aenter__()
    async with TestBus(bus, clock=SystemClock()) as test:
        with pytest.raises(BusError, match="VirtualClock"):
            await test.advance(1.0)


async def test_runs_in_real_time_where_asked() -> None:
    bus, fail = Bus(), failing(1)

    @bus.subscriber(ORDERS, group="billing", retry=exact(first_delay=0.05))
    async def charge(order: Order) -> None:
        fail()

    before = time.monotonic()
    async with TestBus(bus, clock=SystemClock()) as test:
        await test.publish(ORDERS, Order(id="1"))
        await test.settled()
        assert len(test.attempts(charge)) == 2
        await test.publish(ORDERS, Order(id="2"), delay=60.0)
        with pytest.raises(NotSettled, match="the real clock"):
            await test.settled(patience=0.05)
    assert 0.05 <= time.monotonic() - before < 30 * slowness()
