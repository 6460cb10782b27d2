"""TestBus: a service's own bus in a test, as its author would use it."""

import asyncio
import inspect
import re
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal, assert_type

import pytest
from pydantic import BaseModel

from msgbus import (
    Bus,
    BusError,
    ConfigError,
    DecodeError,
    Delivery,
    Depends,
    Failed,
    Lease,
    Limits,
    Message,
    Queue,
    Reject,
    RemoteError,
    Retry,
    Router,
    Rpc,
    Settings,
    Timeout,
    Topic,
)
from msgbus.clock import SystemClock
from msgbus.testing import Attempt, NotSettled, TestBus

DAY = 86400.0


class Order(BaseModel):
    id: str
    customer: str = "c"


class Refund(BaseModel):
    cents: int


class Ask(BaseModel):
    sku: str


class Price(BaseModel):
    cents: int


ORDERS = Topic("orders", Order, key="customer")
ORDERED = Topic("ordered", Order, key="customer", ordered=True)
EVENTS = Topic("events", Order | Refund)
INVOICES = Queue("invoices", Order)
PRICES = Rpc("prices", Ask, Price)
ONCE = Retry(attempts=1)


def ids(orders: Sequence[Order]) -> list[str]:
    return [order.id for order in orders]


def exact(**options: Any) -> Retry:
    return Retry(jitter=0, **options)


def failing(times: int, error: Callable[[], Exception] = lambda: ValueError("not yet")) -> Callable[[], None]:
    """A function that raises so often, and then no more."""
    left = [times]

    def fail() -> None:
        if left[0]:
            left[0] -= 1
            raise error()

    return fail


# -- what a service does


async def test_a_handler_publishes_further_through_the_very_bus_whatever_the_environment_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MSGBUS_URL", "sqs://")
    monkeypatch.setenv("MSGBUS_ROUTES", '{"invoices": "amqp://nowhere"}')
    monkeypatch.setenv("MSGBUS_PROVISION", "verify")
    monkeypatch.setenv("MSGBUS_PREFIX", "staging-")
    bus = Bus()

    @bus.subscriber(ORDERS, group="billing")
    async def charge(order: Order) -> None:
        await bus.send(INVOICES, order)

    @bus.consumer(INVOICES)
    async def print_invoice(order: Order) -> None: ...

    async with TestBus(bus) as test:
        await test.publish(ORDERS, Order(id="1"), key="k", headers={"tenant": "t"})
        await bus.publish(ORDERS, Order(id="2"))
        await test.settled()
        assert_type(test.published(ORDERS), Sequence[Order])
        assert_type(test.handled(INVOICES), Sequence[Order])
        assert ids(test.published(ORDERS)) == ids(test.handled(charge)) == ["1", "2"]
        assert ids(test.published(INVOICES)) == ids(test.handled(print_invoice)) == ["1", "2"]
        message = test.messages(ORDERS)[0]
        assert_type(message, Message[Order])
        assert (message.key, message.headers["tenant"]) == ("k", "t")
        assert test.messages(INVOICES)[0].causation_id == message.id
        assert bus.settings.prefix == "staging-"
    assert isinstance(bus.clock, SystemClock)
    monkeypatch.setenv("MSGBUS_URL", "memory://read-when-needed")
    assert bus.settings.url == "memory://read-when-needed"
    assert ids(test.handled(ORDERS)) == ["1", "2"]


async def test_retries_come_at_exact_virtual_times() -> None:
    bus, fail = Bus(), failing(3)

    @bus.subscriber(ORDERS, group="billing", retry=exact(first_delay=1.0, factor=3.0))
    async def charge(order: Order) -> None:
        fail()

    async with TestBus(bus) as test:
        await test.publish(ORDERS, Order(id="1"))
        await test.settled()
        assert [attempt.started for attempt in test.attempts(charge)] == pytest.approx([0, 1, 4, 13], abs=0.02)
        assert [(a.number, a.delay, str(a.error)) for a in test.retried(ORDERS)] == [
            (1, 1.0, "not yet"),
            (2, 3.0, "not yet"),
            (3, 9.0, "not yet"),
        ]
        assert_type(test.retried(ORDERS), Sequence[Attempt[Order]])
        assert test.attempts()[-1].outcome == "handled"
        assert repr(test.attempts()[0]).endswith("charge at 0 s: retried, ValueError('not yet')>")
        assert ids(test.handled()) == ["1"]


async def test_dead_letters_say_why_and_on_dead_hooks_are_waited_for() -> None:
    told: list[str] = []

    async def on_dead(delivery: Delivery, error: Exception) -> None:
        await asyncio.sleep(0.02)
        told.append(str(error))

    bus = Bus(on_dead=[on_dead])

    @bus.subscriber(ORDERS, group="billing", retry=exact(attempts=2))
    async def charge(message: Message[Order]) -> None:
        raise (Reject("unknown customer") if message.payload.id == "rejected" else ValueError("no"))

    async with TestBus(bus) as test:
        await test.publish(ORDERS, Order(id="failed"))
        await test.publish(ORDERS, Order(id="rejected"))
        await test.publish(Topic("orders", Refund), Refund(cents=1))
        await test.settled()
        dead = {attempt.reason: attempt for attempt in test.dead(ORDERS)}
        assert sorted(told) == sorted(dead)
        assert (dead["no"].number, dead["no"].payload.id, dead["no"].message.key) == (2, "failed", "c")
        assert isinstance(dead["unknown customer"].error, Reject)
        (undecodable,) = (attempt for attempt in test.dead() if isinstance(attempt.error, DecodeError))
        with pytest.raises(DecodeError, match="id"):
            _ = undecodable.payload
        assert undecodable.delivery.body == b'{"cents":1}'
        assert test.handled(charge) == []


async def test_request_and_reply_with_a_retry_in_between() -> None:
    bus, fail = Bus(), failing(1)

    @bus.responder(PRICES, retry=exact(attempts=2, first_delay=10.0))
    async def price(ask: Ask) -> Price:
        if ask.sku == "unknown":
            raise KeyError(ask.sku)
        fail()
        return Price(cents=5)

    async with TestBus(bus) as test:
        assert (await test.request(PRICES, Ask(sku="a"))).cents == 5
        assert bus.clock.now() == pytest.approx(10, abs=0.02)
        with pytest.raises(RemoteError, match="KeyError"):
            await test.request(PRICES, Ask(sku="unknown"))
        assert_type(test.published(PRICES), Sequence[Ask])
        assert [ask.sku for ask in test.published(PRICES)] == ["a", "unknown"]
        assert [attempt.outcome for attempt in test.attempts(price)] == ["retried", "handled", "retried", "failed"]
        assert test.dead() == []


async def test_a_request_that_nobody_answers_ends_at_its_virtual_deadline() -> None:
    bus = Bus()

    @bus.responder(PRICES, retry=exact(attempts=3, first_delay=100.0))
    async def price(ask: Ask) -> Price:
        raise ConnectionError

    async with TestBus(bus) as test:
        before = time.monotonic()
        with pytest.raises(Timeout):
            await test.request(PRICES, Ask(sku="a"), timeout=60.0)
        assert bus.clock.now() == pytest.approx(60, abs=0.02)
        assert time.monotonic() - before < 5


async def test_an_ordered_topic_keeps_its_order_through_retries() -> None:
    bus, fail = Bus(), failing(2)

    @bus.subscriber(ORDERED, group="ledger", retry=exact(first_delay=5.0))
    async def book(order: Order) -> None:
        if order.customer == "slow":
            fail()

    async with TestBus(bus) as test:
        for number in "123":
            await test.publish(ORDERED, Order(id=f"slow-{number}", customer="slow"))
            await test.publish(ORDERED, Order(id=f"quick-{number}", customer="quick"))
        await test.settled()
        handled = ids(test.handled(book))
        assert handled[:3] == ["quick-1", "quick-2", "quick-3"]
        assert handled[3:] == ["slow-1", "slow-2", "slow-3"]
        assert bus.clock.now() == pytest.approx(15, abs=0.05)


async def test_delays_of_days_take_no_real_time() -> None:
    bus, fail = Bus(), failing(1)

    @bus.consumer(INVOICES, retry=exact(first_delay=DAY, max_delay=DAY))
    async def remind(order: Order) -> None:
        fail()

    async with TestBus(bus) as test:
        before = time.monotonic()
        await test.send(INVOICES, Order(id="1"), delay=29 * DAY)
        await test.send(INVOICES, Order(id="2"), delay=3 * DAY)
        await test.settled()
        started = [(a.payload.id, a.started / DAY) for a in test.attempts(remind)]
        assert [order_id for order_id, _ in started] == ["2", "2", "1"]
        assert [days for _, days in started] == pytest.approx([3, 4, 29], abs=1e-6)
        assert time.monotonic() - before < 2


async def test_a_long_handler_keeps_its_lease_under_the_virtual_clock() -> None:
    bus = Bus()

    @bus.subscriber(ORDERS, group="billing", lease=Lease(seconds=30))
    async def charge(order: Order) -> None:
        await bus.clock.sleep(1000.0)

    async with TestBus(bus) as test:
        await test.publish(ORDERS, Order(id="1"))
        await test.settled()
        (attempt,) = test.attempts()
        assert (attempt.outcome, attempt.ended) == ("handled", 1000.0)


async def test_a_lease_that_runs_out_is_lost_and_the_message_comes_again() -> None:
    bus = Bus()

    @bus.subscriber(ORDERS, group="billing", lease=Lease(seconds=30))
    async def charge(message: Message[Order]) -> None:
        if message.attempt == 1:
            await bus.clock.sleep(DAY)

    async with TestBus(bus) as test:
        await test.publish(ORDERS, Order(id="1"))
        await test.advance(1.0)
        await test.virtual.jump(60.0)  # as a frozen process sees it
        await test.settled()
        assert [(a.number, a.outcome) for a in test.attempts(charge)] == [(1, "lost"), (2, "handled")]


async def test_a_handler_that_holds_its_message_for_too_long_is_cancelled() -> None:
    bus = Bus()

    @bus.subscriber(ORDERS, group="billing", lease=Lease(seconds=30, longest=60), retry=ONCE)
    async def charge(order: Order) -> None:
        await bus.clock.sleep(DAY)

    async with TestBus(bus) as test:
        await test.publish(ORDERS, Order(id="1"))
        await test.settled()
        (dead,) = test.dead(charge)
        assert isinstance(dead.error, Timeout)
        assert dead.ended == pytest.approx(70, abs=10)


async def test_a_dependency_is_overridden_until_the_block_ends() -> None:
    bus, used = Bus(), list[str]()

    def database() -> str:
        return "real"

    @bus.subscriber(ORDERS, group="billing")
    async def charge(order: Order, name: Annotated[str, Depends(database)]) -> None:
        used.append(name)

    async with TestBus(bus) as test:
        await test.publish(ORDERS, Order(id="1"))
        await test.settled()
        test.override(database, lambda: "fake")
        await test.publish(ORDERS, Order(id="2"))
        await test.settled()
    async with TestBus(bus) as test:
        await test.publish(ORDERS, Order(id="3"))
        await test.settled()
    assert used == ["real", "fake", "real"]


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


async def test_batches_have_one_record_per_entry() -> None:
    bus = Bus()

    @bus.subscriber(ORDERS, group="billing", retry=exact(attempts=2))
    async def charge(orders: list[Order]) -> list[Failed] | None:
        return [Failed(i, ValueError("no")) for i, order in enumerate(orders) if order.id == "bad"]

    async with TestBus(bus) as test:
        for order_id in ("1", "bad", "2"):
            await test.publish(ORDERS, Order(id=order_id))
        await test.settled()
        assert ids(test.handled(charge)) == ["1", "2"]
        assert [(a.payload.id, a.reason) for a in test.dead(charge)] == [("bad", "no")]
        assert len(test.retried(charge)) == 1


async def test_members_of_a_union_are_told_apart() -> None:
    bus = Bus()

    @bus.subscriber(EVENTS.only(Order), group="billing")
    async def charge(order: Order) -> None: ...

    @bus.subscriber(EVENTS, group="audit")
    async def audit(event: Order | Refund) -> None: ...

    async with TestBus(bus) as test:
        await test.publish(EVENTS, Order(id="1"))
        await test.publish(EVENTS, Refund(cents=1))
        await test.settled()
        assert test.published(EVENTS.only(Refund)) == [Refund(cents=1)]
        assert test.handled(audit) == [Order(id="1"), Refund(cents=1)]
        assert test.handled(charge) == [Order(id="1")]
        assert len(test.handled(EVENTS)) == 3
        assert len(test.handled(EVENTS.only(Order))) == 2


async def test_peers_play_the_other_services() -> None:
    bus, others = Bus(), Router()

    @bus.subscriber(ORDERS, group="billing")
    async def charge(order: Order) -> None:
        price = await bus.request(PRICES, Ask(sku=order.id))
        await bus.send(INVOICES, Order(id=str(price.cents)))

    @others.responder(PRICES)
    async def price(ask: Ask) -> Price:
        return Price(cents=7)

    @others.consumer(INVOICES)
    async def invoice(order: Order) -> None: ...

    async with TestBus(bus, peers=others) as test:
        await test.publish(ORDERS, Order(id="a"))
        await test.settled()
        assert ids(test.handled(invoice)) == ["7"]
        assert len(bus.registrations) == 1


async def test_middlewares_and_lifespan_of_the_bus_run() -> None:
    seen: list[str] = []

    async def middleware(delivery: Delivery, handle: Callable[[Delivery], Any]) -> None:
        seen.append("middleware")
        await handle(delivery)

    @asynccontextmanager
    async def lifespan(bus: Bus) -> AsyncIterator[None]:
        seen.append("start")
        yield
        seen.append("end")

    bus = Bus(middlewares=[middleware], lifespan=lifespan)

    @bus.subscriber(ORDERS, group="billing")
    async def charge(order: Order) -> None: ...

    async with TestBus(bus) as test:
        await test.publish(ORDERS, Order(id="1"))
        await test.settled()
    assert seen == ["start", "middleware", "end"]


# -- what a test may get wrong, and the edges


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
    assert time.monotonic() - before < 2
    assert isinstance(test.attempts()[0].error, Timeout)


async def test_what_a_consumer_dies_of_is_raised_by_settled_and_at_the_end() -> None:
    class Bug(BaseException):
        pass

    bus = Bus()

    @bus.subscriber(ORDERS, group="billing")
    async def charge(order: Order) -> None:
        raise Bug

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
    assert 0.05 <= time.monotonic() - before < 3


async def test_the_snippets_of_the_how_to_run(monkeypatch: pytest.MonkeyPatch) -> None:
    text = (Path(__file__).parents[1] / "docs/how-to/test-your-service.md").read_text()
    service, *snippets = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    for name, source in (("shop", service), ("test_shop", "\n".join(snippets))):
        module = ModuleType(name)
        monkeypatch.setitem(sys.modules, name, module)
        exec(source, module.__dict__)  # noqa: S102 - our own page
    tests = [f for name, f in vars(module).items() if name.startswith("test_") and not inspect.signature(f).parameters]
    assert len(tests) == 4
    for test in tests:
        await test()


@pytest.fixture
async def shop() -> AsyncIterator[TestBus]:
    bus = Bus()

    @bus.subscriber(ORDERS, group="billing")
    async def charge(order: Order) -> None: ...

    async with TestBus(bus) as test:
        yield test


@pytest.mark.parametrize("round_", [1, 2])
async def test_works_as_a_fixture_with_nothing_left_from_before(shop: TestBus, round_: Literal[1, 2]) -> None:
    await shop.publish(ORDERS, Order(id=str(round_)))
    await shop.settled()
    assert ids(shop.handled(ORDERS)) == [str(round_)]
