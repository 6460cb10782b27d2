"""Middlewares are functions around the next one: order, skipping, failing; batches are in test_session_batches."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from tests.models import WORK, Order
from tests.scripted import HandClock, consuming

from msgbus import Bus, Delivery, Message, Retry
from msgbus.handlers.middleware import ConsumeMiddleware, Handle, compose, compose_batch
from msgbus.message import Source

DELIVERY = Delivery(b"", Source("queue", "work"), {})


def named(name: str, log: list[str]) -> ConsumeMiddleware:
    """One that says when it is entered and left."""

    async def middleware(delivery: Delivery, handle: Handle) -> None:
        log.append(f"{name} in")
        try:
            await handle(delivery)
        finally:
            log.append(f"{name} out")

    return middleware


async def test_the_first_one_is_the_outermost() -> None:
    log: list[str] = []

    async def handle(delivery: Delivery) -> None:
        log.append("handle")

    await compose([named("a", log), named("b", log)], handle)(DELIVERY)
    assert log == ["a in", "b in", "handle", "b out", "a out"]


async def test_without_middlewares_the_handler_is_called_as_it_is() -> None:
    async def handle(delivery: Delivery) -> None: ...
    async def handle_batch(batch: Sequence[Delivery]) -> Sequence[Exception | None]:
        return []

    assert compose([], handle) is handle
    assert compose_batch([], handle_batch) is handle_batch


async def test_one_that_skips_the_handler_acknowledges(clock: HandClock) -> None:
    async def skip(delivery: Delivery, handle: Handle) -> None:
        return None

    bus = Bus(clock=clock, middlewares=[skip])

    @bus.consumer(WORK)
    async def work(order: Order) -> None:
        raise AssertionError

    async with consuming(bus, clock):
        await bus.send(WORK, Order(order_id="1"))
        await clock.until(lambda: bus.runners[0].subscription.stats.handled)


async def test_one_may_call_the_handler_again(clock: HandClock) -> None:
    async def again(delivery: Delivery, handle: Handle) -> None:
        try:
            await handle(delivery)
        except ValueError:
            await handle(delivery)

    bus = Bus(clock=clock, middlewares=[again])
    calls: list[int] = []

    @bus.consumer(WORK, retry=Retry(attempts=1))
    async def work(message: Message[Order]) -> None:
        calls.append(message.attempt)
        if len(calls) == 1:
            raise ValueError

    async with consuming(bus, clock):
        await bus.send(WORK, Order(order_id="1"))
        await clock.until(lambda: bus.runners[0].subscription.stats.handled)
    assert calls == [1, 1]


async def test_middleware_and_handler_share_a_task(clock: HandClock) -> None:
    tasks: list[object] = []

    async def look(delivery: Delivery, handle: Handle) -> None:
        tasks.append(asyncio.current_task())
        async with asyncio.timeout(1000):
            await handle(delivery)

    bus = Bus(clock=clock, middlewares=[look])

    @bus.consumer(WORK)
    async def work(order: Order) -> None:
        await asyncio.sleep(0)
        tasks.append(asyncio.current_task())

    async with consuming(bus, clock):
        await bus.send(WORK, Order(order_id="1"))
        await clock.until(lambda: len(tasks) == 2)
    assert tasks[0] is tasks[1]


def batch_of(count: int) -> list[Delivery]:
    """Deliveries that differ."""
    return [Delivery(str(i).encode(), DELIVERY.source, {}) for i in range(count)]


async def test_around_a_batch_all_meet_before_the_handler_and_get_their_own_results() -> None:
    log: list[str] = []

    async def note(delivery: Delivery, handle: Handle) -> None:
        log.append(f"in {delivery.body.decode()}")
        await handle(delivery)
        log.append(f"out {delivery.body.decode()}")

    async def handle_batch(batch: Sequence[Delivery]) -> Sequence[Exception | None]:
        log.append(f"handle {len(batch)}")
        return [ValueError("odd") if delivery.body == b"1" else None for delivery in batch]

    results = await compose_batch([note], handle_batch)(batch_of(3))
    assert [type(result) for result in results] == [type(None), ValueError, type(None)]
    assert log[:4] == ["in 0", "in 1", "in 2", "handle 3"]
    assert sorted(log[4:]) == ["out 0", "out 2"]


async def test_around_a_batch_that_all_skip_the_handler_is_not_called() -> None:
    async def skip(delivery: Delivery, handle: Handle) -> None:
        if delivery.body == b"1":
            raise ValueError("refused")

    async def handle_batch(batch: Sequence[Delivery]) -> Sequence[Exception | None]:
        raise AssertionError

    results = await compose_batch([skip], handle_batch)(batch_of(2))
    assert [type(result) for result in results] == [type(None), ValueError]


async def test_around_a_batch_that_raises_each_gets_the_error() -> None:
    caught: list[str] = []

    async def note(delivery: Delivery, handle: Handle) -> None:
        try:
            await handle(delivery)
        except ZeroDivisionError:
            caught.append(delivery.body.decode())
            raise

    async def handle_batch(batch: Sequence[Delivery]) -> Sequence[Exception | None]:
        raise ZeroDivisionError

    results = await compose_batch([note], handle_batch)(batch_of(2))
    assert [type(result) for result in results] == [ZeroDivisionError] * 2
    assert sorted(caught) == ["0", "1"]


async def test_around_a_batch_cancellation_reaches_all() -> None:
    cancelled: list[str] = []
    began = asyncio.Event()

    async def note(delivery: Delivery, handle: Handle) -> None:
        try:
            await handle(delivery)
        except asyncio.CancelledError:
            cancelled.append(delivery.body.decode())
            raise

    async def handle_batch(batch: Sequence[Delivery]) -> Sequence[Exception | None]:
        began.set()
        await asyncio.Event().wait()
        return []

    async def run() -> None:
        await compose_batch([note], handle_batch)(batch_of(3))

    task = asyncio.create_task(run())
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sorted(cancelled) == ["0", "1", "2"]
