"""Retries through the whole bus: in place, held, given back; on the embedded broker and on one that can't delay."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest
from tests.conftest import OpenScripted
from tests.models import WORK, Order, orders
from tests.scripted import PLAIN, HandClock, consuming, delivery

from msgbus import Bus, Delivery, Limits, Message, Outgoing, Queue, Refused, Reject, Retry, RetryLater, Unavailable
from msgbus import headers as h
from msgbus.handlers.middleware import Handle
from msgbus.message import Act, Address, Settlement, Source

SOURCE = Source("queue", "work")
DEAD = Source("queue", "queue/work//dead")
BODY = b'{"order_id": "1"}'
HOLDS = replace(PLAIN, retry_delay=None)


async def dead_letters(bus: Bus) -> list[Delivery]:
    """What is in the dead-letter queue of `work`."""
    broker = bus.links["memory://"].broker
    dead = await broker.admin.dead_letters(SOURCE)
    assert dead is not None
    async with broker.receiver(dead, prefetch=100) as receiver:
        return list(await receiver.receive(100, 0.0))


async def test_retries_come_with_growing_delays_and_end_in_a_dead_letter(clock: HandClock) -> None:
    bus = Bus(clock=clock)
    starts: list[tuple[int, float]] = []
    began = clock.now()

    @bus.consumer(WORK, retry=Retry(attempts=4, in_place=1, first_delay=10.0, jitter=0.0))
    async def work(message: Message[Order]) -> None:
        starts.append((message.attempt, clock.now() - began))
        raise ValueError("never works")

    async with consuming(bus, clock):
        receipt = await bus.send(WORK, Order(order_id="1"), headers={"tenant": "t"})
        await clock.until(lambda: bus.runners[0].subscription.stats.dead)
        (dead,) = await dead_letters(bus)
    assert [attempt for attempt, _ in starts] == [1, 2, 3, 4]
    at = [time for _, time in starts]
    assert at[1] - at[0] < 0.1
    assert 10.0 <= at[2] - at[1] < 10.2
    assert 20.0 <= at[3] - at[2] < 20.2
    assert dead.headers[h.ID] == receipt.id
    assert dead.headers["tenant"] == "t"
    assert dead.headers[h.ERROR] == "never works"
    assert dead.headers[h.ATTEMPTS] == "4"
    assert dead.headers[h.ORIGIN] == "queue/work"


async def test_the_dead_letter_has_the_time_of_the_first_failure(clock: HandClock) -> None:
    bus = Bus(clock=clock)
    times: list[float] = []

    @bus.consumer(WORK, retry=Retry(attempts=3, first_delay=10.0, jitter=0.0))
    async def work(message: Message[Order]) -> None:
        times.append(clock.time())
        raise ValueError

    async with consuming(bus, clock):
        await bus.send(WORK, Order(order_id="1"))
        await clock.until(lambda: bus.runners[0].subscription.stats.dead)
        (dead,) = await dead_letters(bus)
    assert float(dead.headers[h.FIRST_FAILED]) == pytest.approx(times[0], abs=0.01)


async def test_held_retries_keep_the_time_of_the_first_failure_too(clock: HandClock, scripted: OpenScripted) -> None:
    broker = scripted(HOLDS)
    broker.feed("work", delivery(SOURCE, "1", BODY))
    bus = Bus("scripted://one", clock=clock)
    times: list[float] = []

    @bus.consumer(WORK, retry=Retry(attempts=3, first_delay=10.0, jitter=0.0))
    async def work(message: Message[Order]) -> None:
        times.append(clock.time())
        raise ValueError

    async with consuming(bus, clock):
        await clock.until(lambda: broker.settled)
    (settlement,) = broker.settled
    assert settlement.act is Act.DEAD
    assert settlement.headers is not None
    assert float(settlement.headers[h.FIRST_FAILED]) == pytest.approx(times[0], abs=0.01)


async def test_where_the_broker_can_t_delay_the_core_holds_the_message(
    clock: HandClock, scripted: OpenScripted
) -> None:
    broker = scripted(HOLDS)
    broker.feed("work", delivery(SOURCE, "1", BODY))
    bus = Bus("scripted://one", clock=clock)
    starts: list[tuple[int, float]] = []
    began = clock.now()

    @bus.consumer(WORK, retry=Retry(attempts=3, first_delay=10.0, jitter=0.0))
    async def work(message: Message[Order]) -> None:
        starts.append((message.attempt, clock.now() - began))
        if message.attempt < 3:
            raise ValueError

    async with consuming(bus, clock):
        await clock.until(lambda: broker.settled)
    assert [attempt for attempt, _ in starts] == [1, 2, 3]
    assert starts[1][1] >= 10.0
    assert starts[2][1] >= 30.0
    assert broker.acts() == [(Act.ACK, "1")]


async def test_where_the_broker_can_delay_it_gets_the_message_back(clock: HandClock, scripted: OpenScripted) -> None:
    broker = scripted()
    broker.feed("work", delivery(SOURCE, "1", BODY))
    bus = Bus("scripted://one", clock=clock)

    @bus.consumer(WORK, retry=Retry(attempts=3, first_delay=10.0, jitter=0.0))
    async def work(order: Order) -> None:
        raise ValueError

    async with consuming(bus, clock):
        await clock.until(lambda: broker.settled)
    (settlement,) = broker.settled
    assert (settlement.act, settlement.delay) == (Act.RETRY, 10.0)
    assert settlement.headers is not None
    assert settlement.headers[h.ATTEMPT] == "2"


async def test_retry_later_and_reject(clock: HandClock) -> None:
    bus = Bus(clock=clock)
    log: list[tuple[str, float]] = []
    began = clock.now()

    @bus.consumer(WORK)
    async def work(message: Message[Order]) -> None:
        log.append((f"{message.payload.order_id} {message.attempt}", round(clock.now() - began, 1)))
        if message.payload.order_id == "bad":
            raise Reject("no such customer")
        if message.attempt == 1:
            raise RetryLater("busy", delay=7.0)

    async with consuming(bus, clock):
        await bus.publish_many(WORK, orders("bad", "later"))
        await clock.until(lambda: len(log) == 3)
        (dead,) = await dead_letters(bus)
    assert log == [("bad 1", 0.0), ("later 1", 0.0), ("later 2", 7.0)]
    assert dead.headers[h.DEAD_REASON] == "no such customer"
    assert dead.headers[h.ATTEMPTS] == "1"


async def test_unavailable_is_retried_for_as_long_as_it_takes(clock: HandClock) -> None:
    bus = Bus(clock=clock)
    starts = 0

    @bus.consumer(WORK, retry=Retry(attempts=2, first_delay=1.0, max_delay=2.0, jitter=0.0))
    async def work(order: Order) -> None:
        nonlocal starts
        starts += 1
        if starts < 60:
            raise Unavailable("the registry is down")

    async with consuming(bus, clock):
        await bus.send(WORK, Order(order_id="1"))
        await clock.until(lambda: starts == 60 or bus.runners[0].subscription.stats.dead, most=5000)
    assert bus.runners[0].subscription.stats.dead == 0
    assert starts == 60


async def test_a_payload_that_is_none_is_dead_at_once_and_the_text_names_topic_and_field(clock: HandClock) -> None:
    bus = Bus(clock=clock)
    started: list[Order] = []

    @bus.consumer(WORK)
    async def work(order: Order) -> None:
        started.append(order)

    async with consuming(bus, clock):
        link = bus.links["memory://"]
        await link.broker.send([Outgoing(Address("queue", "work"), "x", b'{"order_id": 5, "customer_id": "c"}', {})])
        await clock.until(lambda: bus.runners[0].subscription.stats.dead)
        (dead,) = await dead_letters(bus)
    assert started == []
    assert dead.headers[h.ERROR_TYPE] == "DecodeError"
    assert "Queue('work', Order)" in dead.headers[h.ERROR]
    assert "order_id" in dead.headers[h.ERROR]


async def test_a_middleware_that_raises_counts_as_an_attempt(clock: HandClock) -> None:
    async def broken(delivery: Delivery, handle: Handle) -> None:
        raise ZeroDivisionError("a bug in the middleware")

    bus = Bus(clock=clock, middlewares=[broken])

    @bus.consumer(WORK, retry=Retry(attempts=3, first_delay=1.0))
    async def work(order: Order) -> None: ...

    async with consuming(bus, clock):
        await bus.send(WORK, Order(order_id="1"))
        await clock.until(lambda: bus.runners[0].subscription.stats.dead)
        (dead,) = await dead_letters(bus)
    assert dead.headers[h.ATTEMPTS] == "3"
    assert dead.headers[h.ERROR_TYPE] == "ZeroDivisionError"


async def test_on_dead_hooks_are_told_once_the_dead_letter_is_written(clock: HandClock) -> None:
    told: list[tuple[str, str, str, int]] = []

    async def own(delivery: Delivery, error: Exception) -> None:
        told.append(("own", delivery.headers[h.ID], str(error), len(await dead_letters(bus))))

    async def every(delivery: Delivery, error: Exception) -> None:
        told.append(("every", delivery.headers[h.ID], str(error), -1))

    async def broken(delivery: Delivery, error: Exception) -> None:
        raise ZeroDivisionError("a hook's own bug ends nothing")

    bus = Bus(clock=clock, on_dead=[broken, every])

    @bus.consumer(WORK, retry=Retry(attempts=1, on_dead=own))
    async def work(order: Order) -> None:
        raise ValueError("bad order")

    async with consuming(bus, clock):
        receipt = await bus.send(WORK, Order(order_id="1"))
        await clock.until(lambda: len(told) == 2)
        assert bus.health().ready
    assert sorted(told) == [("every", receipt.id, "bad order", -1), ("own", receipt.id, "bad order", 1)]


async def test_an_on_dead_hook_gets_what_the_handler_raised(clock: HandClock) -> None:
    told: list[Exception] = []

    async def hook(delivery: Delivery, error: Exception) -> None:
        told.append(error)

    bus = Bus(clock=clock)

    @bus.consumer(WORK, retry=Retry(attempts=1, on_dead=hook))
    async def work(order: Order) -> None:
        raise LookupError("bad order")

    async with consuming(bus, clock):
        await bus.send(WORK, Order(order_id="1"))
        await clock.until(lambda: told)
    assert isinstance(told[0], LookupError)


async def test_a_refused_dead_letter_leaves_the_message_with_the_broker(
    clock: HandClock, scripted: OpenScripted
) -> None:
    broker = scripted()
    broker.feed("work", delivery(SOURCE, "1", BODY))
    broker.on_settle = lambda settlement: Refused("too large") if settlement.act is Act.DEAD else None
    told: list[Delivery] = []

    async def hook(delivery: Delivery, error: Exception) -> None:
        told.append(delivery)

    bus = Bus("scripted://one", clock=clock, on_dead=[hook])

    @bus.consumer(WORK)
    async def work(order: Order) -> None:
        raise Reject("bad")

    async with consuming(bus, clock):
        await clock.until(lambda: len(broker.settled) == 3)
        assert bus.health().ready
    assert broker.acts() == [(Act.DEAD, "1"), (Act.DEAD, "1"), (Act.RETRY, "1")]
    full, slim, again = broker.settled
    assert h.ERROR in (full.headers or {})
    assert set(slim.headers or {}) == {h.ATTEMPT, h.DEAD_REASON, h.ORIGIN}
    assert again.delay >= 1.0
    assert told == []
    assert bus.runners[0].subscription.stats.dead == 0


async def test_a_refused_dead_letter_is_tried_again_where_the_message_can_t_go_back(
    clock: HandClock, scripted: OpenScripted
) -> None:
    broker = scripted(HOLDS)
    broker.feed("work", delivery(SOURCE, "1", BODY))
    answers = [Refused("no such queue"), Refused("no such queue"), None]
    broker.on_settle = lambda settlement: answers.pop(0)
    bus = Bus("scripted://one", clock=clock)

    @bus.consumer(WORK)
    async def work(order: Order) -> None:
        raise Reject("bad")

    async with consuming(bus, clock):
        await clock.until(lambda: not answers)
    assert broker.acts() == [(Act.DEAD, "1")] * 3
    assert bus.runners[0].subscription.stats.dead == 1


async def test_a_retry_that_is_refused_becomes_a_dead_letter(clock: HandClock, scripted: OpenScripted) -> None:
    broker = scripted()
    broker.feed("work", delivery(SOURCE, "1", BODY))
    broker.on_settle = lambda settlement: Refused("too large") if settlement.act is Act.RETRY else None
    bus = Bus("scripted://one", clock=clock)

    @bus.consumer(WORK)
    async def work(order: Order) -> None:
        raise ValueError("once more")

    async with consuming(bus, clock):
        await clock.until(lambda: len(broker.settled) == 2)
    assert broker.acts() == [(Act.RETRY, "1"), (Act.DEAD, "1")]
    assert "can't be sent again: too large" in (broker.settled[1].headers or {})[h.DEAD_REASON]


async def test_what_no_copy_can_be_made_of_is_released_after_a_while(clock: HandClock, scripted: OpenScripted) -> None:
    broker = scripted()
    broker.feed("work", delivery(SOURCE, "1", BODY), delivery(SOURCE, "2", BODY))
    copies = (Act.RETRY, Act.DEAD)
    broker.on_settle = lambda s: Refused("no") if s.act in copies and s.delivery.headers[h.ID] == "1" else None
    bus = Bus("scripted://one", clock=clock)

    @bus.consumer(WORK)
    async def work(message: Message[Order]) -> None:
        if message.id == "1":
            raise ValueError("once more")

    async with consuming(bus, clock):
        await clock.until(lambda: (Act.RELEASE, "1") in broker.acts())
    assert (Act.ACK, "2") in broker.acts()
    assert [act for act, number in broker.acts() if number == "1"] == [
        Act.RETRY,
        Act.DEAD,
        Act.DEAD,
        Act.RETRY,
        Act.RELEASE,
    ]


async def test_an_in_place_retry_on_a_broker_whose_bodies_are_text_sees_the_same_body(
    clock: HandClock, scripted: OpenScripted
) -> None:
    blobs = Queue("blobs", bytes)
    broker = scripted(replace(PLAIN, binary=False))
    source = Source("queue", "blobs")
    broker.feed(
        "blobs",
        Delivery(b"//79", source, {h.ID: "1", h.CONTENT_TYPE: "application/octet-stream", h.ENCODING: "base64"}),
    )
    bus = Bus("scripted://one", clock=clock)
    bodies: list[bytes] = []

    @bus.consumer(blobs, retry=Retry(attempts=3, in_place=2))
    async def work(body: bytes) -> None:
        bodies.append(body)
        if len(bodies) < 3:
            raise ValueError("once more")

    async with consuming(bus, clock):
        await clock.until(lambda: broker.settled)
    assert bodies == [b"\xff\xfe\xfd"] * 3
    assert broker.acts() == [(Act.ACK, "1")]


@pytest.mark.parametrize("holds", [True, False], ids=["held in hand", "the server takes no copies"])
async def test_what_waits_to_be_tried_again_takes_no_room_from_the_others(
    clock: HandClock, scripted: OpenScripted, *, holds: bool
) -> None:
    """Up to the prefetch. The window of few slow handlers is as small as their concurrency."""
    broker = scripted(replace(HOLDS if holds else PLAIN, settle_slots=2, receive_batch=100))
    taken = asyncio.Event()

    async def settling(batch: Sequence[Settlement]) -> None:
        if any(settlement.act is Act.RETRY for settlement in batch):
            await taken.wait()

    broker.on_settling = settling
    broker.feed("work", *(delivery(SOURCE, str(n), BODY) for n in range(30)))
    bus = Bus("scripted://one", clock=clock)
    done: list[str] = []

    @bus.consumer(WORK, limits=Limits(concurrency=2, prefetch=12), retry=Retry(first_delay=250.0, jitter=0.0))
    async def work(message: Message[Order]) -> None:
        if int(message.id) < 10 and message.attempt == 1:
            raise ValueError("later")
        done.append(message.id)

    async with consuming(bus, clock):
        await clock.until(lambda: len(done) == 20)
        taken.set()
    assert done == [str(n) for n in range(10, 30)]
