"""What has expired is seen by no handler, on every broker and every kind of handler: acknowledged and counted."""

from __future__ import annotations

import pytest
from tests.conftest import OpenScripted
from tests.models import WORK, Order
from tests.scripted import HandClock, consuming, delivery

from msgbus import Batch, Breaker, Bus, Delivery, Limits, Message, Retry, SendOptions
from msgbus import headers as h
from msgbus.message import Act, Source

SOURCE = Source("queue", "work")


def order(order_id: str, expires: str, **headers: str) -> Delivery:
    """An order that is wanted until `expires`."""
    body = b'{"order_id": "' + order_id.encode() + b'"}'
    return delivery(SOURCE, order_id, body, ce_expirytime=expires, **headers)


def several(clock: HandClock) -> list[Delivery]:
    """One that came too late, among others."""
    return [
        order("fresh", f"{clock.time() + 60:.3f}"),
        order("late", f"{clock.time() - 1:.3f}"),
        order("odd", "tomorrow"),
        order("dead", f"{clock.time() - 1:.3f}", msgbus_dead_reason="an earlier life"),
    ]


@pytest.mark.parametrize("batches", [False, True])
async def test_only_what_has_expired_is_dropped(clock: HandClock, scripted: OpenScripted, *, batches: bool) -> None:
    broker = scripted()
    broker.feed("work", *several(clock))
    bus = Bus("scripted://one", clock=clock)
    seen: list[str] = []

    async def one(order: Order) -> None:
        seen.append(order.order_id)

    async def many(batch: list[Order]) -> None:
        seen.extend(order.order_id for order in batch)

    if batches:
        bus.consumer(WORK, batch=Batch(size=10, wait=0.1))(many)
    else:
        bus.consumer(WORK)(one)
    async with consuming(bus, clock):
        (runner,) = bus.runners
        await clock.until(lambda: len(broker.settled) == 4)
    assert seen == ["fresh", "odd", "dead"]
    assert sorted(broker.acts(), key=str) == sorted(
        [(Act.ACK, each) for each in ("fresh", "late", "odd", "dead")], key=str
    )
    assert runner.subscription.stats.expired == 1


async def test_one_that_expires_while_it_waits_for_its_turn_is_dropped(
    clock: HandClock, scripted: OpenScripted
) -> None:
    broker = scripted()
    broker.feed("work", order("first", f"{clock.time() + 60:.3f}"), order("second", f"{clock.time() + 5:.3f}"))
    bus = Bus("scripted://one", clock=clock)
    seen: list[str] = []

    @bus.consumer(WORK, limits=Limits(concurrency=1))
    async def handle(order: Order) -> None:
        seen.append(order.order_id)
        await clock.sleep(10.0)

    async with consuming(bus, clock):
        await clock.until(lambda: len(broker.settled) == 2)
    assert seen == ["first"]


async def test_a_retry_after_its_time_is_dropped(clock: HandClock) -> None:
    bus = Bus(clock=clock)
    attempts: list[int] = []

    @bus.consumer(WORK, retry=Retry(attempts=5, first_delay=10.0, jitter=0.0))
    async def handle(message: Message[Order]) -> None:
        attempts.append(message.attempt)
        raise ValueError("not now")

    async with consuming(bus, clock):
        await bus.send(WORK, Order(order_id="1"), options=SendOptions(expires_in=15.0))
        await clock.advance(200.0)
    assert attempts == [1, 2]


def test_a_dead_letter_never_expires() -> None:
    assert h.has_expired({h.EXPIRES: "5"}, 5.0)
    assert not h.has_expired({h.EXPIRES: "5"}, 4.9)
    assert not h.has_expired({h.EXPIRES: "5", h.DEAD_REASON: ""}, 6.0)
    assert not h.has_expired({}, 6.0)


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("1970-01-01T00:00:06Z", 6.0),
        ("1970-01-01t01:00:06.5+01:00", 6.5),
        ("1970-01-01T00:00:06.123456789Z", 6.123456),
        ("1969-12-31T23:59:50Z", -10.0),
        ("1970-01-01T00:00:06", 6.0),
        ("6", 6.0),
        ("6.5", 6.5),
        ("1970-01-01T00:00:61Z", None),
        ("0000-01-01T00:00:00Z", None),
        ("0001-01-01T00:00:00+23:59", -62135683140.0),
        ("soon", None),
        ("2020-", None),
        ("nan", None),
        ("", None),
    ],
)
def test_a_time_is_read_in_the_form_of_cloudevents_and_in_seconds(text: str, time: float | None) -> None:
    assert h.time_of({h.EXPIRES: text}, h.EXPIRES) == time


def test_a_time_is_written_in_the_form_of_cloudevents() -> None:
    assert h.rfc3339(1.5) == "1970-01-01T00:00:01.500Z"
    assert h.rfc3339(253402300799.0) == "9999-12-31T23:59:59.000Z"


async def test_one_that_expired_in_a_batch_that_is_bisected_is_counted_once(
    clock: HandClock, scripted: OpenScripted
) -> None:
    broker = scripted()
    broker.feed("work", *(order(each, f"{clock.time() + 60:.3f}") for each in ("bad", "b", "c")), order("late", "5.0"))
    bus = Bus("scripted://one", clock=clock)

    @bus.consumer(WORK, batch=Batch(size=10, wait=0.1, bisect=True), retry=Retry(attempts=1))
    async def handle(batch: list[Order]) -> None:
        if any(each.order_id == "bad" for each in batch):
            raise ValueError

    async with consuming(bus, clock):
        await clock.until(lambda: len(broker.settled) == 4)
        stats = bus.runners[0].subscription.stats
    assert (stats.expired, stats.dead, stats.handled) == (1, 1, 3)


async def test_one_that_expired_does_not_close_the_breaker(clock: HandClock, scripted: OpenScripted) -> None:
    """The trial after a pause must be one that a handler sees: what waited through the pause may have expired in it."""
    broker = scripted()
    bus = Bus("scripted://one", clock=clock)

    @bus.consumer(WORK, limits=Limits(breaker=Breaker(failures=1, pause=10.0, on=(OSError,))), retry=Retry(attempts=1))
    async def handle(order: Order) -> None:
        raise OSError("down")

    async with consuming(bus, clock):
        broker.feed("work", order("1", f"{clock.time() + 900:.3f}"))
        await clock.until(lambda: len(broker.settled) == 1)
        broker.feed("work", order("late", "5.0"))
        await clock.until(lambda: (Act.ACK, "late") in broker.acts())
        breaker = bus.runners[0].policy.breaker
        assert breaker is not None
        assert not breaker.is_closed
