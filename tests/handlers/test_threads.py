"""Handlers that are plain functions run in threads of their own, and count as any other handler does."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import logging
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import Annotated, Any

import pytest
from tests.conftest import OpenScripted
from tests.models import LINE, ORDERS, PRICES, WORK, Ask, Order, Price, orders
from tests.scripted import HandClock, consuming, delivery, turns

from msgbus import (
    Batch,
    Bus,
    BusError,
    Delivery,
    Depends,
    Disconnected,
    Failed,
    Limits,
    Message,
    Queue,
    RegistrationError,
    Retry,
    Settings,
    Topic,
    from_thread,
)
from msgbus.handlers.middleware import Handle
from msgbus.message import Act, Source
from msgbus.testing import TestBus

TENANT: contextvars.ContextVar[str] = contextvars.ContextVar("tenant", default="nobody")
AUDIT = Topic("audit", str)


class Gate:
    """What a thread waits for, and a test opens."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.opened = threading.Event()
        self.inside = 0
        self.most = 0
        self._lock = threading.Lock()
        self._entered = asyncio.Condition()

    def walk_through(self) -> None:
        """Called in a thread; it hangs here until the gate is open."""
        with self._lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        self.loop.call_soon_threadsafe(lambda: asyncio.ensure_future(self._tell()))
        self.opened.wait()
        with self._lock:
            self.inside -= 1

    async def _tell(self) -> None:
        async with self._entered:
            self._entered.notify_all()

    async def reach(self, count: int) -> None:
        """Until so many are inside."""
        async with self._entered:
            await self._entered.wait_for(lambda: self.inside >= count)


@pytest.fixture(autouse=True)
def _none_is_left() -> Iterator[None]:
    """Each test counts its own."""
    yield
    for thread in ours():
        thread.join()


@pytest.fixture
async def gate() -> AsyncIterator[Gate]:
    """It is open at the end, whatever happened: no thread is left."""
    gate = Gate()
    yield gate
    gate.opened.set()


def ours() -> list[threading.Thread]:
    """The threads of handlers."""
    return [thread for thread in threading.enumerate() if thread.name.startswith("msgbus ") and not thread.daemon]


async def until(condition: Callable[[], object]) -> None:
    """A thread has done its part: nothing in the loop tells."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0.001)


async def gone(threads: Sequence[threading.Thread]) -> None:
    """They end."""
    for thread in threads:
        await asyncio.to_thread(thread.join)


async def test_each_kind_of_handler_runs_in_a_thread_with_its_context() -> None:
    async def of_acme(delivery: Delivery, handle: Handle) -> None:
        TENANT.set("acme")
        await handle(delivery)

    bus = Bus(middlewares=[of_acme])
    places: dict[str, tuple[str, str]] = {}

    def note(what: str) -> None:
        places[what] = (threading.current_thread().name, TENANT.get())

    @bus.subscriber(ORDERS, group="one")
    def subscriber(order: Order) -> None:
        note("subscriber")

    @bus.subscriber(ORDERS, group="many")
    def many(batch: list[Message[Order]]) -> None:
        note("batch")

    @bus.consumer(WORK)
    def consumer(message: Message[Order]) -> None:
        note("consumer")

    @bus.responder(PRICES)
    def responder(ask: Ask) -> Price:
        note("responder")
        return Price(sku=ask.sku, cents=5)

    async with TestBus(bus) as test:
        await test.publish(ORDERS, Order(order_id="1"))
        await test.send(WORK, Order(order_id="2"))
        assert await test.request(PRICES, Ask(sku="tea")) == Price(sku="tea", cents=5)
        await test.settled()
        assert test.handled(subscriber) == test.handled(many) == [Order(order_id="1")]
        assert test.handled(consumer) == [Order(order_id="2")]
    assert {what: thread.rpartition("_")[0] for what, (thread, _) in places.items()} == {
        "subscriber": "msgbus topic orders (group one)",
        "batch": "msgbus topic orders (group many)",
        "consumer": "msgbus queue work",
        "responder": "msgbus queue prices",
    }
    assert {tenant for _, tenant in places.values()} == {"acme"}


async def test_what_it_raises_and_says_failed_of_is_tried_again() -> None:
    bus = Bus()

    @bus.consumer(WORK, retry=Retry(attempts=3, first_delay=60.0))
    def work(message: Message[Order]) -> None:
        if message.attempt < 3:
            raise ValueError("not yet")

    @bus.subscriber(ORDERS, group="many", retry=Retry(attempts=2), batch=Batch(size=3))
    def many(batch: list[Message[Order]]) -> list[Failed]:
        wrong = (i for i, message in enumerate(batch) if message.payload.order_id == "2" and message.attempt < 2)
        return [Failed(i, ValueError("not yet")) for i in wrong]

    async with TestBus(bus) as test:
        await test.send(WORK, Order(order_id="1"))
        await test.publish_many(ORDERS, orders("1", "2", "3"))
        await test.settled()
        assert test.handled(work) == orders("1")
        assert sorted(order.order_id for order in test.handled(many)) == ["1", "2", "3"]
        assert [attempt.outcome for attempt in test.attempts(work)] == ["retried", "retried", "handled"]


async def test_it_counts_as_running_and_the_loop_goes_on(gate: Gate) -> None:
    bus = Bus()

    @bus.consumer(WORK, limits=Limits(concurrency=2))
    def work(order: Order) -> None:
        gate.walk_through()

    @bus.subscriber(ORDERS, group="g")
    async def free(order: Order) -> None:
        seen.set()

    seen = asyncio.Event()
    async with bus.consuming():
        await bus.publish_many(WORK, orders("1", "2", "3", "4"))
        await gate.reach(2)
        await bus.publish(ORDERS, Order(order_id="1"))
        await seen.wait()
        assert gate.inside == 2
        threads = ours()
        gate.opened.set()
        await until(lambda: bus.runners[0].subscription.stats.handled == 4)
    assert gate.most == 2
    assert len(threads) == 2
    await gone(threads)


async def test_the_pool_is_closed_with_the_bus() -> None:
    bus = Bus()

    @bus.consumer(WORK)
    def work(order: Order) -> None: ...

    for _ in range(2):  # opened again, it has others
        async with TestBus(bus) as test:
            await test.send(WORK, Order(order_id="1"))
            await test.settled()
            threads = ours()
            assert len(threads) == 1
        await gone(threads)


async def test_an_async_handler_makes_none() -> None:
    bus = Bus()

    @bus.consumer(WORK)
    async def work(order: Order) -> None: ...

    async with TestBus(bus) as test:
        await test.send(WORK, Order(order_id="1"))
        await test.settled()
        assert not ours()


LOG: list[str] = []


def plain() -> Iterator[str]:
    yield "plain"
    LOG.append("plain ends")


async def looping(of: Annotated[str, Depends(plain)]) -> AsyncIterator[str]:
    yield f"loop of {of}"
    LOG.append("loop ends")


async def test_it_has_dependencies_of_both_forms() -> None:
    """As any other handler; a test puts an async one in place of a plain one."""
    bus = Bus()
    LOG.clear()

    async def other() -> str:
        return "another"

    @bus.consumer(WORK)
    def work(order: Order, given: Annotated[str, Depends(looping)], limit: int = 3) -> None:
        LOG.append(f"{order.order_id}, {given}, {limit}")

    async with TestBus(bus) as test:
        await test.send(WORK, Order(order_id="1"))
        await test.settled()
        test.override(plain, other)
        await test.send(WORK, Order(order_id="2"))
        await test.settled()
    assert LOG == ["1, loop of plain, 3", "loop ends", "plain ends", "2, loop of another, 3", "loop ends"]


class Service:
    """Handlers as methods and as instances."""

    def handle(self, order: Order) -> None: ...

    def __call__(self, order: Order) -> None: ...


def with_a_word(order: Order, *, word: str) -> None: ...


@pytest.mark.parametrize(
    "handler", [Service().handle, Service(), functools.partial(with_a_word, word="please"), lambda order: None]
)
async def test_whatever_can_be_called_is_a_handler(handler: Callable[[Order], None]) -> None:
    bus = Bus()
    bus.consumer(WORK)(handler)
    async with TestBus(bus) as test:
        await test.send(WORK, Order(order_id="1"))
        await test.settled()
        assert bus.runners[0].subscription.stats.handled == 1
        assert len(ours()) == 1


async def test_an_async_function_below_a_plain_decorator_is_awaited() -> None:
    """It says that it is plain: its coroutine must not be thrown away, and its message with it."""
    bus = Bus()
    done: list[str] = []

    def plainly(function: Callable[[Order], Awaitable[None]]) -> Callable[[Order], Awaitable[None]]:
        @functools.wraps(function)
        def call(order: Order) -> Awaitable[None]:
            return function(order)

        return call

    @bus.consumer(WORK)
    @plainly
    async def work(order: Order) -> None:
        await asyncio.sleep(0)
        done.append(order.order_id)

    async with TestBus(bus) as test:
        await test.send(WORK, Order(order_id="1"))
        await test.settled()
        assert done == ["1"]


def generator(order: Order) -> Iterator[Order]:
    yield order


async def async_generator(order: Order) -> AsyncIterator[Order]:
    yield order


@pytest.mark.parametrize("odd", [generator, async_generator, Order, functools.partial(generator)])
def test_what_would_not_run_is_refused(odd: Any) -> None:
    with pytest.raises(RegistrationError, match="must be a function without `yield`"):
        Bus().consumer(WORK)(odd)


def test_a_timeout_that_can_t_be_kept_is_refused() -> None:
    with pytest.raises(RegistrationError, match=r"Queue\('work', Order\): handler .*with_a_word.* limits.timeout"):
        Bus().consumer(WORK, limits=Limits(timeout=1.0))(functools.partial(with_a_word, word="please"))


@pytest.mark.parametrize("error", [StopIteration("odd"), asyncio.CancelledError(), BaseException("odd")])
async def test_odd_errors_are_those_of_their_message(error: BaseException) -> None:
    bus = Bus()

    @bus.consumer(WORK, retry=Retry(attempts=1))
    def work(order: Order) -> None:
        if order.order_id == "odd":
            raise error

    async with TestBus(bus) as test:
        await test.send(WORK, Order(order_id="odd"))
        await test.send(WORK, Order(order_id="fine"))
        await test.settled()
        assert [attempt.payload for attempt in test.dead(work)] == [Order(order_id="odd")]
        assert test.handled(work) == [Order(order_id="fine")]


# -- publishing from a thread


async def test_it_publishes_and_asks_and_what_it_causes_is_correlated() -> None:
    bus = Bus()
    wrong: list[BaseException] = []

    @bus.responder(PRICES)
    def price(ask: Ask) -> Price:
        return Price(sku=ask.sku, cents=7)

    @bus.consumer(WORK)
    def work(message: Message[Order]) -> None:
        answer = from_thread(bus.request(PRICES, Ask(sku="tea")))
        from_thread(bus.publish(AUDIT, f"{answer.cents} for {message.correlation_id}"))
        try:
            from_thread(bus.send(Queue("not there", str), "lost"))
        except BusError as error:
            wrong.append(error)

    @bus.subscriber(AUDIT, group="g")
    async def audit(message: Message[str]) -> None:
        assert message.payload == f"7 for {message.correlation_id}"

    async with TestBus(bus) as test:
        await test.send(WORK, Order(order_id="1"))
        await test.settled()
        assert len(test.handled(audit)) == 1
    assert len(wrong) == 1


async def test_a_dependency_that_is_a_plain_function_does_too() -> None:
    bus = Bus()

    def audited() -> None:
        from_thread(bus.publish(AUDIT, "begins"))

    @bus.consumer(WORK)
    async def work(order: Order, _: None = Depends(audited)) -> None: ...

    @bus.subscriber(AUDIT, group="g")
    async def audit(line: str) -> None: ...

    async with TestBus(bus) as test:
        await test.send(WORK, Order(order_id="1"))
        await test.settled()
        assert test.handled(audit) == ["begins"]


async def test_elsewhere_it_is_refused() -> None:
    """In the loop it would wait for itself."""
    bus = Bus()
    refused: list[str] = []

    async def nothing() -> None: ...

    @bus.consumer(WORK)
    async def work(order: Order) -> None:
        with pytest.raises(BusError, match="elsewhere use `await`") as error:
            from_thread(nothing())
        refused.append(str(error.value))

    async with TestBus(bus) as test:
        await test.send(WORK, Order(order_id="1"))
        await test.settled()
    assert len(refused) == 1
    with pytest.raises(BusError, match="elsewhere use `await`"):
        await asyncio.to_thread(from_thread, nothing())


# -- what can't be cancelled


async def test_a_stop_waits_for_it_within_the_grace(gate: Gate) -> None:
    bus = Bus()

    @bus.consumer(WORK)
    def work(order: Order) -> None:
        gate.walk_through()

    async with bus.consuming():
        await bus.send(WORK, Order(order_id="1"))
        await gate.reach(1)
        stats = bus.runners[0].subscription.stats
        asyncio.get_running_loop().call_later(0.01, gate.opened.set)
    assert (stats.handled, stats.lost) == (1, 0)


async def test_what_outlasts_the_grace_is_left_behind_and_comes_again(
    clock: HandClock, gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    bus = Bus(clock=clock, settings=Settings(grace=3.0))
    attempts: list[str] = []

    @bus.consumer(WORK)
    def work(order: Order) -> None:
        attempts.append(order.order_id)
        if len(attempts) == 1:
            gate.walk_through()

    async with bus:
        async with consuming(bus, clock):
            await bus.send(WORK, Order(order_id="1"))
            await gate.reach(1)
            threads = ours()
        assert [thread.is_alive() for thread in threads] == [True]
        async with consuming(bus, clock):
            flies = asyncio.create_task(clock.run())
            await until(lambda: len(attempts) == 2 and bus.runners[0].subscription.stats.handled)
            flies.cancel()
    gate.opened.set()
    await gone(threads)
    said = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    name = "test_what_outlasts_the_grace_is_left_behind_and_comes_again.<locals>.work"
    assert said == [
        f"queue work: {name} can't be cancelled in its thread: its message waits for its end",
        "queue work: 1 deliveries in hand are lost with their receiver",
        "queue work: stopped while running, after 3 s of grace, the message goes back",
        f"queue work: {name} still runs in its thread: the process does not end before it",
    ]


@pytest.mark.parametrize("fails", [False, True])
async def test_its_key_and_its_room_wait_for_its_end(
    gate: Gate, fails: bool, caplog: pytest.LogCaptureFixture, scripted: OpenScripted
) -> None:
    """Whatever cancels it, the next of its key must not begin beside it; and what it did is done."""
    broker = scripted()
    source = Source("queue", "work")
    bus = Bus("scripted://one", settings=Settings(url="scripted://one"))
    begun: list[str] = []

    @bus.consumer(WORK, limits=Limits(concurrency=1), retry=Retry(attempts=1))
    def work(order: Order) -> None:
        begun.append(order.order_id)
        gate.walk_through()
        if fails:
            raise ValueError("after all")

    async with bus.consuming():
        broker.feed("work", *(delivery(source, name, f'{{"order_id": "{name}"}}'.encode()) for name in ("1", "2")))
        await gate.reach(1)
        session = bus.runners[0].session
        assert session is not None
        first = next(iter(session.in_hand))
        session._fate.lost(first, BusError("held for too long"))
        await until(lambda: "can't be cancelled" in caplog.text)
        assert begun == ["1"]
        gate.opened.set()
        await until(lambda: len(broker.settled) == 2)
    assert begun == ["1", "2"]
    assert broker.acts() == [(Act.DEAD, "1"), (Act.DEAD, "2")] if fails else [(Act.ACK, "1"), (Act.ACK, "2")]
    assert str(broker.settled[0].error) == ("held for too long" if fails else "None")


async def test_a_lost_receiver_does_not_wait_for_it(
    scripted: OpenScripted, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its handlers get the time that others get to be cancelled; then another one is opened."""
    monkeypatch.setattr("msgbus.consuming.session._HARD_STOP", 0.01)
    broker = scripted()
    bus = Bus("scripted://one")
    source = Source("queue", "work")

    @bus.consumer(WORK)
    def work(order: Order) -> None:
        if order.order_id == "stuck":
            gate.walk_through()

    async with bus.consuming():
        broker.feed("work", delivery(source, "stuck", b'{"order_id": "stuck"}'))
        await gate.reach(1)
        broker.feed("work", Disconnected("gone"))
        broker.feed("work", delivery(source, "fine", b'{"order_id": "fine"}'))
        await until(lambda: broker.settled)
        assert [s.delivery.headers["ce-id"] for s in broker.settled] == ["fine"]
        gate.opened.set()


async def test_the_order_of_a_key_is_kept() -> None:
    bus = Bus()
    done: list[str] = []

    @bus.consumer(LINE, retry=Retry(first_delay=1.0))
    def work(message: Message[Order]) -> None:
        if message.payload.order_id == "2" and message.attempt == 1:
            raise ValueError("once")
        done.append(message.payload.order_id)

    async with TestBus(bus) as test:
        await test.publish_many(LINE, orders("1", "2", "3", "4"))
        await test.settled()
    assert done == ["1", "2", "3", "4"]


async def test_a_batch_is_cut_off_neither(clock: HandClock, gate: Gate) -> None:
    bus = Bus(clock=clock)
    done: list[int] = []

    @bus.consumer(WORK, batch=Batch(size=2, wait=0.0))
    def work(batch: list[Order]) -> None:
        gate.walk_through()
        done.append(len(batch))

    async with consuming(bus, clock):
        await bus.publish_many(WORK, orders("1", "2"))
        await gate.reach(1)
        bus.runners[0].session._workers.interrupt(BusError("cut off"))  # type: ignore[union-attr]
        await turns()
        assert gate.inside == 1
        gate.opened.set()
        await until(lambda: done)
