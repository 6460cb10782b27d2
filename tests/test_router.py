"""Decorators, routers, groups, unions and dependencies, through the whole bus."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any

import pytest
from tests.conftest import OpenScripted
from tests.models import ORDERS, PRICES, WORK, Ask, Order, Price, Refund
from tests.scripted import HandClock, consuming, delivery, turns

from msgbus import Batch, Bus, Delivery, Depends, Limits, Message, Outgoing, RegistrationError, Router, Topic
from msgbus import headers as h
from msgbus.envelope.structured import STRUCTURED
from msgbus.message import Act, Address, Source

BOTH = Topic[Order | Refund]("both", Order | Refund)


async def handle(order: Order) -> None: ...
async def other(order: Order) -> None: ...
async def refund(refund: Refund) -> None: ...
async def price(ask: Ask) -> Price:
    return Price(sku=ask.sku, cents=1)


def test_a_decorated_function_is_the_same_function() -> None:
    bus = Bus()
    assert bus.subscriber(ORDERS, group="g")(handle) is handle
    assert bus.consumer(WORK)(handle) is handle
    assert bus.responder(PRICES)(price) is price


@pytest.mark.parametrize(
    ("decorate", "text"),
    [
        (lambda bus: bus.subscriber(WORK, group="g"), r"subscriber\(\) takes a Topic, got Queue\('work', Order\)"),
        (
            lambda bus: bus.consumer(WORK, batch=Batch())(handle),
            r"Queue\('work', Order\): batch= is for handlers of lists, handle takes single messages",
        ),
        (lambda bus: bus.subscriber(ORDERS, group="g", batch=Batch())(handle), "batch= is for handlers of lists"),
        (lambda bus: bus.consumer(ORDERS), r"consumer\(\) takes a Queue, got Topic"),
        (lambda bus: bus.responder(ORDERS), r"responder\(\) takes an Rpc, got Topic"),
        (lambda bus: bus.subscriber(ORDERS, group="a b"), r"Topic\('orders', Order\): group name 'a b'"),
        (lambda bus: bus.subscriber(ORDERS, group=""), r"group name ''"),
    ],
)
def test_the_wrong_thing_in_a_decorator_is_refused(decorate: Any, text: str) -> None:
    with pytest.raises(RegistrationError, match=text):
        decorate(Bus())


@pytest.mark.parametrize(
    ("decorate", "first", "second", "text"),
    [
        (lambda bus: bus.subscriber(ORDERS, group="g"), handle, other, "group 'g' of Topic.*handle and other"),
        (lambda bus: bus.consumer(WORK), handle, other, r"Queue\('work', Order\) has two handlers, handle and other"),
        (lambda bus: bus.responder(PRICES), price, price, r"Rpc\('prices', Ask, Price\) has two handlers"),
    ],
)
def test_a_second_handler_of_one_place_is_refused(decorate: Any, first: Any, second: Any, text: str) -> None:
    bus = Bus()
    decorate(bus)(first)
    with pytest.raises(RegistrationError, match=text):
        decorate(bus)(second)


def test_a_refused_handler_leaves_nothing_behind() -> None:
    bus = Bus()
    with pytest.raises(RegistrationError):
        bus.consumer(WORK)(lambda: None)  # type: ignore[arg-type, misc]
    assert bus.registrations == []
    bus.consumer(WORK)(handle)


def test_a_responder_of_lists_is_refused() -> None:
    async def many(asks: list[Ask]) -> Price:
        return Price(sku="", cents=0)

    with pytest.raises(RegistrationError, match=r"handler .*many takes a list; a responder answers one request"):
        Bus().responder(PRICES)(many)  # type: ignore[arg-type]


def test_routers_are_included_and_checked_against_each_other() -> None:
    one, two, bus = Router(), Router(), Bus()
    one.consumer(WORK)(handle)
    two.consumer(WORK)(other)
    bus.include(one)
    assert len(bus.registrations) == 1
    with pytest.raises(RegistrationError, match="two handlers"):
        bus.include(two)


async def test_handlers_of_a_router_run(clock: HandClock) -> None:
    router, bus = Router(), Bus(clock=clock)
    seen: list[str] = []

    @router.subscriber(ORDERS, group="g")
    async def see(order: Order) -> None:
        seen.append(order.order_id)

    bus.include(router)
    async with consuming(bus, clock):
        await bus.publish(ORDERS, Order(order_id="1"))
        await clock.until(lambda: seen)
    assert seen == ["1"]


async def test_each_member_of_a_union_goes_to_the_handler_that_took_it(clock: HandClock) -> None:
    bus = Bus(clock=clock)
    seen: list[Any] = []

    @bus.subscriber(BOTH.only(Order), group="g")
    async def on_order(order: Order) -> None:
        seen.append(order)

    @bus.subscriber(BOTH.only(Refund), group="g")
    async def on_refund(message: Message[Refund]) -> None:
        seen.append(message.payload)

    @bus.subscriber(BOTH, group="all")
    async def on_either(either: Order | Refund) -> None:
        seen.append(f"all {type(either).__name__}")

    @bus.subscriber(BOTH.only(Refund), group="refunds")
    async def on_refund_alone(refund: Refund) -> None:
        seen.append("refunds")

    async with consuming(bus, clock):
        await bus.publish(BOTH, Order(order_id="1"))
        await bus.publish(BOTH, Refund(order_id="2"))
        await clock.until(lambda: len(seen) == 5)
    assert Order(order_id="1") in seen
    assert Refund(order_id="2") in seen
    assert sorted(entry for entry in seen if isinstance(entry, str)) == ["all Order", "all Refund", "refunds"]


async def test_what_nobody_in_the_group_took_is_skipped_and_counted(clock: HandClock, scripted: OpenScripted) -> None:
    broker = scripted()
    bus = Bus("scripted://one", clock=clock)
    source = Source("topic", "both", "g")

    @bus.subscriber(BOTH.only(Order), group="g")
    async def on_order(order: Order) -> None: ...

    async with consuming(bus, clock):
        refund = delivery(source, "1", b'{"order_id": "1"}')
        refund.headers = {**refund.headers, h.TYPE: "Refund"}
        broker.feed("both", refund)
        await clock.until(lambda: broker.settled)
    assert broker.acts() == [(Act.ACK, "1")]
    assert bus.runners[0].subscription.stats.skipped == 1


async def test_a_foreign_event_finds_the_handler_of_its_type(clock: HandClock, scripted: OpenScripted) -> None:
    broker = scripted()
    bus = Bus("scripted://one", clock=clock)
    seen: list[Order] = []

    @bus.subscriber(BOTH.only(Order), group="g")
    async def on_order(order: Order) -> None:
        seen.append(order)

    body = b'{"specversion":"1.0","id":"7","type":"Order","data":{"order_id":"1"}}'
    async with consuming(bus, clock):
        broker.feed("both", Delivery(body, Source("topic", "both", "g"), {h.CONTENT_TYPE: STRUCTURED}))
        await clock.until(lambda: broker.settled)
    assert seen == [Order(order_id="1")]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({}, {"limits": Limits(concurrency=2)}),
        ({"limits": Limits(concurrency=2)}, {}),
    ],
)
def test_handlers_that_share_a_group_share_its_options(first: Any, second: Any) -> None:
    bus = Bus()
    bus.subscriber(BOTH.only(Order), group="g", **first)(handle)
    with pytest.raises(RegistrationError, match="share its options"):
        bus.subscriber(BOTH.only(Refund), group="g", **second)(refund)


@pytest.mark.parametrize("second", [BOTH.only(Order), BOTH])
def test_the_same_member_twice_is_refused(second: Any) -> None:
    async def both(either: Order | Refund) -> None: ...

    bus = Bus()
    bus.subscriber(BOTH.only(Order), group="g")(handle)
    with pytest.raises(RegistrationError, match="two handlers"):
        bus.subscriber(second, group="g")(both)


async def test_dependencies_are_given_closed_and_overridden(clock: HandClock) -> None:
    log: list[str] = []

    async def session() -> AsyncIterator[str]:
        log.append("open")
        yield "session"
        log.append("close")

    def settings() -> str:
        return "real"

    Session = Annotated[str, Depends(session)]  # noqa: N806 - a type
    Config = Annotated[str, Depends(settings)]  # noqa: N806
    bus = Bus(clock=clock)

    async def work(order: Order, given: Session, config: Config, more: int = 5) -> None:
        log.append(f"{order.order_id} {given} {config} {more}")

    work.__annotations__ |= {"given": Session, "config": Config}  # local names: not found by their text
    bus.consumer(WORK)(work)
    async with consuming(bus, clock):
        await bus.send(WORK, Order(order_id="1"))
        await clock.until(lambda: "close" in log)
        bus.dependencies.override(settings, lambda: "fake")
        await bus.send(WORK, Order(order_id="2"))
        await clock.until(lambda: log.count("close") == 2)
    assert log == ["open", "1 session real 5", "close", "open", "2 session fake 5", "close"]


async def test_a_handler_s_payload_is_not_validated_twice(clock: HandClock) -> None:
    """fast-depends is asked for dependencies alone."""
    bus = Bus(clock=clock)
    seen: list[Order] = []

    def five() -> int:
        return 5

    async def work(order: Order, number: int) -> None:
        seen.append(order)

    work.__annotations__["number"] = Annotated[int, Depends(five)]
    bus.consumer(WORK)(work)
    async with consuming(bus, clock):
        body = b'{"order_id": "1"}'
        await bus.links["memory://"].broker.send([Outgoing(Address("queue", "work"), "x", body, {})])
        await clock.until(lambda: seen)
        await turns()
    assert seen == [Order(order_id="1")]
