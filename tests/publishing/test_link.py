"""One connection: connecting again, and sending again what failed and nothing else."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence

import pytest
from tests.conftest import OpenScripted
from tests.models import ORDERS, WORK, Order, orders
from tests.scripted import HandClock, Result, ScriptedBroker, turns

from msgbus import (
    Bus,
    BusError,
    Disconnected,
    PublishFailed,
    Receipt,
    Refused,
    Settings,
    Throttled,
    Timeout,
    Unavailable,
)
from msgbus.message import Address, Outgoing
from msgbus.publishing.link import Link

ADDRESS = Address("queue", "work")


def entries(*ids: str) -> list[Outgoing]:
    """Messages with these ids."""
    return [Outgoing(ADDRESS, message_id, b"", {}) for message_id in ids]


def script(broker: ScriptedBroker, *answers: dict[str, Result] | Exception) -> None:
    """The results of each call by id, a Receipt for ids that are not named; an exception is raised."""
    waiting = list(answers)

    async def on_send(batch: Sequence[Outgoing]) -> Sequence[Result]:
        answer = waiting.pop(0) if waiting else {}
        if isinstance(answer, Exception):
            raise answer
        return [answer.get(out.id, Receipt(out.id)) for out in batch]

    broker.on_send = on_send


def ids(broker: ScriptedBroker) -> list[list[str]]:
    """The ids of each call of `send`."""
    return [[out.id for out in batch] for batch in broker.sent]


async def opened(broker: ScriptedBroker, clock: HandClock) -> Link:
    """A connected link."""
    link = Link(broker, "scripted", clock)
    await link.connect(10.0)
    return link


async def test_only_what_failed_is_sent_again(clock: HandClock) -> None:
    broker = ScriptedBroker()
    script(
        broker,
        {"b": Throttled("slow"), "c": Refused("too large"), "d": Unavailable("down")},
        {"d": Throttled("slow", retry_after=3.0)},
    )
    link = await opened(broker, clock)
    sending = asyncio.ensure_future(link.send(entries(*"abcd")))
    began = clock.now()
    await clock.until(sending.done)
    assert ids(broker) == [["a", "b", "c", "d"], ["b", "d"], ["d"]]
    results = sending.result()
    assert [type(result) for result in results] == [Receipt, Receipt, Refused, Receipt]
    assert clock.now() - began >= 3.0, "the broker asked for it"


async def test_a_cut_in_mid_send_connects_again_and_sends_all_again(clock: HandClock) -> None:
    broker = ScriptedBroker()
    script(broker, Disconnected("cut"), {"a": Disconnected("cut again")})
    link = await opened(broker, clock)
    sending = asyncio.ensure_future(link.send(entries("a", "b")))
    await clock.until(sending.done)
    assert ids(broker) == [["a", "b"], ["a", "b"], ["a"]]
    assert broker.connects == 3
    assert [type(result) for result in sending.result()] == [Receipt, Receipt]


async def test_many_that_lost_the_connection_cause_one_reconnect(clock: HandClock) -> None:
    broker = ScriptedBroker()
    script(broker, Disconnected("cut"))
    link = await opened(broker, clock)
    sending = [asyncio.ensure_future(link.send(entries(str(i)))) for i in range(5)]
    await clock.until(lambda: all(task.done() for task in sending))
    assert broker.connects == 2
    assert link.generation == 2


async def test_it_connects_with_back_off_until_it_can(clock: HandClock) -> None:
    broker = ScriptedBroker()
    times: list[float] = []

    async def on_connect() -> None:
        times.append(clock.now())
        if len(times) < 6:
            raise Disconnected("refused") if len(times) % 2 else Unavailable("starting")

    broker.on_connect = on_connect
    link = Link(broker, "scripted", clock)
    opening = asyncio.create_task(link.connect(60.0))
    await clock.until(opening.done)
    opening.result()
    assert len(times) == 6
    assert all(0 <= later - earlier <= 10.1 for earlier, later in itertools.pairwise(times))


async def test_the_first_connection_has_a_deadline_and_raises_the_broker_s_error(clock: HandClock) -> None:
    broker = ScriptedBroker()

    async def on_connect() -> None:
        raise Disconnected("connection refused: 10.0.0.1")

    broker.on_connect = on_connect
    link = Link(broker, "scripted", clock)
    opening = asyncio.create_task(link.connect(5.0))
    await clock.until(opening.done, most=6.0)
    with pytest.raises(Disconnected, match=r"10\.0\.0\.1"):
        opening.result()
    await link.close()


async def test_a_refused_connection_is_not_tried_again(clock: HandClock) -> None:
    broker = ScriptedBroker()

    async def on_connect() -> None:
        raise Refused("wrong password")

    broker.on_connect = on_connect
    with pytest.raises(Refused, match="wrong password"):
        await Link(broker, "scripted", clock).connect(60.0)
    assert broker.connects == 1


async def test_a_reconnect_that_is_refused_fails_those_who_wait_and_shows_in_health(
    clock: HandClock, scripted: OpenScripted
) -> None:
    broker = scripted()
    bus = Bus("scripted://one", clock=clock)
    async with bus:

        async def on_connect() -> None:
            broker.connected = False
            raise Refused("wrong password")

        broker.on_connect = on_connect
        script(broker, Disconnected("cut"))
        with pytest.raises(Refused, match="wrong password"):
            await bus.send(WORK, Order(order_id="1"))
        health = bus.health()
        assert not health.ready
        assert "wrong password" in " ".join(health.problems)


async def test_what_was_accepted_stays_accepted_when_the_rest_can_t_be_sent(
    clock: HandClock, scripted: OpenScripted
) -> None:
    broker = scripted()
    bus = Bus("scripted://one", clock=clock)
    async with bus:

        async def on_connect() -> None:
            raise Refused("wrong password")

        async def on_send(batch: Sequence[Outgoing]) -> Sequence[Result]:
            return [Receipt(batch[0].id), Disconnected("cut")]

        broker.on_connect, broker.on_send = on_connect, on_send
        with pytest.raises(PublishFailed) as failed:
            await bus.publish_many(WORK, orders("1", "2"))
        assert [type(result) for result in failed.value.results] == [Receipt, Refused]


async def test_a_publish_times_out_while_the_broker_is_away(clock: HandClock, scripted: OpenScripted) -> None:
    broker = scripted()
    bus = Bus("scripted://one", clock=clock, settings=Settings(publish_timeout=7.0))
    async with bus:

        async def on_connect() -> None:
            raise Disconnected("away")

        broker.on_connect = on_connect
        script(broker, *(Disconnected("cut") for _ in range(100)))
        began = clock.now()
        publishing = asyncio.create_task(bus.publish(ORDERS, Order(order_id="1")))
        await clock.until(publishing.done)
        with pytest.raises(Timeout, match=r"topic orders: not done within 7 s"):
            publishing.result()
        assert clock.now() - began <= 7.2


async def test_a_throttled_entry_does_not_hold_up_the_receipts_of_others(
    clock: HandClock, scripted: OpenScripted
) -> None:
    """They went out together because two tasks sent at the same time: they have nothing else in common."""
    broker = scripted()
    bus = Bus("scripted://one", clock=clock)

    async def on_send(batch: Sequence[Outgoing]) -> Sequence[Result]:
        await turns(3)
        return [Throttled("full") if out.address.name == "work" else Receipt(out.id) for out in batch]

    broker.on_send = on_send
    async with bus:
        stuck = [asyncio.create_task(bus.send(WORK, order, timeout=100.0)) for order in orders("1", "2", "3", "4")]
        fine = asyncio.create_task(bus.publish(ORDERS, Order(order_id="5"), timeout=100.0))
        await clock.until(fine.done, most=1.0)
        for task in stuck:
            task.cancel()
        flies = asyncio.create_task(clock.run())
    flies.cancel()


async def test_an_entry_whose_publisher_went_away_is_not_sent_again(clock: HandClock, scripted: OpenScripted) -> None:
    broker = scripted()
    bus = Bus("scripted://one", clock=clock)

    async def on_send(batch: Sequence[Outgoing]) -> Sequence[Result]:
        await turns(3)
        return [Receipt(out.id) for out in batch] if len(broker.sent) <= 2 else [Throttled("full")] * len(batch)

    broker.on_send = on_send
    async with bus:
        tasks = [asyncio.create_task(bus.send(WORK, order, timeout=2.0)) for order in orders(*"12345678")]
        await clock.until(lambda: all(task.done() for task in tasks))
        assert [type(task.exception()) for task in tasks] == [type(None)] * 2 + [Timeout] * 6
        before = len(broker.sent)
        await clock.advance(60.0)
        assert len(broker.sent) - before <= 2
        flies = asyncio.create_task(clock.run())
    flies.cancel()


async def test_closing_the_bus_ends_every_publish_of_other_tasks(clock: HandClock, scripted: OpenScripted) -> None:
    """As a broker that is blocked and answers nothing."""
    broker = scripted()
    bus = Bus("scripted://one", clock=clock)

    async def on_send(batch: Sequence[Outgoing]) -> Sequence[Result]:
        await clock.sleep(10_000)
        return []

    broker.on_send = on_send
    async with bus:
        tasks = [asyncio.create_task(bus.send(WORK, order, timeout=30.0)) for order in orders(*"12345678")]
        await turns()
        flies = asyncio.create_task(clock.run())
    flies.cancel()
    try:
        await clock.until(lambda: all(task.done() for task in tasks), most=60.0)
        assert all(isinstance(task.exception(), BusError) for task in tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def test_closing_ends_those_who_wait(clock: HandClock) -> None:
    broker = ScriptedBroker()
    link = await opened(broker, clock)

    async def on_connect() -> None:
        raise Disconnected("away")

    broker.on_connect = on_connect
    script(broker, *(Disconnected("cut") for _ in range(100)))
    sending = asyncio.ensure_future(link.send(entries("a")))
    await turns()
    await link.close()
    await turns()
    (result,) = sending.result()
    assert isinstance(result, BusError)


async def test_batches_that_fail_are_trouble_until_something_is_sent(
    clock: HandClock, scripted: OpenScripted, caplog: pytest.LogCaptureFixture
) -> None:
    """A broker without a connection has nothing else to tell health by."""
    broker, down = scripted(), True

    async def on_send(batch: Sequence[Outgoing]) -> Sequence[Result]:
        return [Unavailable("no connection") if down else Receipt(out.id) for out in batch]

    broker.on_send = on_send
    bus = Bus("scripted://one", clock=clock)
    async with bus:
        publishing = asyncio.ensure_future(bus.publish(ORDERS, Order(order_id="1"), timeout=600.0))
        await clock.until(lambda: not bus.health().ready)
        assert bus.health().problems == ("scripted://one: sending fails: Unavailable: no connection",)
        await clock.advance(60.0)
        assert not bus.health().ready
        down = False
        await clock.until(publishing.done)
        assert (bus.health().ready, bus.health().problems) == (True, ())
    assert "scripted://one: sending works again" in caplog.text


async def test_trouble_that_nobody_looks_at_again_is_forgotten(clock: HandClock, scripted: OpenScripted) -> None:
    """Who is not ready may get no work, and so nothing to publish: it must not stay so for good."""
    broker = scripted()

    async def on_send(batch: Sequence[Outgoing]) -> Sequence[Result]:
        return [Unavailable("no connection") for _ in batch]

    broker.on_send = on_send
    bus = Bus("scripted://one", clock=clock)
    async with bus:
        publishing = asyncio.ensure_future(bus.publish(ORDERS, Order(order_id="1"), timeout=10.0))
        await clock.until(publishing.done)
        assert isinstance(publishing.exception(), Timeout)
        assert not bus.health().ready
        await clock.advance(31.0)
        assert (bus.health().ready, bus.health().problems) == (True, ())


async def test_throttling_is_no_trouble(clock: HandClock, scripted: OpenScripted) -> None:
    broker = scripted()

    async def on_send(batch: Sequence[Outgoing]) -> Sequence[Result]:
        return [Throttled("slower") for _ in batch]

    broker.on_send = on_send
    bus = Bus("scripted://one", clock=clock)
    async with bus:
        publishing = asyncio.ensure_future(bus.publish(ORDERS, Order(order_id="1"), timeout=10.0))
        await clock.until(publishing.done)
        assert bus.health().ready
        assert isinstance(publishing.exception(), Timeout)
