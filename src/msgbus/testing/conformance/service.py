"""The real Bus over the broker: what a service sees."""

# ruff: noqa: S101

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter

import pytest

from msgbus import headers as h
from msgbus.errors import RemoteError, Timeout
from msgbus.message import Message
from msgbus.options import Lease, Limits, Retry
from msgbus.testing.conformance.base import Base
from msgbus.testing.conformance.claims import about, not_claimed
from msgbus.testing.conformance.flow import Item, Publish, Tally, call_of, subscribe
from msgbus.testing.conformance.lab import Lab
from msgbus.topic import Queue, Topic


async def _one_by_one(publish: Publish, count: int) -> None:
    for number in range(count):
        await publish(Item("a", number))


class BusTests(Base):
    """Publish, retry, order, request, stop and outage, end to end."""

    @about("fanout", "queues")
    async def test_what_is_published_is_handled(self, lab: Lab) -> None:
        bus, tally = lab.bus(), Tally(lab.harness.patience)
        target: Topic[Item] | Queue[Item]
        if lab.can.fanout:
            target = topic = Topic("items", Item, key="key")
            bus.subscriber(topic, group="g")(tally.add)
        else:
            target = queue = Queue("items", Item, key="key")
            bus.consumer(queue)(tally.add)
        items = [Item("ü", number) for number in range(20)]
        async with bus.consuming():
            await bus.publish_many(target, items)
            assert sorted(await tally.until(20), key=lambda item: item.number) == items

    @about("backlog")
    async def test_idle_waits_for_all_that_the_broker_counts(self, lab: Lab) -> None:
        bus, handled = lab.bus(concurrency=1), list[int]()

        async def handle(item: Item) -> None:
            await asyncio.sleep(0)
            handled.append(item.number)

        source, publish = subscribe(lab, bus, handle, Retry())
        async with bus.consuming():
            await publish(*(Item("a", number) for number in range(20)))
            unknown = await bus.idle(timeout=lab.harness.patience)
            assert list(unknown) == ([source] if lab.can.backlog == "none" else [])
            if lab.can.backlog == "none":
                not_claimed("backlog", "idle() says that it knows of this process alone")
            assert sorted(handled) == list(range(20))
            (stats,) = bus.stats().subscriptions
            assert (stats.source, stats.received, stats.handled, stats.in_hand, stats.running) == (source, 20, 20, 0, 0)
            assert [(each.calls, each.waiting) for each in bus.stats().brokers] == [(0, 0)]

    @about("queues")
    async def test_what_is_sent_to_a_queue_is_handled(self, lab: Lab) -> None:
        if not lab.can.queues:
            not_claimed("queues", "the bus refuses them, see test_queues_are_refused_where_there_are_none")
        bus, tally, queue = lab.bus(), Tally(lab.harness.patience), Queue("work", Item)
        bus.consumer(queue)(tally.add)
        async with bus.consuming():
            await bus.send(queue, Item("a", 1))
            assert await tally.until(1) == [Item("a", 1)]

    @about("retry_delay", "dead_letters", "counts_deliveries")
    async def test_a_failing_message_is_retried_until_dead(self, lab: Lab) -> None:
        bus, delay = lab.bus(), lab.harness.delay
        dead: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()
        starts: list[tuple[int, float]] = []
        times: list[float] = []

        async def handle(message: Message[Item]) -> None:
            starts.append((message.attempt, asyncio.get_running_loop().time()))
            times.append(lab.time())
            raise ValueError("always")

        async def on_dead(delivery: object, error: Exception) -> None:
            dead.set_result(error)

        retry = Retry(attempts=3, first_delay=delay, max_delay=delay, jitter=0.0, on_dead=on_dead)
        source, publish = subscribe(lab, bus, handle, retry)
        async with bus.consuming():
            await publish(Item("a", 1))
            async with asyncio.timeout(lab.harness.patience):
                await dead
        assert [attempt for attempt, _ in starts] == [1, 2, 3]
        assert all(after - before >= delay - 0.05 for (_, before), (_, after) in itertools.pairwise(starts))
        if lab.can.dead_letters:
            place = await lab.broker.admin.dead_letters(source)
            assert place is not None
            (letter,) = await lab.drain(place, 1)
            assert (letter.headers[h.ERROR_TYPE], letter.headers[h.ATTEMPTS]) == ("ValueError", "3")
            assert float(letter.headers[h.FIRST_FAILED]) < times[1], "that is a later failure"

    @about("order", "retry_keeps_order", "retry_delay", "send_order")
    async def test_order_is_kept_through_retries(self, lab: Lab) -> None:
        if lab.can.order == "none":
            not_claimed("order", "the bus refuses ordered=True, see test_ordered_is_refused_without_order")
        bus, tally, chance = lab.bus(), Tally(3 * lab.harness.patience), random.Random(7)

        async def handle(item: Item) -> None:
            if chance.random() < 0.2:
                raise ValueError("now and then")
            await tally.add(item)

        retry = Retry(attempts=50, first_delay=0.01, max_delay=0.02)
        _, publish = subscribe(lab, bus, handle, retry, ordered=True)
        items = [Item(f"k{number % 4}", number) for number in range(60)]
        async with bus.consuming():
            await publish(*items)
            seen = await tally.until(60)
        for key in {item.key for item in items}:
            first_seen = list(dict.fromkeys(item for item in seen if item.key == key))
            assert first_seen == [item for item in items if item.key == key]

    @about("reply")
    async def test_request_and_reply(self, lab: Lab) -> None:
        rpc = call_of(lab)
        bus = lab.bus()

        @bus.responder(rpc)
        async def answer(item: Item) -> Item:
            return Item(item.key, item.number + 1)

        async with bus.consuming():
            async with asyncio.timeout(lab.harness.patience):
                replies = await asyncio.gather(
                    *(bus.request(rpc, Item("a", n), timeout=lab.harness.patience) for n in range(10))
                )
        assert [reply.number for reply in replies] == list(range(1, 11))

    @about("reply")
    async def test_a_failing_responder_is_told_to_the_requester(self, lab: Lab) -> None:
        rpc = call_of(lab)
        bus = lab.bus()

        @bus.responder(rpc, retry=Retry(attempts=1))
        async def answer(item: Item) -> Item:
            raise LookupError("no such item")

        async with bus.consuming():
            with pytest.raises(RemoteError) as caught:
                await bus.request(rpc, Item("a", 1), timeout=lab.harness.patience)
        assert (caught.value.type, caught.value.detail) == ("LookupError", "no such item")

    @about("reply")
    async def test_a_request_nobody_answers_in_time(self, lab: Lab) -> None:
        rpc = call_of(lab)
        bus, late = lab.bus(), asyncio.Event()

        @bus.responder(rpc)
        async def answer(item: Item) -> Item:
            await late.wait()
            return item

        async with bus.consuming():
            with pytest.raises(Timeout):
                await bus.request(rpc, Item("a", 1), timeout=lab.harness.quiet)
            late.set()
            reply = await bus.request(rpc, Item("a", 2), timeout=lab.harness.patience)
        assert reply == Item("a", 2)  # and not the late one of the first request

    @about("release_counts", "receive_batch")
    async def test_a_stop_with_messages_in_hand_loses_nothing(self, lab: Lab) -> None:
        first, second = lab.bus(concurrency=2), lab.bus()
        started, go = Tally(lab.harness.patience), asyncio.Event()
        finished = Tally(lab.harness.patience)

        async def slow(item: Item) -> None:
            await started.add(item)
            await go.wait()
            await finished.add(item)

        _, publish = subscribe(lab, first, slow, Retry(), limits=Limits(prefetch=20))
        subscribe(lab, second, finished.add, Retry())
        async with first.consuming():
            await publish(*(Item("a", number) for number in range(20)))
            await started.until(2)
            asyncio.get_running_loop().call_later(lab.harness.quiet, go.set)
        async with second.consuming():
            await finished.until(20)
            await asyncio.sleep(lab.harness.quiet)
        assert Counter(item.number for item in finished.seen) == Counter(range(20))

    @about("shared", "confirms_settlement")
    async def test_an_outage_in_the_middle_loses_nothing(self, lab: Lab) -> None:
        lab.harness.needs("cut")
        bus, lease = lab.bus(), max(1.0, lab.harness.lease)  # what a dead connection held comes when its lease ends
        tally = Tally(3 * lab.harness.patience + lease)
        _, publish = subscribe(lab, bus, tally.add, Retry(first_delay=0.01, max_delay=1.0), lease=Lease(seconds=lease))
        async with bus.consuming():
            sending = asyncio.create_task(_one_by_one(publish, 120))
            await tally.until(20)
            await lab.harness.cut()
            await sending
            seen = await tally.until(120)
        assert {item.number for item in seen} == set(range(120))
