"""The life of a Bus: connecting, nesting, lifespan, health, wiring to brokers, provisioning."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import cast

import pytest
from tests.conftest import OpenScripted
from tests.models import ORDERED, ORDERS, WORK, Ask, Order, Price
from tests.scripted import PLAIN, HandClock, ScriptedAdmin, consuming, turns

from msgbus import (
    Bus,
    BusError,
    ConfigError,
    Disconnected,
    PublishFailed,
    Queue,
    Refused,
    Rpc,
    Settings,
    Topic,
    Unavailable,
    brokers,
)
from msgbus.broker import Binding, Difference, Part, QueueSpec, Status, TopicSpec
from msgbus.message import Outgoing, Receipt, Source


async def test_a_bus_that_is_not_open_says_how_to_open_it() -> None:
    bus = Bus()
    with pytest.raises(Exception, match="the bus is not open: use `async with bus:`"):
        await bus.publish(ORDERS, Order(order_id="1"))


async def test_a_bus_can_be_opened_again() -> None:
    bus = Bus()
    for _ in range(2):
        async with bus:
            await bus.publish(ORDERS, Order(order_id="1"))
    with pytest.raises(BusError, match="not open"):
        await bus.publish(ORDERS, Order(order_id="1"))


async def test_nested_blocks_share_the_connection(scripted: OpenScripted) -> None:
    broker = scripted()
    bus = Bus("scripted://one")
    async with bus:
        async with bus, bus.consuming():
            await bus.publish(ORDERS, Order(order_id="1"))
        await bus.publish(ORDERS, Order(order_id="2"))
        assert broker.connected
    assert broker.connects == 1
    assert not broker.connected


async def test_handlers_run_once_however_many_blocks_consume(scripted: OpenScripted, clock: HandClock) -> None:
    """A web application's lifespan inside a TestBus, or beside `msgbus run`: no second set of consumers."""
    scripted()
    lives: list[str] = []

    @asynccontextmanager
    async def lifespan(bus: Bus) -> AsyncIterator[None]:
        lives.append("begins")
        yield
        lives.append("ends")

    bus = Bus("scripted://one", clock=clock, lifespan=lifespan)
    bus.subscriber(ORDERS, group="g")(_handle)
    async with consuming(bus, clock):
        runners = bus.runners
        async with bus.consuming() as shared:
            assert shared is bus
            assert bus.runners is runners
            await bus.publish(ORDERS, Order(order_id="1"))
        assert [each.life.now.state for each in bus.runners] != ["stopped"]
        assert lives == ["begins"]
    assert lives == ["begins", "ends"]
    async with consuming(bus, clock):
        assert bus.runners is not runners
    assert lives == ["begins", "ends"] * 2


async def test_who_shares_a_start_that_fails_is_told_so(scripted: OpenScripted, clock: HandClock) -> None:
    scripted()

    @asynccontextmanager
    async def lifespan(bus: Bus) -> AsyncIterator[None]:
        await turns()
        raise LookupError("no database")
        yield

    bus = Bus("scripted://one", clock=clock, lifespan=lifespan)
    results = await asyncio.gather(_consume(bus), _consume(bus), return_exceptions=True)
    assert [str(each) for each in results] == ["no database"] * 2


async def test_two_tasks_that_open_a_bus_both_find_it_open(scripted: OpenScripted, clock: HandClock) -> None:
    broker = scripted()

    async def on_connect() -> None:
        await clock.sleep(1.0)

    broker.on_connect = on_connect
    bus = Bus("scripted://one", clock=clock)

    async def use() -> str:
        async with bus:
            return (await bus.publish(ORDERS, Order(order_id="1"))).id

    tasks = [asyncio.create_task(use()) for _ in range(2)]
    await clock.until(lambda: all(task.done() for task in tasks))
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(result, str) for result in results), results


async def test_a_bus_that_could_not_be_opened_can_be_tried_again(scripted: OpenScripted) -> None:
    broker = scripted()
    answers = [Refused("wrong password")]

    async def on_connect() -> None:
        if answers:
            raise answers.pop()

    broker.on_connect = on_connect
    bus = Bus("scripted://one")
    with pytest.raises(Refused):
        await bus.__aenter__()
    async with bus:
        await bus.publish(ORDERS, Order(order_id="1"))


async def test_a_bus_whose_settings_were_bad_can_be_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    bus = Bus()
    monkeypatch.setenv("MSGBUS_CONCURRENCY", "many")
    with pytest.raises(ConfigError):
        await bus.__aenter__()
    monkeypatch.delenv("MSGBUS_CONCURRENCY")
    async with bus:
        await bus.publish(ORDERS, Order(order_id="1"))


async def test_when_one_broker_can_t_be_reached_the_others_are_let_go(scripted: OpenScripted, clock: HandClock) -> None:
    slow, broken = scripted(name="slow"), scripted(name="broken")

    async def slowly() -> None:
        await clock.sleep(5.0)

    async def refuse() -> None:
        raise Refused("wrong password")

    slow.on_connect, broken.on_connect = slowly, refuse
    settings = Settings(url="scripted://slow", routes={"work": "scripted://broken"})
    with pytest.raises(Refused, match="wrong password"):
        await Bus(settings=settings, clock=clock).__aenter__()
    await clock.advance(20.0)
    assert not slow.connected


async def test_topics_and_queues_go_to_the_brokers_that_the_routes_name(scripted: OpenScripted) -> None:
    one, two = scripted(name="one"), scripted(name="two")
    settings = Settings(url="scripted://one", routes={"work": "scripted://two"})
    async with Bus(settings=settings) as bus:
        await bus.publish(ORDERS, Order(order_id="1"))
        await bus.send(WORK, Order(order_id="2"))
    assert [batch[0].address.name for batch in one.sent] == ["orders"]
    assert [batch[0].address.name for batch in two.sent] == ["work"]


async def test_the_environment_decides_the_broker(scripted: OpenScripted, monkeypatch: pytest.MonkeyPatch) -> None:
    broker = scripted()
    monkeypatch.setenv("MSGBUS_URL", "scripted://one")
    async with Bus() as bus:
        await bus.publish(ORDERS, Order(order_id="1"))
    assert len(broker.sent) == 1


async def test_the_lifespan_surrounds_the_handlers(clock: HandClock) -> None:
    log: list[str] = []

    @asynccontextmanager
    async def lifespan(bus: Bus) -> AsyncIterator[None]:
        log.append("up")
        await bus.publish(ORDERS, Order(order_id="from the lifespan"))
        yield
        log.append("down")

    bus = Bus(clock=clock, lifespan=lifespan)

    @bus.subscriber(ORDERS, group="g")
    async def handle(order: Order) -> None:
        log.append(order.order_id)
        await clock.sleep(1.0)
        log.append("handled")

    async with bus:
        assert log == [], "only consuming() has a lifespan"
        async with consuming(bus, clock):
            await turns()
    assert log == ["up", "from the lifespan", "handled", "down"]


async def test_health(scripted: OpenScripted, clock: HandClock, monkeypatch: pytest.MonkeyPatch) -> None:
    broker = scripted()
    bus = Bus("scripted://one", clock=clock)
    closed = bus.health()
    assert (closed.live, closed.ready, closed.problems) == (True, False, ("the bus is not open",))
    async with bus:
        assert bus.health().ready
        monkeypatch.setattr(broker, "status", lambda: Status(True, blocked=True, reason="memory alarm"))
        health = bus.health()
        assert (health.live, health.ready, health.problems) == (True, False, ("scripted://one: memory alarm",))
        monkeypatch.setattr(broker, "status", lambda: Status(False))
        assert bus.health().problems == ("scripted://one: not connected",)


async def test_what_is_taken_must_be_of_the_right_kind() -> None:
    async with Bus() as bus:
        with pytest.raises(ConfigError, match=r"got Queue\('work', Order\): publish\(\) takes a Topic"):
            await bus.publish(cast(Topic[Order], WORK), Order(order_id="1"))
        with pytest.raises(ConfigError, match=r"got Topic\('orders', Order\).*send\(\) a Queue"):
            await bus.send(cast(Queue[Order], ORDERS), Order(order_id="1"))
        with pytest.raises(ConfigError, match=r"request\(\) takes an Rpc, got Topic"):
            await bus.request(cast(Rpc[Ask, Price], ORDERS), Ask(sku="a"))


async def test_what_was_published_before_must_be_of_the_right_kind_too() -> None:
    """Whatever was opened for one verb is not there for another one."""
    async with Bus() as bus:
        await bus.publish(ORDERS, Order(order_id="1"))
        with pytest.raises(PublishFailed):  # nobody has made the queue; its outlet is known now
            await bus.publish_many(WORK, [Order(order_id="1")])
        with pytest.raises(ConfigError, match=r"got Topic\('orders', Order\).*send\(\) a Queue"):
            await bus.send(cast(Queue[Order], ORDERS), Order(order_id="1"))
        with pytest.raises(ConfigError, match=r"got Queue\('work', Order\): publish\(\) takes a Topic"):
            await bus.publish(cast(Topic[Order], WORK), Order(order_id="1"))


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("kafka://x", "no broker for the scheme 'kafka'; there are .*memory"),
        ("nonsense", "no broker for the scheme ''"),
        ("memory://?depht=5", "no option 'depht'; there are lease, depth"),
        ("memory://?depth=many", "depth='many' is no int"),
    ],
)
async def test_a_url_that_can_t_work_is_refused_at_start(url: str, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        await Bus(url).__aenter__()


@pytest.mark.parametrize(
    ("variables", "text"),
    [
        ({"MSGBUS_URL": "kafka://x"}, "MSGBUS_URL: 'kafka://x': no broker for the scheme 'kafka'"),
        ({"MSGBUS_URL": ""}, "MSGBUS_URL is ''"),
        ({"MSGBUS_ROUTES": '{"orders": "kafka://x"}'}, "the route 'orders': 'kafka://x': no broker"),
    ],
)
async def test_the_setting_of_a_url_that_can_t_work_is_named(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], text: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=text):
        await Bus().__aenter__()


async def test_what_is_asked_at_start_is_tried_as_long_as_connecting(clock: HandClock, scripted: OpenScripted) -> None:
    """Brokers on AWS have no connection: what their server is asked first is what fails where it is away."""
    broker, asked, away = scripted(), 0, 0

    async def ensure(topology: Sequence[Part], mode: str) -> Sequence[Difference]:
        nonlocal asked
        asked += 1
        if asked < away:
            raise Unavailable("no connection to it")
        return ()

    for failures, raises in ((4, False), (1_000, True)):
        asked, away, bus = 0, failures, Bus("scripted://one", clock=clock, settings=Settings(connect_timeout=7.0))
        bus.subscriber(ORDERS, group="g")(_handle)
        broker.admin.ensure = ensure  # type: ignore[method-assign]
        began = clock.now()
        running = asyncio.ensure_future(_consume(bus))
        await clock.until(running.done)
        assert isinstance(running.exception(), Unavailable) is raises
        if raises:
            assert clock.now() - began == pytest.approx(7.0)


async def test_a_connection_that_is_lost_at_start_is_made_again_and_no_longer_than_that(
    clock: HandClock, scripted: OpenScripted
) -> None:
    broker, lost, wanted = scripted(), 0, 0

    async def ensure(topology: Sequence[Part], mode: str) -> Sequence[Difference]:
        nonlocal lost
        if broker.connects <= wanted:
            lost += 1
            raise Disconnected("gone")
        return ()

    async def on_connect() -> None:
        if broker.connects > 2:
            raise Disconnected("still gone")

    for connections, raises in ((1, False), (1_000, True)):
        wanted, broker.connects, bus = connections, 0, _service(clock)
        broker.admin.ensure = ensure  # type: ignore[method-assign]
        broker.on_connect = on_connect
        began, running = clock.now(), asyncio.ensure_future(_consume(bus))
        await clock.until(running.done)
        assert isinstance(running.exception(), Disconnected) is raises
        assert clock.now() - began < 8.0
    assert lost > 2


def _service(clock: HandClock) -> Bus:
    bus = Bus("scripted://one", clock=clock, settings=Settings(connect_timeout=7.0))
    bus.subscriber(ORDERS, group="g")(_handle)
    return bus


async def _handle(order: Order) -> None:
    """A handler that does nothing."""


async def _consume(bus: Bus) -> None:
    async with bus.consuming():
        pass


async def test_a_missing_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(brokers.BUILT_IN, "odd", ("no_such_client_module", "OddBroker", "odd"))
    with pytest.raises(ConfigError, match=r"odd://x: no_such_client_module is missing.*pip install 'msgbus\[odd\]'"):
        await Bus("odd://x").__aenter__()


async def test_topology_is_made_with_the_prefix(scripted: OpenScripted) -> None:
    broker = scripted(replace(PLAIN, order="key"))
    bus = Bus("scripted://one", settings=Settings(prefix="test-"))

    @bus.subscriber(ORDERED, group="billing")
    async def handle(order: Order) -> None: ...

    @bus.consumer(WORK)
    async def work(order: Order) -> None: ...

    async with bus.consuming():
        pass
    assert isinstance(broker.admin, ScriptedAdmin)
    topic, queue, binding, work_queue = broker.admin.ensured
    source = Source("topic", "test-ordered", "billing", ordered=True)
    assert topic == TopicSpec("test-ordered", ordered=True)
    assert isinstance(queue, QueueSpec)
    assert queue.source == source
    assert queue.max_deliveries is not None
    assert binding == Binding("test-ordered", source)
    assert isinstance(work_queue, QueueSpec)
    assert work_queue.source == Source("queue", "test-work")
    assert [source for source, _ in bus.sources()] == [source, Source("queue", "test-work")]


async def test_verify_lists_all_that_differs(scripted: OpenScripted) -> None:
    broker = scripted()
    assert isinstance(broker.admin, ScriptedAdmin)
    broker.admin.differences = (
        Difference("queue work", "there", "missing"),
        Difference("queue other", "lease 30", "lease 5"),
    )
    bus = Bus("scripted://one", settings=Settings(provision="verify"))

    @bus.consumer(WORK)
    async def work(order: Order) -> None: ...

    with pytest.raises(ConfigError) as refused:
        await bus.consuming().__aenter__()
    text = str(refused.value)
    assert "MSGBUS_PROVISION=verify" in text
    assert "queue work: wanted there, found missing" in text
    assert "queue other: wanted lease 30, found lease 5" in text


async def test_verify_on_the_embedded_broker(clock: HandClock) -> None:
    async with Bus(settings=Settings(provision="verify")) as bus:
        with pytest.raises(ConfigError, match="topic orders: wanted there, found missing"):
            await bus.publish(ORDERS, Order(order_id="1"))


async def test_buses_that_name_an_embedded_broker_share_it(clock: HandClock) -> None:
    consumer, producer = Bus("memory://shared", clock=clock), Bus("memory://shared", clock=clock)
    other = Bus("memory://", clock=clock)
    seen: list[str] = []

    @consumer.subscriber(ORDERS, group="g")
    async def handle(order: Order) -> None:
        seen.append(order.order_id)

    async with consuming(consumer, clock), producer, other:
        await producer.publish(ORDERS, Order(order_id="1"))
        await other.publish(ORDERS, Order(order_id="2"))
        await turns()
    assert seen == ["1"]


async def test_an_error_of_the_block_comes_out_as_it_is(clock: HandClock) -> None:
    bus = Bus(clock=clock)

    @bus.consumer(WORK)
    async def work(order: Order) -> None: ...

    async def live() -> None:
        async with consuming(bus, clock):
            raise LookupError("in the block")

    with pytest.raises(LookupError, match="in the block"):
        await live()


async def test_closing_goes_on_when_one_broker_fails_to_close(
    scripted: OpenScripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = scripted(name="one"), scripted(name="two")

    async def broken() -> None:
        raise Disconnected("already gone")

    monkeypatch.setattr(one, "close", broken)
    bus = Bus(settings=Settings(url="scripted://one", routes={"work": "scripted://two"}))
    await bus.__aenter__()
    with suppress(Disconnected):
        await bus.__aexit__(None, None, None)
    assert not two.connected
    assert bus.health().problems == ("the bus is not open",)


async def test_closing_goes_on_when_one_broker_never_ends(
    scripted: OpenScripted, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A client that catches its cancellation and goes on, too."""
    one, two = scripted(name="one"), scripted(name="two")
    over, swallowed = asyncio.Event(), 0

    async def stubborn() -> None:
        nonlocal swallowed
        while not over.is_set():
            try:
                await over.wait()
            except asyncio.CancelledError:
                swallowed += 1

    monkeypatch.setattr(one, "close", stubborn)
    monkeypatch.setattr("msgbus.wiring._LAST_CLOSE", 0.05)
    async with Bus(settings=Settings(url="scripted://one", routes={"work": "scripted://two"})):
        pass
    assert not two.connected
    assert swallowed
    assert "closing scripted://one took longer than 0.05 s and was given up" in caplog.text
    over.set()


async def test_a_bus_that_is_being_closed_takes_nothing_new(clock: HandClock, scripted: OpenScripted) -> None:
    """What it would open is on no list of what is closed."""
    broker, go = scripted(), asyncio.Event()
    bus = Bus("scripted://one", clock=clock)
    other: Topic[Order] = Topic("other", Order)

    async def on_send(batch: Sequence[Outgoing]) -> Sequence[Receipt]:
        await go.wait()
        return [Receipt(out.id) for out in batch]

    await bus.__aenter__()
    broker.on_send = on_send
    sending = asyncio.create_task(bus.publish(ORDERS, Order(order_id="1")))
    await turns()
    closing = asyncio.create_task(bus.__aexit__(None, None, None))
    await turns()
    with pytest.raises(BusError, match="not open"):
        await bus.publish(other, Order(order_id="2"))
    go.set()
    await sending
    await closing
