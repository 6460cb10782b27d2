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
from tests.slowness import slowness
from tests.testing.models import (
    DAY,
    EVENTS,
    INVOICES,
    ONCE,
    ORDERED,
    ORDERS,
    PRICES,
    Ask,
    Order,
    Price,
    Refund,
    exact,
    failing,
    ids,
)

from msgbus import (
    Batch,
    Bus,
    DecodeError,
    Delivery,
    Depends,
    Failed,
    Lease,
    Message,
    Receipt,
    Reject,
    RemoteError,
    Router,
    Select,
    Timeout,
    Topic,
)
from msgbus.clock import SystemClock
from msgbus.handlers.middleware import Handle
from msgbus.testing import Attempt, TestBus


async def test_it_has_the_verbs_of_the_bus() -> None:
    bus = Bus()

    @bus.subscriber(ORDERS, group="billing")
    async def charge(order: Order) -> None: ...

    async with TestBus(bus) as test:
        receipts = await test.publish_many(ORDERS, [Order(id="1"), Order(id="2")])
        assert_type(receipts, Sequence[Receipt])
        assert_type(await test.publish(ORDERS, Order(id="3"), timeout=5.0), Receipt)
        await test.settled()
        assert ids(test.handled(charge)) == ["1", "2", "3"]
    assert test.publish.__doc__ == Bus.publish.__doc__


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
        assert time.monotonic() - before < 30 * slowness()


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
        assert time.monotonic() - before < 30 * slowness()


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


async def test_the_snippets_of_the_how_to_run(monkeypatch: pytest.MonkeyPatch) -> None:
    text = (Path(__file__).parents[2] / "docs/how-to/test-your-service.md").read_text()
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


# -- what no handler sees


async def test_what_select_or_a_middleware_drops_is_not_handled() -> None:
    async def sieve(delivery: Delivery, handle: Handle) -> None:
        if delivery.headers.get("drop") is None:
            await handle(delivery)

    bus = Bus(middlewares=[sieve])
    seen: list[str] = []

    @bus.subscriber(ORDERS, group="billing", select=Select(fields={"customer": ["a"]}))
    async def charge(order: Order) -> None:
        seen.append(order.id)

    @bus.subscriber(ORDERS, group="stock", batch=Batch(size=10), select=Select(fields={"customer": ["a"]}))
    async def pick(orders: list[Order]) -> None:
        seen.extend(order.id + " picked" for order in orders)

    async with TestBus(bus) as test:
        await test.publish(ORDERS, Order(id="1", customer="a"))
        await test.publish(ORDERS, Order(id="2", customer="b"))
        await test.publish(ORDERS, Order(id="3", customer="a"), headers={"drop": "yes"})
        await test.settled()
        for handler in (charge, pick):
            assert ids(test.handled(handler)) == ["1"]
            assert "2" not in ids(test.handled(handler))
            skipped = test.skipped(handler)
            assert "3" in [attempt.payload.id for attempt in skipped]
            assert {attempt.outcome for attempt in skipped} == {"skipped"}
    assert sorted(seen) == ["1", "1 picked"]


async def test_what_a_middleware_handles_itself_before_a_failure_is_retried_as_ever() -> None:
    async def stumble(delivery: Delivery, handle: Handle) -> None:
        if delivery.attempt == 1:
            raise ValueError("before the handler")
        await handle(delivery)

    bus = Bus(middlewares=[stumble])

    @bus.subscriber(ORDERS, group="billing", retry=exact())
    async def charge(order: Order) -> None: ...

    async with TestBus(bus) as test:
        await test.publish(ORDERS, Order(id="1"))
        await test.settled()
        assert ids(test.handled(charge)) == ["1"]
        assert [attempt.number for attempt in test.retried(charge)] == [1]
        assert test.skipped() == []
