"""Stopping: softly, then hard; nothing is lost, nothing unstarted is kept, and it always ends."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from tests.conftest import OpenScripted
from tests.models import LINE, WORK, Order, orders
from tests.scripted import HandClock, ScriptedReceiver, consuming, delivery, turns

from msgbus import Bus, Disconnected, Limits, Message, Retry, Settings
from msgbus.message import Act, Delivery, Source

SOURCE = Source("queue", "work")


async def serve(bus: Bus, stop: asyncio.Event) -> None:
    """What a service does: consume until it is told to stop."""
    async with bus.consuming():
        await stop.wait()


async def test_running_handlers_end_and_unstarted_messages_go_back_without_an_attempt(clock: HandClock) -> None:
    bus = Bus(clock=clock)
    started = asyncio.Event()
    ended: list[str] = []

    @bus.consumer(WORK, limits=Limits(concurrency=1, prefetch=3))
    async def work(message: Message[Order]) -> None:
        started.set()
        await clock.sleep(5.0)
        ended.append(f"{message.payload.order_id} attempt {message.attempt}")

    async with bus:
        async with consuming(bus, clock):
            await bus.publish_many(WORK, orders("1", "2", "3", "4"))
            await started.wait()
        assert ended == ["1 attempt 1"]
        async with consuming(bus, clock):
            await clock.until(lambda: len(ended) == 4)
    assert ended == [f"{i} attempt 1" for i in (1, 2, 3, 4)]


async def test_after_the_grace_a_handler_is_cancelled_and_its_message_goes_back(clock: HandClock) -> None:
    bus = Bus(clock=clock, settings=Settings(grace=3.0))
    log: list[str] = []
    started = asyncio.Event()

    @bus.consumer(WORK, retry=Retry(first_delay=1.0, jitter=0))
    async def work(order: Order) -> None:
        log.append("started")
        if not started.is_set():
            started.set()
            try:
                await clock.sleep(1000)
            except asyncio.CancelledError:
                log.append(f"cancelled after {clock.now() - stopping:.0f} s")
                raise

    async with bus:
        async with consuming(bus, clock):
            await bus.send(WORK, Order(order_id="1"))
            await started.wait()
            stopping = clock.now()
        async with consuming(bus, clock):
            await clock.until(lambda: len(log) == 3)
    assert log == ["started", "cancelled after 3 s", "started"]


async def test_a_hard_stop_never_kills_the_message(clock: HandClock) -> None:
    """A deployment is not the message's fault, whatever `Retry` says of the handler's own errors."""
    bus = Bus(clock=clock, settings=Settings(grace=3.0))
    starts: list[int] = []

    @bus.consumer(WORK, retry=Retry(attempts=1))
    async def work(message: Message[Order]) -> None:
        starts.append(message.attempt)
        if len(starts) == 1:
            await clock.sleep(1000)

    async with bus:
        async with consuming(bus, clock):
            await bus.send(WORK, Order(order_id="1"))
            await clock.until(lambda: starts)
        async with consuming(bus, clock):
            await clock.until(lambda: len(starts) == 2)


async def test_held_retries_go_back_on_stop(clock: HandClock) -> None:
    bus = Bus(clock=clock)
    log: list[str] = []

    @bus.consumer(LINE, retry=Retry(first_delay=50.0, jitter=0))
    async def work(message: Message[Order]) -> None:
        log.append(f"{message.payload.order_id} attempt {message.attempt}")
        if message.attempt == 1 and message.payload.order_id == "1":
            raise ValueError("once")

    async with bus:
        async with consuming(bus, clock):
            await bus.publish_many(LINE, orders("1", "2"))
            await turns()
        assert log == ["1 attempt 1"]
        async with consuming(bus, clock):
            await clock.until(lambda: len(log) == 3)
    assert log == ["1 attempt 1", "1 attempt 2", "2 attempt 1"]


async def test_what_a_receive_brings_after_the_stop_is_released_unstarted(
    clock: HandClock, scripted: OpenScripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a long poll does that is on its way when the stop comes."""
    broker = scripted()
    bus = Bus("scripted://one", clock=clock)
    started: list[str] = []

    @bus.consumer(WORK)
    async def work(message: Message[Order]) -> None:
        started.append(message.id)
        await clock.sleep(0.1)

    async def stop(receiver: ScriptedReceiver) -> None:
        receiver.stopped = True

        async def answer() -> None:  # the long poll's answer is on its way
            await turns(5)
            broker.feed("work", delivery(SOURCE, "late", b'{"order_id": "1"}'))

        tasks.append(asyncio.create_task(answer()))

    tasks: list[asyncio.Task[None]] = []
    monkeypatch.setattr(ScriptedReceiver, "stop", stop)
    async with consuming(bus, clock):
        await turns()
    assert started == []
    assert broker.acts() == [(Act.RELEASE, "late")]


async def test_a_stop_while_the_broker_is_away_ends(clock: HandClock, scripted: OpenScripted) -> None:
    broker = scripted()
    bus = Bus("scripted://one", clock=clock)

    @bus.consumer(WORK)
    async def work(order: Order) -> None: ...

    async def on_connect() -> None:
        if broker.connects > 1:
            raise Disconnected("nobody answers")

    broker.on_connect = on_connect
    stop = asyncio.Event()
    service = asyncio.create_task(serve(bus, stop))
    broker.feed("work", Disconnected("gone"))
    await clock.until(lambda: broker.connects > 2)
    stop.set()
    await clock.until(service.done)


async def test_a_stop_while_a_receiver_opens_ends(clock: HandClock, scripted: OpenScripted) -> None:
    broker = scripted()
    bus = Bus("scripted://one", clock=clock)

    @bus.consumer(WORK)
    async def work(order: Order) -> None: ...

    async def on_open() -> None:
        await clock.sleep(2.0)

    broker.on_open = on_open
    stop = asyncio.Event()
    service = asyncio.create_task(serve(bus, stop))
    await turns()
    stop.set()
    await clock.until(service.done)


async def test_a_stop_with_unconfirmed_messages_while_the_broker_is_away_ends(
    clock: HandClock, scripted: OpenScripted
) -> None:
    broker = scripted()
    bus = Bus("scripted://one", clock=clock)

    async def send(batch: Sequence[object]) -> Sequence[Disconnected]:
        raise Disconnected("nobody answers")

    async def on_connect() -> None:
        if broker.connects > 1:
            raise Disconnected("nobody answers")

    broker.on_send, broker.on_connect = send, on_connect
    async with bus:
        publishing = [asyncio.create_task(bus.send(WORK, order, timeout=5.0)) for order in orders(*map(str, range(10)))]
        await clock.until(lambda: all(task.done() for task in publishing))
        assert all(isinstance(task.exception(), TimeoutError) for task in publishing)
        flies = asyncio.create_task(clock.run())
    flies.cancel()


async def test_a_cancelled_service_still_hands_back_what_it_holds(clock: HandClock) -> None:
    bus = Bus(clock=clock)
    started = asyncio.Event()
    ended: list[Delivery] = []

    @bus.consumer(WORK, limits=Limits(concurrency=1, prefetch=2))
    async def work(message: Message[Order]) -> None:
        started.set()
        await clock.sleep(1.0)
        ended.append(message.delivery)

    async with bus:

        async def run() -> None:
            async with consuming(bus, clock):
                await bus.publish_many(WORK, orders("1", "2"))
                await clock.sleep(1000)

        service = asyncio.create_task(run())
        await started.wait()
        service.cancel()
        await asyncio.wait([service])
        assert service.cancelled()
        assert len(ended) == 1
        backlog = await bus.links["memory://"].broker.admin.backlog(SOURCE)
        assert backlog is not None
        assert (backlog.depth, backlog.in_flight) == (1, 0)


async def test_settlements_are_flushed_before_the_receiver_is_closed(clock: HandClock, scripted: OpenScripted) -> None:
    broker = scripted()
    bus = Bus("scripted://one", clock=clock)

    @bus.consumer(WORK)
    async def work(order: Order) -> None: ...

    async with consuming(bus, clock):
        broker.feed("work", *(delivery(SOURCE, str(i), b'{"order_id": "1"}') for i in range(25)))
        await clock.until(lambda: bus.runners[0].subscription.stats.received == 25)
    assert sorted(broker.acts()[i][1] for i in range(25)) == sorted(map(str, range(25)))
    assert bus.runners[0].subscription.stats.handled == 25
    assert all(len(call) <= 10 for call in broker.settle_calls)


async def test_a_stop_of_what_ends_already_leaves_no_task_and_connects_no_more(
    clock: HandClock, scripted: OpenScripted
) -> None:
    """The receiver is dead and answers no more, and a handler takes its time to end."""
    broker = scripted()
    bus = Bus("scripted://one", clock=clock)
    started, cancelled, release, stop = (asyncio.Event() for _ in range(4))

    @bus.consumer(WORK)
    async def work(order: Order) -> None:
        started.set()
        try:
            await stop.wait()
        finally:
            cancelled.set()
            await release.wait()

    before = asyncio.all_tasks()
    serving = asyncio.create_task(serve(bus, stop))
    await clock.until(lambda: broker.receivers)
    broker.receivers[0].stop = asyncio.Event().wait  # type: ignore[assignment, method-assign]
    broker.feed("work", delivery(SOURCE, "1", b'{"order_id": "1"}'))
    await started.wait()
    broker.feed("work", Disconnected("gone"))
    await cancelled.wait()
    stop.set()
    await turns()
    release.set()
    await serving
    assert asyncio.all_tasks() == before
    assert broker.connects == 1
