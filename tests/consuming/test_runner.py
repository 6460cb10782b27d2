"""A subscription outlives its receivers: reconnects, closed receivers, leases that are lost with them."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from tests.conftest import OpenScripted
from tests.models import LINE, WORK, Order
from tests.scripted import PLAIN, HandClock, consuming, delivery, turns

from msgbus import Bus, Disconnected, LeaseLost, Limits, Message, ReceiverClosed, Refused, Settings, Throttled
from msgbus.message import Act, Source

SOURCE = Source("queue", "work")


def work(message_id: str) -> bytes:
    """The body of an order."""
    return b'{"order_id": "' + message_id.encode() + b'"}'


async def test_after_a_disconnect_it_connects_again_and_opens_another_receiver(
    clock: HandClock, scripted: OpenScripted
) -> None:
    broker = scripted()
    broker.feed("work", delivery(SOURCE, "1", work("1")), Disconnected("gone"), delivery(SOURCE, "2", work("2")))
    bus = Bus("scripted://one", clock=clock)
    seen: list[str] = []

    @bus.consumer(WORK)
    async def handle(order: Order) -> None:
        seen.append(order.order_id)

    async with consuming(bus, clock):
        await clock.until(lambda: len(seen) == 2)
        assert broker.connects == 2
        assert [receiver.is_open for receiver in broker.receivers] == [False, True]


async def test_a_closed_receiver_is_opened_again_on_the_same_connection(
    clock: HandClock, scripted: OpenScripted
) -> None:
    broker = scripted()
    broker.feed("work", ReceiverClosed("the consumer was cancelled"), delivery(SOURCE, "1", work("1")))
    bus = Bus("scripted://one", clock=clock)
    seen: list[str] = []

    @bus.consumer(WORK)
    async def handle(order: Order) -> None:
        seen.append(order.order_id)

    async with consuming(bus, clock):
        await clock.until(lambda: seen)
        assert broker.connects == 1
        assert len(broker.receivers) == 2


async def test_handlers_that_run_when_the_receiver_dies_are_cancelled_and_never_settled(
    clock: HandClock, scripted: OpenScripted
) -> None:
    broker = scripted()
    broker.feed("work", delivery(SOURCE, "1", work("1")))
    bus = Bus("scripted://one", clock=clock)
    started: list[str] = []
    cancelled: list[str] = []

    @bus.consumer(WORK, limits=Limits(concurrency=1))
    async def handle(order: Order) -> None:
        started.append(order.order_id)
        if order.order_id == "1":
            try:
                await clock.sleep(1000)
            except asyncio.CancelledError:
                cancelled.append(order.order_id)
                raise

    async with consuming(bus, clock):
        await turns()
        broker.feed("work", Disconnected("gone"), delivery(SOURCE, "2", work("2")))
        await clock.until(lambda: "2" in started)
        await turns()
        assert cancelled == ["1"]
        assert broker.acts() == [(Act.ACK, "2")]


async def test_a_settlement_that_finds_the_connection_gone_reopens_the_receiver(
    clock: HandClock, scripted: OpenScripted
) -> None:
    broker = scripted()
    broker.feed("work", delivery(SOURCE, "1", work("1")))
    answers: list[Disconnected | None] = [Disconnected("gone while settling"), None]
    broker.on_settle = lambda settlement: answers.pop(0)
    bus = Bus("scripted://one", clock=clock)
    seen: list[str] = []

    @bus.consumer(WORK)
    async def handle(order: Order) -> None:
        seen.append(order.order_id)

    async with consuming(bus, clock):
        await clock.until(lambda: len(broker.receivers) == 2)
        broker.feed("work", delivery(SOURCE, "1", work("1")))
        await clock.until(lambda: not answers)
    assert seen == ["1", "1"]
    assert broker.connects == 2


async def test_a_receiver_that_is_throttled_when_it_opens_is_opened_again(
    clock: HandClock, scripted: OpenScripted
) -> None:
    broker = scripted()
    answers: list[Exception] = [Throttled("too many connections")]
    broker.feed("work", delivery(SOURCE, "1", work("1")))

    async def on_open() -> None:
        if answers:
            raise answers.pop()

    broker.on_open = on_open
    bus = Bus("scripted://one", clock=clock)
    seen: list[str] = []

    @bus.consumer(WORK)
    async def handle(order: Order) -> None:
        seen.append(order.order_id)

    async with consuming(bus, clock):
        await clock.until(lambda: seen)


async def test_a_receiver_that_is_refused_ends_consuming_with_the_broker_s_own_error(
    clock: HandClock, scripted: OpenScripted
) -> None:
    broker = scripted()

    async def on_open() -> None:
        raise Refused("queue work: access denied")

    broker.on_open = on_open
    bus = Bus("scripted://one", clock=clock)

    @bus.consumer(WORK)
    async def handle(order: Order) -> None: ...

    async def live() -> None:
        async with consuming(bus, clock):
            await clock.sleep(1000)

    with pytest.raises(Refused, match="access denied"):
        await live()


async def test_a_broker_that_refuses_the_reconnect_ends_consuming_where_it_is_told_to(
    clock: HandClock, scripted: OpenScripted
) -> None:
    broker = scripted()
    bus = Bus(settings=Settings(url="scripted://one", on_failure="exit"), clock=clock)

    @bus.consumer(WORK)
    async def handle(order: Order) -> None: ...

    async def on_connect() -> None:
        if broker.connects > 1:
            raise Refused("the password was changed")

    broker.on_connect = on_connect

    async def live() -> None:
        async with consuming(bus, clock):
            broker.feed("work", Disconnected("gone"))
            await clock.sleep(1000)

    with pytest.raises(Refused, match="password"):
        await live()


async def test_a_lost_lease_makes_room_for_the_next_message(clock: HandClock, scripted: OpenScripted) -> None:
    broker = scripted(replace(PLAIN, lease=30.0, lease_extends=True))
    broker.feed("work", delivery(SOURCE, "1", work("1")), delivery(SOURCE, "2", work("2")))

    broker.on_extend = lambda lost: LeaseLost("it ran out")
    bus = Bus("scripted://one", clock=clock)
    seen: list[str] = []

    @bus.consumer(WORK, limits=Limits(concurrency=1, prefetch=1))
    async def handle(message: Message[Order]) -> None:
        seen.append(message.id)
        if message.id == "1":
            await clock.sleep(1000)

    async with consuming(bus, clock):
        await clock.until(lambda: "2" in seen, most=100)
        await turns()
        assert broker.acts() == [(Act.ACK, "2")]
        assert bus.runners[0].subscription.stats.lost == 1


async def test_the_handlers_of_a_subscription_whose_sibling_dies_may_clean_up(
    clock: HandClock, scripted: OpenScripted
) -> None:
    broker = scripted(replace(PLAIN, order="key"))
    broker.feed("work", delivery(Source("queue", "work"), "a", b'{"order_id": "a"}'))
    bus = Bus(settings=Settings(url="scripted://one", on_failure="exit"), clock=clock)
    started, cleaned = asyncio.Event(), asyncio.Event()

    @bus.consumer(WORK)
    async def clean(order: Order) -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(1.5)  # longer than a client that swallows a cancellation is given
            assert broker.receivers[0].is_open
            cleaned.set()

    @bus.consumer(LINE)
    async def other(order: Order) -> None: ...

    async def serve() -> None:
        async with bus.consuming():
            await started.wait()
            broker.feed("line", ZeroDivisionError("a bug"))
            await asyncio.Event().wait()

    with pytest.raises(ZeroDivisionError):
        await serve()
    assert cleaned.is_set()
