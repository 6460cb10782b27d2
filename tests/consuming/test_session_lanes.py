"""Order per key: through held retries, retries given back, and lost leases."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from tests.conftest import OpenScripted
from tests.models import LINE, Order
from tests.scripted import PLAIN, HandClock, consuming, delivery

from msgbus import Bus, Delivery, Lease, LeaseLost, Limits, Message, Reject, Retry
from msgbus.message import Act, Source

SOURCE = Source("queue", "line", ordered=True)
ORDERED = replace(PLAIN, order="key")
KEEPS = replace(ORDERED, retry_keeps_order=True)


def head(message_id: str, lane: str) -> Delivery:
    """A delivery of a lane; the first character of its id is the lane by habit."""
    return delivery(SOURCE, message_id, b'{"order_id": "1"}', lane=lane)


def of(log: list[str], lane: str) -> list[str]:
    """What happened in one lane."""
    return [entry for entry in log if entry.startswith(lane)]


async def test_one_at_a_time_per_key_and_keys_side_by_side(clock: HandClock) -> None:
    bus = Bus(clock=clock)
    running: dict[str, int] = {}
    most_of_a_key = most_at_once = 0
    log: dict[str, list[str]] = {}

    @bus.consumer(LINE, limits=Limits(concurrency=8))
    async def work(order: Order) -> None:
        nonlocal most_of_a_key, most_at_once
        key = order.customer_id
        running[key] = running.get(key, 0) + 1
        most_of_a_key = max(most_of_a_key, running[key])
        most_at_once = max(most_at_once, sum(running.values()))
        await clock.sleep(1.0 if key == "a" else 0.3)
        running[key] -= 1
        log.setdefault(key, []).append(order.order_id)

    async with consuming(bus, clock):
        await bus.publish_many(LINE, [Order(order_id=str(i), customer_id=k) for i in range(6) for k in "abc"])
        await clock.until(lambda: sum(map(len, log.values())) == 18)
    assert most_of_a_key == 1
    assert most_at_once == 3
    assert log == {k: [str(i) for i in range(6)] for k in "abc"}


async def test_a_held_retry_keeps_its_lane_and_lets_the_others_go(clock: HandClock, scripted: OpenScripted) -> None:
    broker = scripted(replace(ORDERED, retry_delay=None))
    broker.feed("line", head("a1", "a"), head("a2", "a"), head("b1", "b"), head("b2", "b"))
    bus = Bus("scripted://one", clock=clock)
    log: list[str] = []

    @bus.consumer(LINE, retry=Retry(attempts=3, first_delay=10.0, jitter=0.0))
    async def work(message: Message[Order]) -> None:
        log.append(f"{message.id} {message.attempt}")
        if message.id == "a1" and message.attempt < 3:
            raise ValueError

    async with consuming(bus, clock):
        await clock.until(lambda: len(broker.settled) == 4)
    assert of(log, "a") == ["a1 1", "a1 2", "a1 3", "a2 1"]
    assert log[:3] == ["a1 1", "b1 1", "b2 1"]


async def test_a_native_retry_that_loses_order_is_not_used_on_an_ordered_source(
    clock: HandClock, scripted: OpenScripted
) -> None:
    broker = scripted(ORDERED)
    broker.feed("line", head("a1", "a"), head("a2", "a"))
    bus = Bus("scripted://one", clock=clock)
    log: list[str] = []

    @bus.consumer(LINE, retry=Retry(attempts=2, first_delay=200.0, jitter=0.0), lease=Lease(hold=5.0))
    async def work(message: Message[Order]) -> None:
        log.append(f"{message.id} {message.attempt}")
        if message.id == "a1" and message.attempt == 1:
            raise ValueError

    async with consuming(bus, clock):
        await clock.until(lambda: len(broker.settled) == 2)
    assert log == ["a1 1", "a1 2", "a2 1"]
    assert broker.acts() == [(Act.ACK, "a1"), (Act.ACK, "a2")]


async def test_a_long_retry_goes_back_with_its_followers(clock: HandClock, scripted: OpenScripted) -> None:
    broker = scripted(KEEPS)
    broker.feed("line", head("a1", "a"), head("a2", "a"), head("a3", "a"), head("b1", "b"))
    bus = Bus("scripted://one", clock=clock)
    log: list[str] = []

    @bus.consumer(LINE, retry=Retry(first_delay=100.0, jitter=0.0), lease=Lease(hold=60.0))
    async def work(message: Message[Order]) -> None:
        log.append(message.id)
        if message.id == "a1":
            raise ValueError

    async with consuming(bus, clock):
        await clock.until(lambda: len(broker.settled) == 4)
    assert log == ["a1", "b1"]
    assert [act for act in broker.acts() if act[1].startswith("a")] == [
        (Act.RETRY, "a1"),
        (Act.RELEASE, "a2"),
        (Act.RELEASE, "a3"),
    ]


async def test_a_short_retry_is_held_where_the_broker_keeps_order_too(clock: HandClock, scripted: OpenScripted) -> None:
    broker = scripted(KEEPS)
    broker.feed("line", head("a1", "a"), head("a2", "a"))
    bus = Bus("scripted://one", clock=clock)
    log: list[str] = []

    @bus.consumer(LINE, retry=Retry(first_delay=30.0, jitter=0.0), lease=Lease(hold=60.0))
    async def work(message: Message[Order]) -> None:
        log.append(message.id)
        if log == ["a1"]:
            raise ValueError

    async with consuming(bus, clock):
        await clock.until(lambda: len(broker.settled) == 2)
    assert log == ["a1", "a1", "a2"]
    assert broker.acts() == [(Act.ACK, "a1"), (Act.ACK, "a2")]


async def test_the_embedded_broker_keeps_order_through_long_retries(clock: HandClock) -> None:
    bus = Bus(clock=clock)
    log: list[str] = []

    @bus.consumer(LINE, retry=Retry(attempts=3, first_delay=100.0, jitter=0.0), lease=Lease(hold=10.0))
    async def work(message: Message[Order]) -> None:
        log.append(f"{message.payload.customer_id}{message.payload.order_id} {message.attempt}")
        if message.payload.order_id == "1" and message.attempt < 3:
            raise ValueError

    async with consuming(bus, clock):
        await bus.publish_many(LINE, [Order(order_id=str(i), customer_id=k) for i in (1, 2, 3) for k in "ab"])
        await clock.until(lambda: len(log) == 10, most=1000)
    for lane in "ab":
        assert of(log, lane) == [f"{lane}1 1", f"{lane}1 2", f"{lane}1 3", f"{lane}2 1", f"{lane}3 1"]


async def test_a_dead_head_lets_its_followers_go(clock: HandClock) -> None:
    bus = Bus(clock=clock)
    log: list[str] = []

    @bus.consumer(LINE)
    async def work(order: Order) -> None:
        log.append(order.order_id)
        if order.order_id == "1":
            raise Reject("bad")

    async with consuming(bus, clock):
        await bus.publish_many(LINE, [Order(order_id=i) for i in "123"])
        await clock.until(lambda: len(log) == 3)
    assert log == ["1", "2", "3"]


async def test_a_head_whose_lease_is_lost_takes_its_followers_with_it(clock: HandClock, scripted: OpenScripted) -> None:
    """The broker will deliver the head again: whoever starts a follower now has passed it."""
    broker = scripted(replace(KEEPS, lease=30.0, lease_extends=True))
    broker.feed("line", head("a1", "a"), head("a2", "a"))
    broker.on_extend = lambda held: LeaseLost("ran out") if held.headers["ce-id"] == "a1" else None
    bus = Bus("scripted://one", clock=clock)
    log: list[str] = []

    @bus.consumer(LINE)
    async def work(message: Message[Order]) -> None:
        log.append(message.id)
        if message.id == "a1":
            await clock.sleep(1000)

    async with consuming(bus, clock):
        await clock.until(lambda: bus.runners[0].subscription.stats.lost)
        await clock.advance(1.0)
    assert log == ["a1"]
    assert broker.acts() == [(Act.RELEASE, "a2")]


async def test_a_held_head_whose_lease_is_lost_takes_its_followers_with_it(
    clock: HandClock, scripted: OpenScripted
) -> None:
    broker = scripted(replace(KEEPS, lease=30.0, lease_extends=True))
    broker.feed("line", head("a1", "a"), head("a2", "a"))
    broker.on_extend = lambda held: LeaseLost("ran out") if held.headers["ce-id"] == "a1" else None
    bus = Bus("scripted://one", clock=clock)
    log: list[str] = []

    @bus.consumer(LINE, retry=Retry(first_delay=50.0, jitter=0.0))
    async def work(message: Message[Order]) -> None:
        log.append(message.id)
        if message.id == "a1":
            raise ValueError

    async with consuming(bus, clock):
        await clock.until(lambda: bus.runners[0].subscription.stats.lost)
        await clock.advance(1.0)
    assert log == ["a1"]
    assert broker.acts() == [(Act.RELEASE, "a2")]


async def test_what_is_lost_in_the_beat_in_which_its_head_is_lost_is_not_settled(
    clock: HandClock, scripted: OpenScripted
) -> None:
    broker = scripted(replace(KEEPS, lease=30.0, lease_extends=True))
    broker.feed("line", head("a1", "a"), head("a2", "a"), head("a3", "a"))
    broker.on_extend = lambda held: None if held.headers["ce-id"] == "a3" else LeaseLost("ran out")
    bus = Bus("scripted://one", clock=clock)

    @bus.consumer(LINE, retry=Retry(first_delay=50.0, jitter=0.0))
    async def work(order: Order) -> None:
        raise ValueError

    async with consuming(bus, clock):
        await clock.until(lambda: bus.runners[0].subscription.stats.lost == 2)
        await clock.advance(1.0)
    assert broker.acts() == [(Act.RELEASE, "a3")]


async def test_a_follower_whose_lease_is_lost_while_it_waits_is_not_settled(
    clock: HandClock, scripted: OpenScripted
) -> None:
    """It goes back with its head in the books only: the broker has taken it back already."""
    broker = scripted(KEEPS)
    broker.feed("line", head("a1", "a"), head("a2", "a"), head("a3", "a"))
    bus = Bus("scripted://one", clock=clock)
    go = asyncio.Event()

    @bus.consumer(LINE, retry=Retry(first_delay=300.0, jitter=0.0))
    async def work(message: Message[Order]) -> None:
        await go.wait()
        raise ValueError

    async with consuming(bus, clock):
        (runner,) = bus.runners
        await clock.until(lambda: runner.session is not None and len(runner.session.in_hand) == 3)
        assert runner.session is not None
        (waiting,) = [each for each in runner.session.in_hand if each.headers["ce-id"] == "a2"]
        lose = broker.receivers[0].on_lost
        assert lose is not None
        lose(waiting, LeaseLost("gone"))
        go.set()
        await clock.until(lambda: len(broker.settled) == 2)
    assert broker.acts() == [(Act.RETRY, "a1"), (Act.RELEASE, "a3")]
    assert runner.subscription.stats.lost == 1
