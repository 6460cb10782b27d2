"""Handlers of lists: gathering, partial failures, one bad entry, middlewares around them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tests.conftest import OpenScripted
from tests.models import LINE, WORK, Order, orders
from tests.scripted import PLAIN, HandClock, consuming, delivery

from msgbus import Batch, Bus, Delivery, Failed, LeaseLost, Limits, Message, Queue, Reject, Retry
from msgbus import headers as h
from msgbus.handlers.middleware import Handle
from msgbus.message import Act, Source

SOURCE = Source("queue", "work")
ONE = Limits(concurrency=1)


def body(order_id: str) -> bytes:
    """An order's body."""
    return b'{"order_id": "' + order_id.encode() + b'"}'


async def test_a_batch_gathers_up_to_its_size(clock: HandClock, scripted: OpenScripted) -> None:
    broker = scripted(replace(PLAIN, receive_batch=100))
    broker.feed("work", *(delivery(SOURCE, str(i), body(str(i))) for i in range(25)))
    bus = Bus("scripted://one", clock=clock)
    sizes: list[int] = []

    @bus.consumer(WORK, batch=Batch(size=10, wait=0.5), limits=ONE)
    async def work(batch: list[Order]) -> None:
        sizes.append(len(batch))
        await clock.sleep(2.0)

    async with consuming(bus, clock):
        await clock.until(lambda: len(broker.settled) == 25)
    assert sizes == [10, 10, 5]


async def test_a_batch_waits_for_more_but_not_for_ever(clock: HandClock) -> None:
    bus = Bus(clock=clock)
    calls: list[tuple[float, list[str]]] = []
    began = clock.now()

    @bus.consumer(WORK, batch=Batch(size=10, wait=2.0), limits=ONE)
    async def work(batch: list[Order]) -> None:
        calls.append((clock.now() - began, [order.order_id for order in batch]))

    async with consuming(bus, clock):
        await bus.send(WORK, Order(order_id="1"))
        await clock.advance(1.0)
        await bus.send(WORK, Order(order_id="2"))
        await clock.advance(0.9)
        assert calls == []
        await clock.until(lambda: calls)
    assert calls[0][1] == ["1", "2"]
    assert 2.0 <= calls[0][0] <= 2.1


async def test_a_full_batch_does_not_wait(clock: HandClock) -> None:
    bus = Bus(clock=clock)
    calls: list[tuple[float, int]] = []
    began = clock.now()

    @bus.consumer(WORK, batch=Batch(size=3, wait=60.0))
    async def work(batch: list[Message[Order]]) -> None:
        calls.append((clock.now() - began, len(batch)))

    async with consuming(bus, clock):
        await bus.publish_many(WORK, orders("1", "2", "3"))
        await clock.until(lambda: calls)
    assert calls == [(0.0, 3)]


async def test_only_what_failed_is_tried_again(clock: HandClock) -> None:
    bus = Bus(clock=clock)
    calls: list[list[str]] = []

    @bus.consumer(WORK, batch=Batch(size=4, wait=1.0), retry=Retry(first_delay=10.0, jitter=0))
    async def work(batch: list[Message[Order]]) -> Sequence[Failed] | None:
        calls.append([f"{m.payload.order_id} {m.attempt}" for m in batch])
        return [Failed(1, ValueError("odd")), Failed(3)] if len(calls) == 1 else None

    async with consuming(bus, clock):
        await bus.publish_many(WORK, orders("1", "2", "3", "4"))
        await clock.until(lambda: len(calls) == 2)
        await clock.advance(1.0)
        assert bus.runners[0].subscription.stats.handled == 3
        assert bus.runners[0].subscription.stats.dead == 1, "Failed without an error rejects"
    assert calls == [["1 1", "2 1", "3 1", "4 1"], ["2 2"]]


async def test_a_batch_that_raises_failed_as_a_whole(clock: HandClock) -> None:
    bus = Bus(clock=clock)
    calls: list[list[int]] = []

    @bus.consumer(WORK, batch=Batch(size=2, wait=1.0), retry=Retry(attempts=2, first_delay=5.0, jitter=0))
    async def work(batch: list[Message[Order]]) -> None:
        calls.append([m.attempt for m in batch])
        raise ValueError

    async with consuming(bus, clock):
        await bus.publish_many(WORK, orders("1", "2"))
        await clock.until(lambda: bus.runners[0].subscription.stats.dead == 2)
    assert calls == [[1, 1], [2, 2]]


async def test_a_batch_that_raises_is_handled_in_halves_where_that_is_asked_for(clock: HandClock) -> None:
    bus = Bus(clock=clock)
    calls: list[list[str]] = []
    stored: list[str] = []

    @bus.consumer(WORK, batch=Batch(size=8, bisect=True), limits=ONE, retry=Retry(attempts=2, first_delay=1.0))
    async def work(batch: list[Order]) -> None:
        ids = [order.order_id for order in batch]
        calls.append(ids)
        if "6" in ids:
            raise ValueError("one of them")
        stored.extend(ids)

    async with consuming(bus, clock):
        await bus.publish_many(WORK, orders(*"12345678"))
        await clock.until(lambda: bus.runners[0].subscription.stats.dead == 1)
    assert calls == [list("12345678"), list("1234"), list("5678"), list("56"), ["5"], ["6"], list("78"), ["6"]]
    assert stored == list("1234578")


async def test_a_batch_in_halves_that_is_cut_off_is_not_gone_on_with(clock: HandClock) -> None:
    bus = Bus(clock=clock)
    calls: list[list[str]] = []
    limits = Limits(concurrency=1, timeout=5.0)

    @bus.consumer(WORK, batch=Batch(size=4, bisect=True), limits=limits, retry=Retry(attempts=1))
    async def work(batch: list[Order]) -> None:
        calls.append([order.order_id for order in batch])
        if len(batch) == 4:
            raise ValueError("one of them")
        await clock.sleep(60.0)

    async with consuming(bus, clock):
        await bus.publish_many(WORK, orders(*"1234"))
        await clock.until(lambda: bus.runners[0].subscription.stats.dead == 4)
    assert calls == [list("1234"), list("12")]


async def test_an_index_that_is_none_fails_the_batch_and_says_so(clock: HandClock) -> None:
    told: list[str] = []

    async def hook(delivery: Delivery, error: Exception) -> None:
        told.append(str(error))

    bus = Bus(clock=clock, on_dead=[hook])

    @bus.consumer(WORK, batch=Batch(size=2, wait=1.0), retry=Retry(attempts=1))
    async def work(batch: list[Order]) -> Sequence[Failed]:
        return [Failed(2)]

    async with consuming(bus, clock):
        await bus.publish_many(WORK, orders("1", "2"))
        await clock.until(lambda: len(told) == 2)
    assert told == ["Failed(2): the batch has 2 entries"] * 2


async def test_one_bad_body_is_dead_alone(clock: HandClock, scripted: OpenScripted) -> None:
    broker = scripted()
    broker.feed("work", delivery(SOURCE, "1", body("1")), delivery(SOURCE, "2", b"{"), delivery(SOURCE, "3", body("3")))
    bus = Bus("scripted://one", clock=clock)
    seen: list[str] = []

    @bus.consumer(WORK, batch=Batch(size=3, wait=1.0))
    async def work(batch: list[Order]) -> Sequence[Failed]:
        seen.extend(order.order_id for order in batch)
        return [Failed(1, ValueError("the second of those that could be read"))]

    async with consuming(bus, clock):
        await clock.until(lambda: len(broker.settled) == 3)
    assert seen == ["1", "3"]
    assert sorted(broker.acts(), key=lambda act: act[1]) == [(Act.ACK, "1"), (Act.DEAD, "2"), (Act.RETRY, "3")]


async def test_one_damaged_envelope_and_one_crash_loop_are_dead_alone(clock: HandClock, scripted: OpenScripted) -> None:
    broker = scripted(replace(PLAIN, headers=10, counts_deliveries=True))
    broken = delivery(SOURCE, "2", body("2"), **{h.PACKED: "{not JSON"})
    looping = delivery(SOURCE, "4", body("4"))
    looping.deliveries = 1000
    broker.feed("work", delivery(SOURCE, "1", body("1")), broken, delivery(SOURCE, "3", body("3")), looping)
    bus = Bus("scripted://one", clock=clock)
    seen: list[str] = []

    @bus.consumer(WORK, batch=Batch(size=4, wait=1.0))
    async def work(batch: list[Order]) -> None:
        seen.extend(order.order_id for order in batch)

    async with consuming(bus, clock):
        await clock.until(lambda: len(broker.settled) == 4)
    assert seen == ["1", "3"]
    assert {act[1]: act[0] for act in broker.acts()} == {"1": Act.ACK, "2": Act.DEAD, "3": Act.ACK, "4": Act.DEAD}


async def test_a_timeout_cancels_the_batch_and_counts_for_all(clock: HandClock) -> None:
    bus = Bus(clock=clock)
    calls: list[list[int]] = []

    @bus.consumer(
        WORK,
        batch=Batch(size=2, wait=1.0),
        limits=Limits(timeout=5.0),
        retry=Retry(first_delay=1.0, jitter=0),
    )
    async def work(batch: list[Message[Order]]) -> None:
        calls.append([m.attempt for m in batch])
        if len(calls) == 1:
            await clock.sleep(1000)

    async with consuming(bus, clock):
        await bus.publish_many(WORK, orders("1", "2"))
        await clock.until(lambda: len(calls) == 2)
    assert calls == [[1, 1], [2, 2]]


async def test_a_batch_of_an_ordered_source_never_has_two_of_a_key(clock: HandClock) -> None:
    bus = Bus(clock=clock)
    calls: list[list[str]] = []

    @bus.consumer(LINE, batch=Batch(size=10, wait=0.1))
    async def work(batch: list[Order]) -> None:
        calls.append([f"{order.customer_id}{order.order_id}" for order in batch])

    async with consuming(bus, clock):
        await bus.publish_many(LINE, [Order(order_id=str(i), customer_id=k) for i in range(3) for k in "ab"])
        await clock.until(lambda: sum(map(len, calls)) == 6)
    for call in calls:
        assert len({entry[0] for entry in call}) == len(call)
    flat = [entry for call in calls for entry in call]
    assert [entry for entry in flat if entry[0] == "a"] == ["a0", "a1", "a2"]


async def test_middlewares_see_each_entry_and_may_skip_or_fail_it(clock: HandClock) -> None:
    log: list[str] = []

    async def choose(delivery: Delivery, handle: Handle) -> None:
        order_id = delivery.headers["order"]
        if order_id == "skip":
            return
        if order_id == "fail":
            raise Reject("by the middleware")
        try:
            await handle(delivery)
        except ValueError:
            log.append(f"{order_id} failed inside")
            raise
        log.append(f"{order_id} done")

    bus = Bus(clock=clock, middlewares=[choose])
    seen: list[str] = []

    @bus.consumer(WORK, batch=Batch(size=4, wait=1.0), retry=Retry(attempts=1))
    async def work(batch: list[Order]) -> Sequence[Failed]:
        seen.extend(order.order_id for order in batch)
        return [Failed(1, ValueError("odd"))]

    async with consuming(bus, clock):
        for order_id in ("a", "skip", "b", "fail"):
            await bus.send(WORK, Order(order_id=order_id), headers={"order": order_id})
        await clock.until(lambda: bus.runners[0].subscription.stats.dead == 2)
        await clock.advance(0.1)
        assert bus.runners[0].subscription.stats.handled == 2
    assert seen == ["a", "b"]
    assert log == ["a done", "b failed inside"]


async def test_a_middleware_that_calls_its_handler_twice_is_told_so_and_nothing_hangs(clock: HandClock) -> None:
    async def again(delivery: Delivery, handle: Handle) -> None:
        try:
            await handle(delivery)
        except ValueError:
            await handle(delivery)

    bus = Bus(clock=clock, middlewares=[again])

    @bus.consumer(WORK, batch=Batch(size=2, wait=1.0), retry=Retry(attempts=1))
    async def work(batch: list[Order]) -> None:
        raise ValueError("once more")

    async with consuming(bus, clock):
        await bus.publish_many(WORK, orders("1", "2"))
        await clock.until(lambda: bus.runners[0].subscription.stats.dead == 2)


async def test_a_lost_lease_gives_the_rest_of_its_batch_back(clock: HandClock, scripted: OpenScripted) -> None:
    """They are still ours: unsettled, they would come again when their own leases end, or never."""
    broker = scripted(replace(PLAIN, lease=30.0, lease_extends=True))
    broker.feed("work", *(delivery(SOURCE, name, body(name)) for name in "123"))
    broker.on_extend = lambda held: LeaseLost("ran out") if held.headers[h.ID] == "2" else None
    bus = Bus("scripted://one", clock=clock)

    @bus.consumer(WORK, batch=Batch(size=3), limits=ONE)
    async def work(batch: list[Order]) -> None:
        await clock.sleep(1000.0)

    async with consuming(bus, clock):
        await clock.until(lambda: len(broker.settled) == 2)
        (runner,) = bus.runners
        assert runner.session is not None
        assert not runner.session.in_hand
    assert broker.acts() == [(Act.RELEASE, "1"), (Act.RELEASE, "3")]


async def test_a_lost_lease_that_a_handler_speaks_of_is_a_failure_like_any_other(
    clock: HandClock, scripted: OpenScripted
) -> None:
    """Its own lease is not lost: given back as if unstarted, the message would come at once, for ever."""
    broker = scripted()
    broker.feed("work", delivery(SOURCE, "1", body("1")))
    broker.feed("line", delivery(Source("queue", "line"), "2", body("2")))
    bus = Bus("scripted://one", clock=clock)

    @bus.consumer(WORK)
    async def work(order: Order) -> None:
        raise LeaseLost("somebody else's")

    @bus.consumer(Queue("line", Order), batch=Batch(size=1))
    async def line(batch: list[Order]) -> list[Failed]:
        return [Failed(0, LeaseLost("somebody else's"))]

    async with consuming(bus, clock):
        await clock.until(lambda: len(broker.settled) == 2)
    assert sorted(broker.acts(), key=str) == [(Act.RETRY, "1"), (Act.RETRY, "2")]
