"""What is sent arrives, once, as it was, and `receive` keeps to its terms."""

# ruff: noqa: S101

from __future__ import annotations

import asyncio

from msgbus import headers as h
from msgbus.broker import TopicSpec
from msgbus.errors import BusError, Refused
from msgbus.message import Address, Receipt
from msgbus.testing.conformance.base import Base
from msgbus.testing.conformance.claims import about, not_claimed
from msgbus.testing.conformance.lab import Lab, bodies, numbers
from msgbus.testing.conformance.timers import counted_timers

_TICKS = 20


class DeliveryTests(Base):
    """Sending and receiving on one source."""

    @about("queues", "fanout", "headers")
    async def test_a_message_arrives_as_it_was_sent(self, lab: Lab) -> None:
        source = await lab.home()
        receiver = await lab.open(source)
        out = lab.out(source, b"body", key="k", headers={"user": "value"})
        sent = dict(out.headers)
        await lab.send(out)
        (delivery,) = await lab.collect(receiver, 1)
        assert (delivery.body, delivery.attempt, delivery.deliveries) == (b"body", 1, 1)
        assert {name: delivery.headers.get(name) for name in sent} == sent
        assert (delivery.source.kind, delivery.source.name, delivery.source.group) == source.address
        assert delivery.sent_at is None or abs(delivery.sent_at - lab.time()) < 3600
        await lab.ack(receiver, [delivery])

    @about("send_batch", "receive_batch", "settle_batch")
    async def test_many_messages_arrive_once_each(self, lab: Lab) -> None:
        source = await lab.home()
        count = min(3 * lab.can.send_batch, 100) + 5
        receiver = await lab.open(source, prefetch=count)
        await lab.send_numbers(source, range(count))
        deliveries = await lab.collect(receiver, count)
        assert sorted(numbers(deliveries)) == list(range(count))
        await lab.ack(receiver, deliveries)
        await lab.nothing(receiver)

    @about("send_slots")
    async def test_sends_at_the_same_time(self, lab: Lab) -> None:
        source = await lab.home()
        sends = 2 * lab.can.send_slots
        outs = [lab.fit(lab.out(source, number))[0] for number in range(sends)]
        slots = asyncio.Semaphore(lab.can.send_slots)

        async def send(index: int) -> None:
            async with slots:
                results = await lab.broker.send([outs[index]])
            assert [type(result) for result in results] == [Receipt]

        await asyncio.gather(*(send(index) for index in range(sends)))
        assert sorted(numbers(await lab.drain(source, sends))) == list(range(sends))

    @about("receive_batch")
    async def test_receive_keeps_its_limit(self, lab: Lab) -> None:
        source = await lab.home()
        receiver = await lab.open(source)
        await lab.send_numbers(source, range(4))
        got = 0
        while got < 4:
            batch = await lab.receive(receiver, 2, lab.harness.patience)
            assert 1 <= len(batch) <= 2
            got += len(batch)
            await lab.ack(receiver, batch)

    @about("receive_batch")
    async def test_receive_returns_nothing_after_its_wait(self, lab: Lab) -> None:
        receiver = await lab.open(await lab.home())
        async with asyncio.timeout(lab.harness.patience):
            assert list(await lab.receive(receiver, 10, lab.harness.quiet)) == []
            assert list(await lab.receive(receiver, 10, 0.0)) == []

    @about("receive_batch")
    async def test_a_short_wait_after_a_long_one_is_short(self, lab: Lab) -> None:
        source = await lab.home()
        receiver = await lab.open(source)
        waiting = asyncio.create_task(receiver.receive(1, 10 * lab.harness.patience))
        await asyncio.sleep(lab.harness.quiet)
        await lab.send(lab.out(source, b"x"))
        async with asyncio.timeout(lab.harness.patience):
            await lab.ack(receiver, await waiting)
            assert list(await receiver.receive(1, lab.harness.quiet)) == []

    @about("receive_batch")
    async def test_receive_returns_as_soon_as_there_is_one(self, lab: Lab) -> None:
        source = await lab.home()
        receiver = await lab.open(source)
        waiting = asyncio.create_task(lab.collect(receiver, 1))
        await asyncio.sleep(lab.harness.quiet)
        assert not waiting.done()
        await lab.send(lab.out(source, b"now"))
        async with asyncio.timeout(lab.harness.patience):
            assert bodies(await waiting) == [b"now"]

    @about("receive_batch")
    async def test_an_idle_receiver_rests(self, lab: Lab) -> None:
        receiver = await lab.open(await lab.home())
        waiting = asyncio.create_task(receiver.receive(1, 10 * lab.harness.patience))
        await asyncio.sleep(lab.harness.quiet)  # what opening it began has ended
        with counted_timers() as rung:
            for _ in range(_TICKS):  # beside the receiver: a busy machine delays both
                await asyncio.sleep(0.01)
        assert len(rung) <= 2 * _TICKS, "it looks for messages more often than a hundred times a second"
        await receiver.stop()
        await waiting

    @about("receive_batch")
    async def test_prefetch_bounds_what_is_unsettled(self, lab: Lab) -> None:
        source = await lab.home()
        await lab.send_numbers(source, range(5))
        receiver = await lab.open(source, prefetch=2)
        first = await lab.collect(receiver, 2)
        await lab.nothing(receiver)
        await lab.ack(receiver, first[:1])
        (third,) = await lab.collect(receiver, 1)
        await lab.ack(receiver, [first[1], third])
        await lab.ack(receiver, await lab.collect(receiver, 2))

    @about("confirms_settlement")
    async def test_what_is_acknowledged_is_gone(self, lab: Lab) -> None:
        source = await lab.home(short=True)
        receiver = await lab.open(source)
        await lab.send_numbers(source, range(5))
        await lab.ack(receiver, await lab.collect(receiver, 5))
        if not lab.can.confirms_settlement:  # accepted is only on its way: closing lets it go out
            await lab.nothing(receiver)
        await lab.leave(receiver)
        receiver = await lab.open(source)
        await lab.nothing(receiver, lab.harness.quiet + (lab.harness.lease if lab.can.lease else 0.0))

    @about("counts_deliveries")
    async def test_what_a_closed_receiver_held_comes_back(self, lab: Lab) -> None:
        source = await lab.home(short=True)
        receiver = await lab.open(source)
        await lab.send(lab.out(source, b"x"))
        await lab.collect(receiver, 1)
        await lab.leave(receiver)
        (again,) = await lab.drain(source, 1)
        assert again.body == b"x"
        counted = 2 if lab.broker.capabilities(source).counts_deliveries else 1
        attempt = counted if lab.harness.counts_crashes else 1
        assert (again.deliveries, again.attempt) == (counted, attempt)  # it may have been started: a crash counts

    @about("queues")
    async def test_a_missing_queue_is_refused(self, lab: Lab) -> None:
        if not lab.can.queues:
            not_claimed("queues", "the bus refuses them, see test_queues_are_refused_where_there_are_none")
        (result,) = await lab.try_send(lab.out(Address("queue", lab.prefix + "missing"), b"x"))
        assert isinstance(result, Refused)

    @about("queues")
    async def test_receiving_from_a_missing_queue_is_refused(self, lab: Lab) -> None:
        source = lab.queue("missing") if lab.can.queues else lab.group(topic="missing")
        error: BusError | None = None
        try:
            async with lab.broker.receiver(source, prefetch=1) as receiver:
                await receiver.receive(1, lab.harness.quiet)
        except BusError as raised:
            error = raised
        assert isinstance(error, Refused)

    @about("fanout")
    async def test_a_topic_without_groups_takes_messages(self, lab: Lab) -> None:
        if not lab.can.fanout:
            not_claimed("fanout", "the bus refuses topics, see test_topics_are_refused_without_fanout")
        topic = lab.group(topic="lonely")
        await lab.broker.admin.ensure([TopicSpec(topic.name)], "create")
        plain, demanding = lab.out(topic, b"x"), lab.out(topic, b"y", headers={h.TYPE: "Demanding"})
        demanding.mandatory = True
        (told,) = await lab.try_send(plain)
        (refused,) = await lab.try_send(demanding)
        assert isinstance(told, Receipt)
        if told.unrouted:
            assert isinstance(refused, Refused), "a broker that can tell must refuse a mandatory message"
        else:
            assert isinstance(refused, Receipt | Refused)
