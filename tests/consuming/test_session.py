"""Handling: concurrency, prefetch, rate, timeouts, cancellation, context variables, poller and worker deaths."""

from __future__ import annotations

import asyncio
import contextvars
from dataclasses import replace

import pytest
from tests.conftest import OpenScripted
from tests.models import ORDERS, WORK, Order, orders
from tests.scripted import PLAIN, HandClock, consuming, delivery, turns

from msgbus import Bus, Limits, Message, Retry, Settings, Throttled, Timeout
from msgbus.handlers.middleware import Handle
from msgbus.message import Act, Delivery, Source

SOURCE = Source("queue", "work")
VALUE: contextvars.ContextVar[str] = contextvars.ContextVar("VALUE", default="unset")


async def test_every_group_gets_every_message_and_one_consumer_each() -> None:
    bus = Bus()
    got: list[str] = []

    @bus.subscriber(ORDERS, group="billing")
    async def bill(order: Order) -> None:
        got.append(f"billing {order.order_id}")

    @bus.subscriber(ORDERS, group="shipping")
    async def ship(order: Order) -> None:
        got.append(f"shipping {order.order_id}")

    @bus.consumer(WORK)
    async def work(message: Message[Order]) -> None:
        got.append(f"work {message.payload.order_id}")

    async with bus.consuming():
        await bus.publish_many(ORDERS, orders("1", "2"))
        await bus.send(WORK, Order(order_id="3"))
        await turns()
    assert sorted(got) == ["billing 1", "billing 2", "shipping 1", "shipping 2", "work 3"]


async def test_no_more_handlers_than_the_concurrency(clock: HandClock) -> None:
    bus = Bus(clock=clock)
    running = highest = done = 0

    @bus.consumer(WORK, limits=Limits(concurrency=3))
    async def work(order: Order) -> None:
        nonlocal running, highest, done
        running += 1
        highest = max(highest, running)
        await clock.sleep(1.0)
        running -= 1
        done += 1

    async with consuming(bus, clock):
        await bus.publish_many(WORK, orders(*map(str, range(10))))
        await clock.until(lambda: done == 10)
    assert highest == 3


async def test_the_settings_decide_the_concurrency_where_a_handler_does_not(clock: HandClock) -> None:
    bus = Bus(clock=clock, settings=Settings(concurrency=2))
    running = highest = done = 0

    @bus.consumer(WORK)
    async def work(order: Order) -> None:
        nonlocal running, highest, done
        running += 1
        highest = max(highest, running)
        await clock.sleep(1.0)
        running -= 1
        done += 1

    async with consuming(bus, clock):
        await bus.publish_many(WORK, orders(*map(str, range(6))))
        await clock.until(lambda: done == 6)
    assert highest == 2


async def test_no_more_in_hand_than_the_prefetch(clock: HandClock) -> None:
    bus = Bus(clock=clock)
    done = 0
    highest = 0

    @bus.consumer(WORK, limits=Limits(concurrency=2, prefetch=5))
    async def work(order: Order) -> None:
        nonlocal done, highest
        backlog = await bus.links["memory://"].broker.admin.backlog(SOURCE)
        assert backlog is not None
        highest = max(highest, backlog.in_flight or 0)
        await clock.sleep(0.01)
        done += 1

    async with consuming(bus, clock):
        await bus.publish_many(WORK, orders(*map(str, range(100))))
        await clock.until(lambda: done == 100)
    assert 2 <= highest <= 5


async def test_the_receiver_is_opened_with_the_prefetch_and_asked_for_no_more_than_its_batch(
    clock: HandClock, scripted: OpenScripted
) -> None:
    broker = scripted(replace(PLAIN, receive_batch=4))
    bus = Bus("scripted://one", clock=clock)

    @bus.consumer(WORK, limits=Limits(concurrency=8, prefetch=20))
    async def work(order: Order) -> None: ...

    async with consuming(bus, clock):
        await turns()
        (receiver,) = broker.receivers
        assert receiver.prefetch == 20
        assert receiver.limits == [4]


async def test_the_rate_is_kept(clock: HandClock) -> None:
    bus = Bus(clock=clock)
    times: list[float] = []

    @bus.consumer(WORK, limits=Limits(rate=5))
    async def work(order: Order) -> None:
        times.append(clock.now())

    async with consuming(bus, clock):
        await bus.publish_many(WORK, orders(*map(str, range(20))))
        await clock.until(lambda: len(times) == 20)
    for i in range(20):
        assert sum(times[i] <= t < times[i] + 1.0 for t in times) <= 10  # a full bucket, and what comes meanwhile
    assert times[-1] - times[0] >= 2.5


async def test_a_timeout_cancels_the_handler_alone_and_counts_as_a_failure(clock: HandClock) -> None:
    bus = Bus(clock=clock)
    log: list[str] = []
    fine = asyncio.Event()

    @bus.consumer(WORK, limits=Limits(timeout=2.0, concurrency=1), retry=Retry(attempts=2, first_delay=1.0, jitter=0))
    async def work(message: Message[Order]) -> None:
        log.append(f"{message.payload.order_id} attempt {message.attempt}")
        if message.payload.order_id == "slow" and message.attempt == 1:
            try:
                await clock.sleep(100)
            except asyncio.CancelledError:
                log.append("cancelled")
                raise
        if message.attempt == 2:
            fine.set()

    async with consuming(bus, clock):
        await bus.publish_many(WORK, orders("slow", "quick"))
        await clock.until(fine.is_set)
    assert log == ["slow attempt 1", "cancelled", "quick attempt 1", "slow attempt 2"]


async def test_the_error_of_a_timeout_says_how_long(clock: HandClock) -> None:
    seen: list[Exception] = []

    async def dead(delivery: Delivery, error: Exception) -> None:
        seen.append(error)

    bus = Bus(clock=clock)

    @bus.consumer(WORK, limits=Limits(timeout=1.5), retry=Retry(attempts=1, on_dead=dead))
    async def work(order: Order) -> None:
        await clock.sleep(100)

    async with consuming(bus, clock):
        await bus.send(WORK, Order(order_id="1"))
        await clock.until(lambda: seen)
    assert "longer than 1.5 s" in str(seen[0])


async def test_a_handler_that_swallows_its_cancellation_and_ends_has_succeeded(clock: HandClock) -> None:
    bus = Bus(clock=clock)
    log: list[str] = []

    @bus.consumer(WORK, limits=Limits(timeout=1.0, concurrency=1))
    async def work(order: Order) -> None:
        try:
            await clock.sleep(100)
        except asyncio.CancelledError:
            log.append(f"swallowed {order.order_id}")

    async with consuming(bus, clock):
        await bus.publish_many(WORK, orders("1", "2"))
        await clock.until(lambda: len(log) == 2)
        await turns()
        assert bus.runners[0].subscription.stats.handled == 2
    assert log == ["swallowed 1", "swallowed 2"]


async def test_a_handler_that_turns_its_cancellation_into_another_error_failed_by_the_timeout(
    clock: HandClock,
) -> None:
    seen: list[Exception] = []

    async def dead(delivery: Delivery, error: Exception) -> None:
        seen.append(error)

    bus = Bus(clock=clock)

    @bus.consumer(WORK, limits=Limits(timeout=1.0), retry=Retry(attempts=1, on_dead=dead))
    async def work(order: Order) -> None:
        try:
            await clock.sleep(100)
        except asyncio.CancelledError:
            raise ValueError("something else") from None

    async with consuming(bus, clock):
        await bus.send(WORK, Order(order_id="1"))
        await clock.until(lambda: seen)
    assert "ran longer than" in str(seen[0])


async def test_a_handler_that_awaits_something_cancelled_fails_and_its_worker_goes_on(clock: HandClock) -> None:
    """As a client library does whose pool is closed: CancelledError, and nobody cancelled the handler."""
    bus = Bus(clock=clock)
    log: list[str] = []

    @bus.consumer(WORK, limits=Limits(concurrency=1), retry=Retry(attempts=2, first_delay=1.0, jitter=0))
    async def work(message: Message[Order]) -> None:
        log.append(f"{message.payload.order_id} attempt {message.attempt}")
        if message.payload.order_id == "1" and message.attempt == 1:
            gone = asyncio.get_running_loop().create_future()
            gone.cancel()
            await gone

    async with consuming(bus, clock):
        await bus.publish_many(WORK, orders("1", "2"))
        await clock.until(lambda: len(log) == 3)
    assert log == ["1 attempt 1", "2 attempt 1", "1 attempt 2"]


async def test_context_variables_do_not_leak_into_the_next_message() -> None:
    bus = Bus()
    seen: list[str] = []

    @bus.consumer(WORK, limits=Limits(concurrency=1))
    async def work(order: Order) -> None:
        seen.append(VALUE.get())
        VALUE.set(f"left by {order.order_id}")
        await asyncio.sleep(0)
        seen.append(VALUE.get())

    async with bus.consuming():
        await bus.publish_many(WORK, orders("1", "2", "3"))
        await turns()
    assert seen == ["unset", "left by 1", "unset", "left by 2", "unset", "left by 3"]


async def test_the_handler_sees_the_context_variables_of_its_middlewares() -> None:
    async def tag(delivery: Delivery, handle: Handle) -> None:
        token = VALUE.set("from the middleware")
        await asyncio.sleep(0)
        await handle(delivery)
        VALUE.reset(token)  # in the same context: this would raise elsewhere

    bus = Bus(middlewares=[tag])
    seen: list[str] = []

    @bus.consumer(WORK)
    async def work(order: Order) -> None:
        await asyncio.sleep(0)
        seen.append(VALUE.get())

    async with bus.consuming():
        await bus.send(WORK, Order(order_id="1"))
        await turns()
    assert seen == ["from the middleware"]
    assert bus.runners[0].subscription.stats.handled == 1
    assert VALUE.get() == "unset"


async def test_what_was_set_before_consuming_is_seen_by_handlers() -> None:
    bus = Bus()
    seen: list[str] = []

    @bus.consumer(WORK)
    async def work(order: Order) -> None:
        seen.append(VALUE.get())

    token = VALUE.set("set at start")
    async with bus.consuming():
        await bus.send(WORK, Order(order_id="1"))
        await turns()
    VALUE.reset(token)
    assert seen == ["set at start"]


async def test_a_poller_that_dies_brings_its_exception_to_consuming_and_to_health(
    clock: HandClock, scripted: OpenScripted
) -> None:
    broker = scripted()
    bus = Bus("scripted://one", clock=clock)
    body_was_cancelled = False

    @bus.consumer(WORK)
    async def work(order: Order) -> None: ...

    async def live() -> None:
        nonlocal body_was_cancelled
        async with consuming(bus, clock):
            await turns()
            assert bus.health().ready
            broker.feed("work", ZeroDivisionError("a bug in the client"))
            try:
                await clock.sleep(1000)
            except asyncio.CancelledError:
                body_was_cancelled = True
                health = bus.health()
                assert not health.live
                assert not health.ready
                assert "queue work" in health.problems[0]
                assert "a bug in the client" in health.problems[0]
                raise

    with pytest.raises(ZeroDivisionError, match="a bug in the client"):
        await live()
    assert body_was_cancelled


async def test_a_settler_that_dies_ends_the_service_where_it_is_told_to(
    clock: HandClock, scripted: OpenScripted
) -> None:
    broker = scripted()
    bus = Bus(settings=Settings(url="scripted://one", on_failure="exit"), clock=clock)

    def fail(settlement: object) -> None:
        raise ZeroDivisionError("a bug in settle")

    broker.on_settle = fail

    @bus.consumer(WORK)
    async def work(order: Order) -> None: ...

    async def live() -> None:
        async with consuming(bus, clock):
            broker.feed("work", delivery(SOURCE, "1", b'{"order_id": "1"}'))
            await clock.sleep(1000)

    with pytest.raises(ZeroDivisionError, match="a bug in settle"):
        await live()


async def test_a_receive_that_is_throttled_is_called_again_after_the_asked_pause(
    clock: HandClock, scripted: OpenScripted
) -> None:
    broker = scripted()
    broker.feed("work", Throttled("slow down", retry_after=7.0), delivery(SOURCE, "1", b'{"order_id": "1"}'))
    bus = Bus("scripted://one", clock=clock)
    at: list[float] = []

    @bus.consumer(WORK)
    async def work(order: Order) -> None:
        at.append(clock.now())

    async with consuming(bus, clock):
        began = clock.now()
        await clock.until(lambda: at)
        assert len(broker.receivers) == 1
    assert 7.0 <= at[0] - began <= 7.2


async def test_a_message_that_was_handed_out_too_often_is_dead_unseen(clock: HandClock, scripted: OpenScripted) -> None:
    broker = scripted(replace(PLAIN, counts_deliveries=True))
    fatal = delivery(SOURCE, "1", b'{"order_id": "1"}')
    fatal.deliveries = 8
    fine = delivery(SOURCE, "2", b'{"order_id": "2"}')
    fine.deliveries = 2
    broker.feed("work", fatal, fine)
    bus = Bus("scripted://one", clock=clock)
    seen: list[str] = []

    @bus.consumer(WORK, retry=Retry(attempts=3, max_deliveries=7))
    async def work(order: Order) -> None:
        seen.append(order.order_id)

    async with consuming(bus, clock):
        await clock.until(lambda: len(broker.settled) == 2)
    assert seen == ["2"]
    assert broker.acts() == [(Act.DEAD, "1"), (Act.ACK, "2")]
    assert "delivered 8 times" in broker.settled[0].reason


async def test_timeout_is_also_the_built_in_one() -> None:
    assert issubclass(Timeout, TimeoutError)
