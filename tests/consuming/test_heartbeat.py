"""Leases: kept from the moment of receipt, up to a cap; a handler whose lease is lost is cancelled."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from tests.conftest import OpenScripted
from tests.models import WORK, Order, orders
from tests.scripted import PLAIN, HandClock, consuming, delivery

from msgbus import Bus, Lease, LeaseLost, Limits, Message, Retry, Throttled
from msgbus import headers as h
from msgbus.broker import QueueSpec
from msgbus.message import Act, Delivery, Source

SOURCE = Source("queue", "work")
LEASED = replace(PLAIN, lease=30.0, lease_extends=True)
BODY = b'{"order_id": "1"}'


async def test_a_long_handler_keeps_its_message(clock: HandClock) -> None:
    bus = Bus("memory://?lease=10", clock=clock)
    log: list[str] = []

    @bus.consumer(WORK)
    async def work(message: Message[Order]) -> None:
        log.append(f"attempt {message.attempt}")
        await clock.sleep(100.0)
        log.append("done")

    async with consuming(bus, clock):
        await bus.send(WORK, Order(order_id="1"))
        await clock.until(lambda: "done" in log)
        await clock.advance(30.0)
    assert log == ["attempt 1", "done"]


async def test_prefetched_messages_are_kept_too(clock: HandClock) -> None:
    bus = Bus("memory://?lease=10", clock=clock)
    log: list[str] = []

    @bus.consumer(WORK, limits=Limits(concurrency=1, prefetch=5))
    async def work(message: Message[Order]) -> None:
        log.append(f"{message.payload.order_id} {message.attempt}")
        await clock.sleep(25.0)

    async with consuming(bus, clock):
        await bus.publish_many(WORK, orders(*"1234"))
        await clock.until(lambda: len(log) == 4)
    assert log == ["1 1", "2 1", "3 1", "4 1"]


async def test_the_lease_that_was_asked_for_is_renewed_at_a_third_of_it(
    clock: HandClock, scripted: OpenScripted
) -> None:
    broker = scripted(LEASED)
    broker.feed("work", delivery(SOURCE, "1", BODY))
    bus = Bus("scripted://one", clock=clock)

    @bus.consumer(WORK, lease=Lease(seconds=60.0))
    async def work(order: Order) -> None:
        await clock.sleep(85.0)

    async with consuming(bus, clock):
        await clock.until(lambda: broker.settled)
    assert [(held.headers[h.ID], seconds) for held, seconds in broker.extended] == [("1", 60.0)] * 4


async def test_a_broker_whose_leases_can_t_be_extended_is_not_asked(clock: HandClock, scripted: OpenScripted) -> None:
    broker = scripted(replace(LEASED, lease_extends=False))
    broker.feed("work", delivery(SOURCE, "1", BODY))
    bus = Bus("scripted://one", clock=clock)

    @bus.consumer(WORK)
    async def work(order: Order) -> None:
        await clock.sleep(85.0)

    async with consuming(bus, clock):
        await clock.until(lambda: broker.settled)
    assert broker.extended == []


async def test_a_lost_lease_cancels_the_handler_and_nothing_is_settled(
    clock: HandClock, scripted: OpenScripted
) -> None:
    broker = scripted(LEASED)
    broker.feed("work", delivery(SOURCE, "1", BODY))
    broker.on_extend = lambda held: LeaseLost("too late")
    bus = Bus("scripted://one", clock=clock)
    cancelled: list[float] = []

    @bus.consumer(WORK)
    async def work(order: Order) -> None:
        try:
            await clock.sleep(1000)
        except asyncio.CancelledError:
            cancelled.append(clock.now())
            raise

    async with consuming(bus, clock):
        await clock.until(lambda: cancelled)
        await clock.advance(20.0)
        assert broker.settled == []
        assert bus.runners[0].subscription.stats.lost == 1


async def test_a_prefetched_message_whose_lease_is_lost_is_not_started(
    clock: HandClock, scripted: OpenScripted
) -> None:
    broker = scripted(LEASED)
    broker.feed("work", *(delivery(SOURCE, i, BODY) for i in "123"))
    broker.on_extend = lambda held: LeaseLost("too late") if held.headers[h.ID] == "2" else None
    bus = Bus("scripted://one", clock=clock)
    started: list[str] = []

    @bus.consumer(WORK, limits=Limits(concurrency=1, prefetch=10))
    async def work(message: Message[Order]) -> None:
        started.append(message.id)
        await clock.sleep(40.0)

    async with consuming(bus, clock):
        await clock.until(lambda: len(broker.settled) == 2)
    assert started == ["1", "3"]
    assert broker.acts() == [(Act.ACK, "1"), (Act.ACK, "3")]


async def test_a_receiver_that_keeps_leases_itself_says_what_it_lost(clock: HandClock, scripted: OpenScripted) -> None:
    broker = scripted(replace(LEASED, lease=None, lease_extends=False))
    deliveries = [delivery(SOURCE, i, BODY) for i in "123"]
    broker.feed("work", *deliveries)
    bus = Bus("scripted://one", clock=clock)
    log: list[str] = []

    @bus.consumer(WORK, limits=Limits(concurrency=1, prefetch=10))
    async def work(message: Message[Order]) -> None:
        log.append(f"{message.id} starts")
        try:
            await clock.sleep(10.0)
        except asyncio.CancelledError:
            log.append(f"{message.id} cancelled")
            raise

    async with consuming(bus, clock):
        await clock.until(lambda: log)
        lose = broker.receivers[0].on_lost
        assert lose is not None
        for each in deliveries[:2]:  # one is handled, one waits
            lose(each, LeaseLost("its shard has another owner"))
        await clock.until(lambda: broker.settled)
        assert bus.runners[0].subscription.stats.lost == 2
    assert log == ["1 starts", "1 cancelled", "3 starts"]
    assert broker.acts() == [(Act.ACK, "3")]


async def test_an_extension_that_fails_otherwise_is_tried_at_the_next_beat(
    clock: HandClock, scripted: OpenScripted
) -> None:
    broker = scripted(LEASED)
    broker.feed("work", delivery(SOURCE, "1", BODY))
    answers = [Throttled("slow down"), None, None, None, None]
    broker.on_extend = lambda held: answers.pop(0)
    bus = Bus("scripted://one", clock=clock)

    @bus.consumer(WORK)
    async def work(order: Order) -> None:
        await clock.sleep(35.0)

    async with consuming(bus, clock):
        await clock.until(lambda: broker.settled)
    assert broker.acts() == [(Act.ACK, "1")]
    assert len(broker.extended) >= 2


async def test_after_the_longest_time_the_handler_is_cancelled_and_it_counts(clock: HandClock) -> None:
    bus = Bus("memory://?lease=10", clock=clock)
    log: list[str] = []

    @bus.consumer(WORK, lease=Lease(longest=60.0), retry=Retry(attempts=2, first_delay=1.0))
    async def work(message: Message[Order]) -> None:
        log.append(f"attempt {message.attempt}")
        try:
            await clock.sleep(1000 if message.attempt == 1 else 1)
        except asyncio.CancelledError:
            log.append("cancelled")
            raise
        log.append("done")

    async with consuming(bus, clock):
        await bus.send(WORK, Order(order_id="1"))
        await clock.until(lambda: "done" in log)
    assert log == ["attempt 1", "cancelled", "attempt 2", "done"]


async def test_a_held_retry_beyond_the_longest_time_goes_back_and_frees_its_room(
    clock: HandClock, scripted: OpenScripted
) -> None:
    broker = scripted(replace(LEASED, retry_delay=None))
    broker.feed("work", delivery(SOURCE, "1", BODY), delivery(SOURCE, "2", BODY))
    bus = Bus("scripted://one", clock=clock)
    log: list[str] = []

    @bus.consumer(
        WORK,
        lease=Lease(longest=60.0),
        retry=Retry(first_delay=200.0, jitter=0.0),
        limits=Limits(concurrency=1, prefetch=1),
    )
    async def work(message: Message[Order]) -> None:
        log.append(message.id)
        if message.id == "1":
            raise ValueError

    async with consuming(bus, clock):
        await clock.until(lambda: "2" in log)
    assert broker.acts() == [(Act.RELEASE, "1"), (Act.ACK, "2")]


async def test_an_expired_lease_of_a_consumer_that_vanished_brings_the_message_back(clock: HandClock) -> None:
    bus = Bus("memory://?lease=10", clock=clock)
    seen: list[Delivery] = []

    @bus.consumer(WORK)
    async def work(message: Message[Order]) -> None:
        seen.append(message.delivery)

    async with bus:
        broker = bus.links["memory://?lease=10"].broker
        await broker.admin.ensure([QueueSpec(SOURCE)], "create")
        async with broker.receiver(SOURCE, prefetch=1) as vanished:
            await bus.send(WORK, Order(order_id="1"))
            assert len(await vanished.receive(1, 0.0)) == 1
            async with consuming(bus, clock):
                await clock.until(lambda: seen)
    assert seen[0].deliveries == 2
    assert seen[0].attempt == 2


@pytest.mark.parametrize("seconds", [0.0, 0.5])
def test_a_lease_too_short_to_renew_is_refused(seconds: float) -> None:
    with pytest.raises(Exception, match=r"Lease.seconds: at least 1 second"):
        Lease(seconds=seconds)
