"""A Router publishes through the bus that it is in, and has middlewares of its own, as a single handler may."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
from tests.models import ORDERS, PRICES, WORK, Ask, Order, Price, Refund, orders

from msgbus import (
    Batch,
    Bus,
    BusError,
    ConsumeMiddleware,
    Delivery,
    Handle,
    Message,
    RegistrationError,
    Router,
    Select,
    Topic,
)
from msgbus.testing import TestBus

DONE = Topic("done", str)
EITHER = Topic("either", Order | Refund, filter_on=("region",))

VERBS: list[Callable[[Router], Awaitable[object]]] = [
    lambda router: router.publish(ORDERS, Order(order_id="1")),
    lambda router: router.publish_many(ORDERS, orders("1", "2")),
    lambda router: router.publish_many(WORK, orders("1", "2")),
    lambda router: router.send(WORK, Order(order_id="1")),
    lambda router: router.request(PRICES, Ask(sku="tea")),
]


def shop() -> tuple[Router, Router, Router]:
    """Handlers of one module, which publish through its router; a router around it; one that does nothing."""
    inner, outer, quiet = Router(), Router(), Router()

    @inner.subscriber(ORDERS, group="g")
    async def order(order: Order) -> None:
        price = await inner.request(PRICES, Ask(sku="tea"))
        await inner.send(WORK, Order(order_id=f"{order.order_id} for {price.cents}"))

    @inner.consumer(WORK)
    async def work(order: Order) -> None:
        await outer.publish_many(DONE, [order.order_id])

    @inner.responder(PRICES)
    async def price(ask: Ask) -> Price:
        return Price(sku=ask.sku, cents=7)

    outer.include(inner, quiet)
    return inner, outer, quiet


async def test_it_publishes_through_its_bus_however_deep_it_lies() -> None:
    _, outer, quiet = shop()
    bus = Bus()
    bus.include(outer)
    for _ in range(2):  # opened again, it has another connection
        async with TestBus(bus) as test:
            await quiet.publish(ORDERS, Order(order_id="1"))
            await test.settled()
            assert list(test.published(DONE)) == ["1 for 7"]


@pytest.mark.parametrize("verb", VERBS)
async def test_where_no_bus_is_open_it_says_why(verb: Callable[[Router], Awaitable[object]]) -> None:
    router, bus = Router(), Bus("memory://")
    with pytest.raises(BusError, match="none was open yet"):
        await verb(router)
    bus.include(router)
    with pytest.raises(BusError, match="none was open yet"):
        await verb(router)
    async with bus:
        ...
    for closed in (router, bus):
        with pytest.raises(BusError, match="the bus is not open: use `async with bus:`"):
            await verb(closed)


async def test_a_router_that_is_included_late_publishes_too() -> None:
    """In a bus that is open: it only publishes, its handlers come with the next start."""
    early, late, bus = Router(), Router(), Bus("memory://")
    bus.include(early)
    async with bus:
        early.include(late)
        bus.include(late)
        await late.publish(ORDERS, Order(order_id="1"))
    async with bus:
        await late.publish(ORDERS, Order(order_id="1"))


async def test_in_two_open_buses_it_takes_neither() -> None:
    """As in one bus twice, by two ways, it knows where to."""
    router, way, one, other = Router(), Router(), Bus("memory://one"), Bus("memory://other")
    way.include(router)
    one.include(router, way)
    other.include(router)
    async with one:
        await router.publish(ORDERS, Order(order_id="1"))
        async with other:
            with pytest.raises(BusError, match="in several open buses: publish through one of them"):
                await router.publish(ORDERS, Order(order_id="1"))
            await one.publish(ORDERS, Order(order_id="1"))
        await router.publish(ORDERS, Order(order_id="1"))


async def test_a_bus_that_does_not_open_leaves_its_routers_alone() -> None:
    router, bus = Router(), Bus("nonsense://")
    bus.include(router)
    with pytest.raises(BusError):
        await bus.__aenter__()
    with pytest.raises(BusError, match="none was open yet"):
        await router.publish(ORDERS, Order(order_id="1"))


async def test_handlers_that_came_after_the_include_are_not_lost_without_a_word() -> None:
    bus, outer, inner = Bus("memory://"), Router(), Router()
    outer.include(inner)
    bus.include(outer)

    @inner.consumer(WORK)
    async def late(order: Order) -> None: ...

    with pytest.raises(RegistrationError, match=r"late of Queue\('work', Order\)"):
        await bus.__aenter__()
    bus.include(inner)
    async with TestBus(bus) as test:
        await test.send(WORK, Order(order_id="1"))
        await test.settled()
        assert test.handled(late) == orders("1")


# -- middlewares


def named(name: str, log: list[str]) -> ConsumeMiddleware:
    """One that says that it was entered, and by what."""

    async def middleware(delivery: Delivery, handle: Handle) -> None:
        log.append(f"{name} {delivery.source.name}")
        await handle(delivery)

    return middleware


async def test_the_bus_is_outermost_then_its_routers_then_the_handlers_own() -> None:
    log: list[str] = []
    inner = Router(middlewares=[named("inner", log)])
    outer = Router(middlewares=[named("outer", log), named("second", log)])
    bus = Bus(middlewares=[named("bus", log)])

    @inner.consumer(WORK).around(named("own", log), named("last", log))
    async def work(order: Order) -> None:
        log.append("handler")

    @outer.responder(PRICES)
    async def price(ask: Ask) -> Price:
        return Price(sku="", cents=1)

    @bus.subscriber(ORDERS, group="g")
    async def order(order: Order) -> None: ...

    outer.include(inner)
    bus.include(outer)
    async with TestBus(bus) as test:
        await test.send(WORK, Order(order_id="1"))
        await test.settled()
        assert log == ["bus work", "outer work", "second work", "inner work", "own work", "last work", "handler"]
        log.clear()
        assert (await test.request(PRICES, Ask(sku="tea"))).cents == 1
        assert log == ["bus prices", "outer prices", "second prices"]
        log.clear()
        await test.publish(ORDERS, Order(order_id="1"))
        await test.settled()
        assert log == ["bus orders"]


async def test_they_stand_around_each_entry_of_a_batch() -> None:
    async def picky(delivery: Delivery, handle: Handle) -> None:
        if b"wrong" in delivery.body:
            raise ValueError("not this one")
        if b"skip" not in delivery.body:
            await handle(delivery)

    router, bus, seen = Router(middlewares=[picky]), Bus(), list[str]()

    @router.consumer(WORK, batch=Batch(size=3))
    async def work(batch: list[Order]) -> None:
        seen.extend(order.order_id for order in batch)

    bus.include(router)
    async with TestBus(bus) as test:
        await test.publish_many(WORK, orders("1", "skip", "2"))
        await test.settled()
        assert seen == ["1", "2"]
        assert test.handled(work) == orders("1", "2")
        assert [attempt.payload for attempt in test.skipped(work)] == orders("skip")


async def test_what_one_of_them_drops_no_handler_saw() -> None:
    """Of two handlers that share a group, each has its own; TestBus tells what it made of a message."""
    log: list[str] = []

    async def drop(delivery: Delivery, handle: Handle) -> None:
        log.append("dropped")

    dropping, bus = Router(middlewares=[drop]), Bus()

    @dropping.subscriber(EITHER.only(Order), group="g", select=Select(where={"region": ["eu"]}))
    async def order(order: Order) -> None:
        raise AssertionError

    @bus.subscriber(EITHER.only(Refund), group="g", select=Select(where={"region": ["eu"]}))
    async def refund(message: Message[Refund]) -> None:
        log.append("refund")

    bus.include(dropping)
    async with TestBus(bus) as test:
        await test.publish(EITHER, Order(order_id="1"), headers={"region": "eu"})
        await test.publish(EITHER, Refund(order_id="1"), headers={"region": "eu"})
        await test.publish(EITHER, Order(order_id="1"), headers={"region": "us"})
        await test.settled()
        assert sorted(log) == ["dropped", "refund"]
        assert test.handled(order) == []
        assert len(test.handled(refund)) == 1
        assert len(test.skipped(order)) == 1
