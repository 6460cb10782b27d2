"""One odd message, error or cancellation stays with itself: neighbours are handled, and health tells the truth."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

import pytest
from tests.conftest import OpenScripted
from tests.models import LINE, WORK, Order
from tests.scripted import PLAIN, HandClock, consuming, delivery, turns

from msgbus import Batch, Bus, DecodeError, Disconnected, Limits, Message, ReceiverClosed, Refused, Retry, RetryLater
from msgbus import headers as h
from msgbus.message import Act, Delivery, Source

SOURCE = Source("queue", "work")
ONE_BY_ONE = Limits(concurrency=1)


class Speechless(Exception):
    """An error whose text can't be had."""

    def __str__(self) -> str:
        raise RuntimeError("no words")

    __repr__ = __str__


class Fatal(BaseException):
    """No Exception, as some test frameworks and servers raise."""


def numbered(count: int) -> list[Delivery]:
    """Good ones, from 1."""
    return [delivery(SOURCE, str(i), b'{"order_id": "%d"}' % i) for i in range(1, count + 1)]


def unreadable(message_id: str) -> Delivery:
    """What a receiver could not read."""
    odd = delivery(SOURCE, message_id)
    odd.fault = DecodeError("header x: type T with a time before the year 1")
    return odd


async def test_what_its_receiver_could_not_read_is_dead_with_the_reason(
    clock: HandClock, scripted: OpenScripted
) -> None:
    broker = scripted()
    broker.feed("work", *numbered(2), unreadable("odd"), *numbered(4)[2:])
    bus = Bus("scripted://one", clock=clock)
    seen: list[str] = []

    @bus.consumer(WORK)
    async def work(order: Order) -> None:
        seen.append(order.order_id)

    async with consuming(bus, clock):
        await clock.until(lambda: len(broker.settled) == 5)
    assert seen == ["1", "2", "3", "4"]
    (dead,) = [s for s in broker.settled if s.act is Act.DEAD]
    assert dead.delivery.headers[h.ID] == "odd"
    assert "type T with a time before" in dead.reason


async def test_in_a_batch_too(clock: HandClock, scripted: OpenScripted) -> None:
    broker = scripted()
    broker.feed("work", *numbered(2), unreadable("odd"))
    bus = Bus("scripted://one", clock=clock)
    seen: list[str] = []

    @bus.consumer(WORK, batch=Batch(size=3))
    async def work(orders: list[Order]) -> None:
        seen.extend(order.order_id for order in orders)

    async with consuming(bus, clock):
        await clock.until(lambda: len(broker.settled) == 3)
    assert seen == ["1", "2"]
    assert sorted(broker.acts(), key=str) == [(Act.ACK, "1"), (Act.ACK, "2"), (Act.DEAD, "odd")]


@pytest.mark.parametrize("awaits", [False, True])
async def test_a_handler_that_cancels_its_own_task_fails_alone(
    clock: HandClock, scripted: OpenScripted, awaits: bool
) -> None:
    broker = scripted()
    broker.feed("work", *numbered(6))
    bus = Bus("scripted://one", clock=clock)
    seen: list[str] = []

    @bus.consumer(WORK, limits=ONE_BY_ONE, retry=Retry(attempts=1))
    async def work(order: Order) -> None:
        if order.order_id == "2":
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            if not awaits:
                return
        await asyncio.sleep(0)
        seen.append(order.order_id)

    async with consuming(bus, clock):
        await clock.until(lambda: len(broker.settled) == 6)
    assert seen == ["1", "3", "4", "5", "6"]
    assert ((Act.DEAD if awaits else Act.ACK), "2") in broker.acts()


async def test_a_worker_that_is_cancelled_while_it_rests_goes_on(clock: HandClock, scripted: OpenScripted) -> None:
    broker = scripted()
    broker.feed("work", *numbered(1))
    bus = Bus("scripted://one", clock=clock)
    tasks: list[asyncio.Task[object] | None] = []

    @bus.consumer(WORK, limits=ONE_BY_ONE)
    async def work(order: Order) -> None:
        tasks.append(asyncio.current_task())

    async with consuming(bus, clock):
        await clock.until(lambda: tasks)
        await turns()
        (task,) = tasks
        assert task is not None
        task.cancel()
        await turns()
        broker.feed("work", *numbered(2)[1:])
        await clock.until(lambda: len(broker.settled) == 2)
        assert tasks == [task, task]
        assert len(broker.receivers) == 1


@pytest.mark.parametrize("error", [Speechless(), Fatal("x"), RetryLater(delay=float("nan")), RetryLater(delay=-5.0)])
async def test_an_odd_error_is_a_failure_of_its_message(
    clock: HandClock, scripted: OpenScripted, error: BaseException
) -> None:
    broker = scripted()
    broker.feed("work", *numbered(3))
    bus = Bus("scripted://one", clock=clock)

    @bus.consumer(WORK, limits=ONE_BY_ONE)
    async def work(order: Order) -> None:
        if order.order_id == "1":
            raise error

    async with consuming(bus, clock):
        await clock.until(lambda: len(broker.settled) == 3)
    (retry,) = [s for s in broker.settled if s.act is not Act.ACK]
    assert (retry.act, retry.delivery.headers[h.ID]) == (Act.RETRY, "1")
    assert 0 <= retry.delay < 3600


async def test_a_hook_that_raises_before_it_can_be_awaited_harms_nobody(
    clock: HandClock, scripted: OpenScripted
) -> None:
    broker = scripted()
    broker.feed("work", unreadable("odd"), *numbered(2))

    def hook(delivery: Delivery, error: Exception) -> None:
        raise ZeroDivisionError("a hook that is not even a coroutine")

    bus = Bus("scripted://one", clock=clock, on_dead=[hook])  # type: ignore[list-item]

    @bus.consumer(WORK)
    async def work(order: Order) -> None: ...

    async with consuming(bus, clock):
        await clock.until(lambda: len(broker.settled) == 3)
        assert len(broker.receivers) == 1


@pytest.mark.parametrize("error", [Refused("queue work was deleted"), ZeroDivisionError("a bug")])
async def test_a_subscription_that_breaks_leaves_its_neighbour_alone_and_comes_back(
    clock: HandClock, scripted: OpenScripted, error: Exception
) -> None:
    broker = scripted(replace(PLAIN, order="key"))
    bus = Bus("scripted://one", clock=clock)
    seen: list[str] = []

    @bus.consumer(WORK)
    async def work(order: Order) -> None:
        seen.append(f"work {order.order_id}")

    @bus.consumer(LINE)
    async def line(message: Message[Order]) -> None:
        seen.append(f"line {message.id}")

    async with consuming(bus, clock):
        broker.feed("work", *numbered(1))
        await clock.until(lambda: seen)
        broken = asyncio.Event()

        async def stays_broken() -> None:
            if not broken.is_set():
                raise error

        broker.on_open = stays_broken
        broker.feed("work", ReceiverClosed("the server closed it"))
        await clock.advance(20.0)
        health = bus.health()
        (broke,) = [each for each in health.subscriptions if each.state != "running"]
        assert (health.live, health.ready) == (True, False)
        assert (broke.source, broke.state) == (SOURCE, "broken")
        assert type(error).__name__ in broke.reason
        assert broke.failures > 3
        assert broke.since <= clock.time() - 15.0
        assert len(broker.receivers) == 2  # the neighbour's is the same
        broker.feed("line", delivery(Source("queue", "line"), "a", b'{"order_id": "a"}'))
        await clock.until(lambda: "line a" in seen)
        broken.set()
        broker.feed("work", *numbered(2)[1:])
        await clock.until(lambda: "work 2" in seen)
        assert bus.health().ready


async def test_a_receiver_that_dies_at_once_is_opened_again_after_ever_longer_pauses(
    clock: HandClock, scripted: OpenScripted
) -> None:
    broker = scripted()
    bus = Bus("scripted://one", clock=clock)

    @bus.consumer(WORK)
    async def work(order: Order) -> None: ...

    async with consuming(bus, clock):
        await turns()

        async def poison() -> None:
            broker.feed("work", Disconnected("a frame that can't be read"))

        broker.on_open = poison
        broker.feed("work", Disconnected("gone"))
        await clock.advance(100.0)
        assert 4 < len(broker.receivers) < 16
        assert bus.health().subscriptions[0].state == "broken"


async def test_a_subscription_whose_own_task_is_cancelled_is_opened_again(
    clock: HandClock, scripted: OpenScripted
) -> None:
    broker = scripted()
    bus = Bus("scripted://one", clock=clock)
    seen: list[str] = []

    @bus.consumer(WORK)
    async def work(order: Order) -> None:
        seen.append(order.order_id)

    async with consuming(bus, clock):
        await turns()
        own = bus.runners[0]._task
        assert own is not None
        own.cancel()
        await clock.until(lambda: len(broker.receivers) == 2)
        broker.feed("work", *numbered(1))
        await clock.until(lambda: seen)
        assert own.cancelled()


async def test_a_poller_that_is_cancelled_from_within_is_no_silent_end(
    clock: HandClock, scripted: OpenScripted, caplog: pytest.LogCaptureFixture
) -> None:
    broker = scripted()
    bus = Bus("scripted://one", clock=clock)
    seen: list[str] = []

    @bus.consumer(WORK)
    async def work(order: Order) -> None:
        seen.append(order.order_id)

    async with consuming(bus, clock):
        await turns()
        session = bus.runners[0].session
        assert session is not None
        assert session._polling is not None
        session._polling.cancel()
        with caplog.at_level(logging.WARNING, "msgbus.consume"):
            await clock.until(lambda: len(broker.receivers) == 2)
        broker.feed("work", *numbered(1))
        await clock.until(lambda: seen)
    assert "cancelled from within" in caplog.text


async def test_hundreds_of_bad_messages_are_not_logged_one_by_one(
    clock: HandClock, scripted: OpenScripted, caplog: pytest.LogCaptureFixture
) -> None:
    broker = scripted()
    broker.feed("work", *(unreadable(str(i)) for i in range(200)))
    bus = Bus("scripted://one", clock=clock)

    @bus.consumer(WORK)
    async def work(order: Order) -> None: ...

    async with consuming(bus, clock):
        while len(broker.settled) < 200:
            await turns()
        await clock.advance(61.0)
        broker.feed("work", unreadable("last"))
        await clock.until(lambda: len(broker.settled) == 201)
    lines = [record.getMessage() for record in caplog.records if record.name == "msgbus.handler"]
    assert len(lines) == 51
    assert "150 more like it were not logged" in lines[-1]


async def test_an_age_is_counted_from_the_first_sending(clock: HandClock, scripted: OpenScripted) -> None:
    broker = scripted()
    first = numbered(1)[0]
    first.sent_at = clock.time()
    broker.feed("work", first)
    bus = Bus("scripted://one", clock=clock)

    @bus.consumer(WORK, retry=Retry(attempts=100, max_age=50.0))
    async def work(order: Order) -> None:
        raise ValueError("never")

    async with consuming(bus, clock):
        await clock.until(lambda: broker.settled)
        copied = dict(broker.settled[0].headers or {})
        await clock.advance(60.0)
        again = delivery(SOURCE, "1", b'{"order_id": "1"}')
        again.headers = {**again.headers, **copied}
        again.attempt, again.sent_at = 2, clock.time()  # of the copy
        broker.feed("work", again)
        await clock.until(lambda: len(broker.settled) == 2)
    assert [act for act, _ in broker.acts()] == [Act.RETRY, Act.DEAD]


async def test_a_login_that_is_refused_once_is_tried_again(clock: HandClock, scripted: OpenScripted) -> None:
    broker = scripted()
    bus = Bus("scripted://one", clock=clock)
    seen: list[str] = []

    @bus.consumer(WORK)
    async def work(order: Order) -> None:
        seen.append(order.order_id)

    async def on_connect() -> None:
        if 1 < broker.connects < 4:
            raise Refused("the password is being changed")

    broker.on_connect = on_connect
    async with consuming(bus, clock):
        await turns()
        broker.feed("work", Disconnected("gone"))
        await clock.until(lambda: broker.connects == 2)
        health = bus.health()
        assert (health.live, health.ready) == (True, False)
        assert any("password" in problem for problem in health.problems)
        broker.feed("work", *numbered(1))
        await clock.until(lambda: seen)
        await turns()
        assert bus.health().ready


async def test_closed_receivers_count_as_failures_only_in_a_row(clock: HandClock, scripted: OpenScripted) -> None:
    broker = scripted()
    bus = Bus("scripted://one", clock=clock)

    @bus.consumer(WORK)
    async def work(order: Order) -> None: ...

    async with consuming(bus, clock):
        for _ in range(5):
            await clock.advance(10.0)
            broker.feed("work", ReceiverClosed("the server closed it"))
        await clock.advance(1.0)
        assert bus.health().subscriptions[0].failures == 1
