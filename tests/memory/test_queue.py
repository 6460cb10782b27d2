"""The embedded broker by itself, through Broker and Receiver: leases, delays, lanes, limits, deduplication, replay."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.scripted import HandClock, turns

from msgbus import headers as h
from msgbus.broker import Backlog, Difference, Mode, QueueSpec, TopicSpec
from msgbus.brokers.memory import MemoryBroker
from msgbus.brokers.memory.broker import MemoryReceiver
from msgbus.clock import SystemClock
from msgbus.errors import ConfigError, Disconnected, LeaseLost, ReceiverClosed, Refused, Throttled
from msgbus.message import Act, Address, Delivery, Outgoing, Receipt, Settlement, Source, Start

WORK = Source("queue", "work")
LINE = Source("queue", "line", ordered=True)
GROUP = Source("topic", "orders", "g")


def out(message_id: object, source: Source = WORK, key: str | None = None, delay: float = 0.0) -> Outgoing:
    """A message to a queue, or to all groups of a topic."""
    address = Address("topic", source.name) if source.kind == "topic" else source.address
    return Outgoing(address, str(message_id), b"{}", {h.ID: str(message_id)}, key, delay)


@asynccontextmanager
async def opened(clock: HandClock, url: str = "memory://", *sources: Source) -> AsyncIterator[MemoryBroker]:
    """A connected broker with these queues."""
    broker = MemoryBroker(url, clock=clock)
    await broker.connect()
    await broker.admin.ensure([QueueSpec(source) for source in sources or (WORK, LINE, GROUP)], "create")
    yield broker
    await broker.close()


def ids(batch: Sequence[Delivery]) -> list[str]:
    """The ids of deliveries."""
    return [delivery.headers[h.ID] for delivery in batch]


async def settle(receiver: MemoryReceiver, delivery: Delivery, act: Act, delay: float = 0.0) -> object:
    """One settlement's result."""
    (result,) = await receiver.settle([Settlement(delivery, act, delay)])
    return result


async def test_a_lease_that_runs_out_brings_the_message_back_and_the_old_one_settles_nothing(clock: HandClock) -> None:
    async with opened(clock, "memory://?lease=10") as broker, broker.receiver(WORK, prefetch=10) as one:
        await broker.send([out(1), out(2)])
        first, second = await one.receive(10, 0.0)
        await clock.advance(5.0)
        assert await one.extend([second], 20.0) == [None]
        await clock.advance(6.0)
        (again,) = await one.receive(10, 0.0)
        assert (ids([again]), again.deliveries, again.attempt) == (["1"], 2, 2)
        assert isinstance(await settle(one, first, Act.ACK), LeaseLost)
        assert isinstance((await one.extend([first], 10.0))[0], LeaseLost)
        assert await settle(one, second, Act.ACK) is None
        assert await settle(one, again, Act.ACK) is None
        assert isinstance(await settle(one, again, Act.ACK), LeaseLost), "twice"
        assert await broker.admin.backlog(WORK) == Backlog(0, 0, None)


async def _lease_of_a_delivery(broker: MemoryBroker, clock: HandClock, receiver: MemoryReceiver) -> float:
    """How long a delivery is really ours."""
    await broker.send([out(1)])
    (first,) = await receiver.receive(1, 0.0)
    began, receiving = clock.now(), asyncio.create_task(receiver.receive(1, 3600.0))
    await clock.until(receiving.done)
    assert ids(receiving.result()) == ids([first])
    return clock.now() - began


@pytest.mark.parametrize("mode", ["create", "trust"])
@pytest.mark.parametrize("again", [None, 7.0])
async def test_the_lease_that_is_claimed_is_the_lease_in_force(
    clock: HandClock, mode: Mode, again: float | None
) -> None:
    async with opened(clock, "memory://?lease=10") as broker:
        assert broker.capabilities(WORK).lease == 10.0
        await broker.admin.ensure([QueueSpec(WORK, lease=3.0)], mode)
        assert broker.capabilities(WORK).lease == 3.0
        await broker.admin.ensure([QueueSpec(WORK, lease=again)], mode)
        claimed = broker.capabilities(WORK).lease
        assert claimed == (again or 3.0)
        async with broker.receiver(WORK, prefetch=10) as receiver:
            assert await _lease_of_a_delivery(broker, clock, receiver) == pytest.approx(claimed, abs=0.1)


async def test_what_others_declare_changes_no_lease_that_was_claimed(clock: HandClock) -> None:
    async with opened(clock, "memory://?lease=10") as broker, broker.receiver(WORK, prefetch=10) as receiver:
        other = MemoryBroker(clock=clock, hub=broker.hub)
        await other.admin.ensure([QueueSpec(WORK, lease=1.0)], "create")
        assert (broker.capabilities(WORK).lease, other.capabilities(WORK).lease) == (10.0, 1.0)
        assert await _lease_of_a_delivery(broker, clock, receiver) == pytest.approx(10.0, abs=0.1)


async def test_another_lease_is_told(clock: HandClock) -> None:
    async with opened(clock, "memory://?lease=10") as broker:
        told = Difference(f"lease of {WORK}", "3 s", "10 s")
        assert await broker.admin.ensure([QueueSpec(WORK, lease=3.0)], "verify") == [told]
        assert await broker.admin.ensure([QueueSpec(WORK, lease=3.0)], "create") == [replace(told, made=True)]
        assert await broker.admin.ensure([QueueSpec(WORK, lease=3.0)], "verify") == []
        assert await broker.admin.ensure([QueueSpec(WORK)], "verify") == []


async def test_delays(clock: HandClock) -> None:
    async with opened(clock) as broker, broker.receiver(WORK, prefetch=10) as receiver:
        await broker.send([out("late", delay=20.0), out("soon", delay=10.0), out("now")])
        assert ids(await receiver.receive(10, 0.0)) == ["now"]
        await clock.advance(9.0)
        assert await receiver.receive(10, 0.0) == []
        receiving = asyncio.create_task(receiver.receive(10, 60.0))
        await clock.until(receiving.done)
        assert ids(receiving.result()) == ["soon"]
        await clock.advance(11.0)
        assert ids(await receiver.receive(10, 0.0)) == ["late"]


async def test_a_retry_is_counted_and_comes_after_its_delay_with_its_headers(clock: HandClock) -> None:
    async with opened(clock) as broker, broker.receiver(WORK, prefetch=10) as receiver:
        await broker.send([out(1)])
        (first,) = await receiver.receive(10, 0.0)
        await receiver.settle([Settlement(first, Act.RETRY, 30.0, headers={h.ATTEMPT: "2"})])
        await clock.advance(29.0)
        assert await receiver.receive(10, 0.0) == []
        await clock.advance(2.0)
        (second,) = await receiver.receive(10, 0.0)
        assert (second.attempt, second.deliveries, second.headers[h.ATTEMPT]) == (2, 2, "2")
        assert first.headers == {h.ID: "1"}, "what is in somebody's hand does not change"


async def test_a_release_goes_back_to_its_place_and_counts_nothing(clock: HandClock) -> None:
    async with opened(clock) as broker, broker.receiver(WORK, prefetch=10) as receiver:
        await broker.send([out(i) for i in range(5)])
        batch = await receiver.receive(3, 0.0)
        await receiver.settle([Settlement(batch[2], Act.RELEASE), Settlement(batch[0], Act.RELEASE)])
        again = await receiver.receive(10, 0.0)
        assert ids(again) == ["0", "2", "3", "4"]
        assert {(delivery.attempt, delivery.deliveries) for delivery in again} == {(1, 1)}


async def test_dead_letters_say_where_they_come_from_and_can_be_read(clock: HandClock) -> None:
    async with opened(clock) as broker, broker.receiver(GROUP, prefetch=10) as receiver:
        await broker.send([out(1, GROUP, key="k")])
        (delivery,) = await receiver.receive(10, 0.0)
        await receiver.settle([Settlement(delivery, Act.DEAD, reason="bad", headers={h.ERROR_TYPE: "ValueError"})])
        dead = await broker.admin.dead_letters(GROUP)
        assert dead is not None
        async with broker.receiver(dead, prefetch=10) as reader:
            (letter,) = await reader.receive(10, 0.0)
        assert letter.headers[h.DEAD_REASON] == "bad"
        assert letter.headers[h.ORIGIN] == "topic/orders/g"
        assert letter.headers[h.ERROR_TYPE] == "ValueError"
        assert letter.headers[h.ID] == "1"


async def test_a_group_and_a_queue_of_a_similar_name_have_dead_letters_of_their_own(clock: HandClock) -> None:
    async with opened(clock) as broker:
        group, queue = Source("topic", "a", "b"), Source("queue", "a.b")
        assert await broker.admin.dead_letters(group) != await broker.admin.dead_letters(queue)


async def test_a_message_that_kills_its_consumers_is_dead_in_the_end(clock: HandClock) -> None:
    async with opened(clock) as broker:
        await broker.admin.ensure([QueueSpec(WORK, max_deliveries=3)], "create")
        await broker.send([out(1)])
        for deliveries in (1, 2, 3):
            async with broker.receiver(WORK, prefetch=1) as crashing:
                (delivery,) = await crashing.receive(1, 0.0)
                assert delivery.deliveries == deliveries
        assert await broker.admin.backlog(WORK) == Backlog(0, 0, None)
        dead = await broker.admin.dead_letters(WORK)
        assert dead is not None
        backlog = await broker.admin.backlog(dead)
        assert backlog is not None
        assert backlog.depth == 1


async def test_competing_receivers_share_and_a_closed_one_gives_back(clock: HandClock) -> None:
    async with opened(clock) as broker, broker.receiver(WORK, prefetch=10) as one:
        async with broker.receiver(WORK, prefetch=10) as two:
            await broker.send([out(i) for i in range(4)])
            mine, theirs = await one.receive(2, 0.0), await two.receive(2, 0.0)
            assert (ids(mine), ids(theirs)) == (["0", "1"], ["2", "3"])
        assert ids(await one.receive(10, 0.0)) == ["2", "3"]
        assert isinstance((await two.settle([Settlement(theirs[0], Act.ACK)]))[0], LeaseLost)
        with pytest.raises(ReceiverClosed):
            await two.receive(1, 0.0)


async def test_a_receiver_settles_only_what_it_delivered(clock: HandClock) -> None:
    async with (
        opened(clock) as broker,
        broker.receiver(WORK, prefetch=10) as one,
        broker.receiver(WORK, prefetch=10) as two,
    ):
        await broker.send([out(1)])
        (delivery,) = await one.receive(1, 0.0)
        assert isinstance(await settle(two, delivery, Act.ACK), LeaseLost)
        assert await settle(one, delivery, Act.ACK) is None


async def test_a_waiting_receive_is_woken_and_a_cancelled_one_loses_nothing(clock: HandClock) -> None:
    async with (
        opened(clock) as broker,
        broker.receiver(WORK, prefetch=10) as one,
        broker.receiver(WORK, prefetch=10) as two,
    ):
        first = asyncio.create_task(one.receive(1, 60.0))
        second = asyncio.create_task(two.receive(1, 60.0))
        await turns()
        await broker.send([out(1)])
        first.cancel()
        await turns()
        assert ids(second.result()) == ["1"]


async def test_receive_returns_empty_after_its_wait_and_at_once_after_stop(clock: HandClock) -> None:
    async with opened(clock) as broker, broker.receiver(WORK, prefetch=10) as receiver:
        receiving = asyncio.create_task(receiver.receive(1, 5.0))
        await clock.advance(6.0)
        assert receiving.result() == []
        receiving = asyncio.create_task(receiver.receive(1, 500.0))
        await turns()
        await receiver.stop()
        await turns()
        assert receiving.result() == []
        await broker.send([out(1)])
        assert await receiver.receive(1, 0.0) == []


async def test_closing_the_broker_disconnects_everybody(clock: HandClock) -> None:
    async with opened(clock) as broker, broker.receiver(WORK, prefetch=10) as receiver:
        receiving = asyncio.create_task(receiver.receive(1, 500.0))
        await turns()
        await broker.close()
        await turns()
        assert isinstance(receiving.exception(), Disconnected)
        with pytest.raises(Disconnected):
            await broker.send([out(1)])
        assert not broker.status().connected


async def test_the_lane_of_a_delayed_retry_waits_for_its_head(clock: HandClock) -> None:
    async with opened(clock) as broker, broker.receiver(LINE, prefetch=10) as receiver:
        await broker.send([out(f"{k}{i}", LINE, key=k) for i in range(3) for k in "ab"])
        batch = await receiver.receive(10, 0.0)
        of_a = [delivery for delivery in batch if delivery.lane == "a"]
        await receiver.settle([Settlement(of_a[0], Act.RETRY, 10.0), *(Settlement(d, Act.RELEASE) for d in of_a[1:])])
        assert await receiver.receive(10, 0.0) == [], "b is locked to us, a waits for its head"
        await clock.advance(11.0)
        assert ids(await receiver.receive(10, 0.0)) == ["a0", "a1", "a2"]


async def test_a_key_is_locked_to_the_receiver_that_has_it(clock: HandClock) -> None:
    async with (
        opened(clock) as broker,
        broker.receiver(LINE, prefetch=10) as one,
        broker.receiver(LINE, prefetch=10) as two,
    ):
        await broker.send([out("a0", LINE, key="a")])
        (head,) = await one.receive(10, 0.0)
        await broker.send([out("a1", LINE, key="a"), out("b0", LINE, key="b")])
        assert ids(await two.receive(10, 0.0)) == ["b0"]
        await settle(one, head, Act.ACK)
        assert ids(await two.receive(10, 0.0)) == ["a1"]


async def test_a_delayed_message_does_not_hold_up_an_earlier_one_of_its_key(clock: HandClock) -> None:
    async with opened(clock) as broker, broker.receiver(LINE, prefetch=10) as receiver:
        await broker.send([out("a0", LINE, key="a"), out("a1", LINE, key="a", delay=60.0)])
        assert ids(await receiver.receive(10, 0.0)) == ["a0"]


async def test_a_full_queue_is_waited_for_and_then_throttled(clock: HandClock) -> None:
    async with opened(clock, "memory://?depth=2") as broker, broker.receiver(WORK, prefetch=10) as receiver:
        await broker.send([out(1), out(2)])
        sending = asyncio.create_task(broker.send([out(3)]))
        began = clock.now()
        await clock.until(sending.done)
        (result,) = sending.result()
        assert isinstance(result, Throttled)
        assert "queue work is full with 2 messages" in str(result)
        assert clock.now() - began < 1.1
        sending = asyncio.create_task(broker.send([out(3)]))
        await turns()
        await receiver.receive(1, 0.0)
        await turns()
        assert [type(result) for result in sending.result()] == [Receipt]


async def test_a_body_over_the_limit_is_refused_alone(clock: HandClock) -> None:
    async with opened(clock, "memory://?max_bytes=10") as broker:
        large = out(2)
        large.body = b"x" * 11
        results = await broker.send([out(1), large, out(3)])
        assert [type(result) for result in results] == [Receipt, Refused, Receipt]
        assert "11 bytes, allowed are 10" in str(results[1])


async def test_a_repeated_deduplication_id_is_swallowed_within_its_window(clock: HandClock) -> None:
    async with opened(clock, "memory://?dedup=60") as broker, broker.receiver(WORK, prefetch=10) as receiver:
        again = out(1)
        again.dedup_id = "1:1"
        results = await broker.send([out(1), out(1), again])
        assert [type(result) for result in results] == [Receipt] * 3
        twice = await receiver.receive(10, 0.0)
        assert ids(twice) == ["1", "1"]
        await receiver.settle([Settlement(delivery, Act.ACK) for delivery in twice])
        await clock.advance(61.0)
        await broker.send([out(1)])
        assert ids(await receiver.receive(10, 0.0)) == ["1"]


async def test_expired_messages_are_dropped_wherever_they_wait(clock: HandClock) -> None:
    async with opened(clock) as broker, broker.receiver(WORK, prefetch=10) as receiver:
        gone, waits, lasts = out("gone"), out("waits"), out("lasts")
        gone.expires_at, waits.expires_at, lasts.expires_at = clock.time() - 1, clock.time() + 5, clock.time() + 50
        await broker.send([gone, waits, lasts])
        await clock.advance(10.0)
        assert ids(await receiver.receive(10, 0.0)) == ["lasts"]
        assert await broker.admin.backlog(WORK) == Backlog(0, 1, None)


async def test_replay(clock: HandClock) -> None:
    async with opened(clock, "memory://?replay=3") as broker, broker.receiver(GROUP, prefetch=10) as receiver:
        for i in range(5):
            await broker.send([out(i, GROUP)])
            await clock.advance(10.0)
        assert ids(await receiver.receive(10, 0.0)) == ["0", "1", "2", "3", "4"]
        await broker.admin.seek(GROUP, Start("oldest"))
        assert ids(await receiver.receive(10, 0.0)) == ["2", "3", "4"]
        await broker.admin.seek(GROUP, Start("time", clock.time() - 15.0))
        assert ids(await receiver.receive(10, 0.0)) == ["4"]
        await broker.admin.seek(GROUP, Start("latest"))
        assert await receiver.receive(10, 0.0) == []
        with pytest.raises(Refused, match="no positions"):
            await broker.admin.seek(GROUP, Start("position", "7"))


async def test_replay_must_be_asked_for(clock: HandClock) -> None:
    async with opened(clock) as broker:
        with pytest.raises(Refused, match=r"keeps nothing for replay; connect with memory://\?replay=COUNT"):
            await broker.admin.seek(GROUP, Start("oldest"))


async def test_backlog_purge_and_verify(clock: HandClock) -> None:
    async with opened(clock) as broker, broker.receiver(WORK, prefetch=10) as receiver:
        await broker.send([out(0)])
        await clock.advance(7.0)
        await broker.send([out(1), out(2, delay=50.0)])
        await receiver.receive(1, 0.0)
        await clock.advance(1.0)
        backlog = await broker.admin.backlog(WORK)
        assert backlog is not None
        assert (backlog.depth, backlog.in_flight) == (2, 1)
        assert backlog.oldest == pytest.approx(1.0)
        assert await broker.admin.purge(WORK) == 2
        await clock.advance(60.0)
        assert await broker.admin.backlog(Source("queue", "unknown")) is None
        backlog = await broker.admin.backlog(WORK)
        assert backlog is not None
        assert backlog.depth == 1, "its lease ran out"
        assert backlog.oldest == pytest.approx(68.0)
        missing = await broker.admin.ensure([TopicSpec("new"), QueueSpec(WORK)], "verify")
        assert [(d.part, d.found, d.made) for d in missing] == [("topic new", "missing", False)]
        assert await broker.admin.ensure([TopicSpec("new")], "trust") == []


async def test_a_reply_inbox_goes_with_its_receiver_and_late_replies_are_no_error(clock: HandClock) -> None:
    async with opened(clock) as broker:
        async with broker.receiver(Source("reply", "inbox"), prefetch=10) as inbox:
            address = Address("reply", inbox.address)
            await broker.send([Outgoing(address, "1", b"", {h.ID: "1"})])
            assert ids(await inbox.receive(10, 0.0)) == ["1"]
        (late,) = await broker.send([Outgoing(address, "2", b"", {})])
        assert isinstance(late, Receipt)


async def test_it_lets_others_run(clock: HandClock) -> None:
    """A broker whose send never suspends starves the loop."""
    async with opened(clock) as broker:
        ran = 0

        async def other() -> None:
            nonlocal ran
            while True:
                ran += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(other())
        for i in range(1000):
            await broker.send([out(i)])
        task.cancel()
        assert ran >= 5


@settings(max_examples=80, deadline=None)
@given(st.booleans(), st.integers(0, 2**32))
def test_nothing_is_lost_doubled_or_reordered(ordered: bool, seed: int) -> None:
    asyncio.run(_random_life(LINE if ordered else WORK, random.Random(seed)))


class Life:
    """Random acts on one queue by two receivers, and what must come out of it."""

    def __init__(self, broker: MemoryBroker, source: Source, chance: random.Random) -> None:
        self.broker, self.source, self.chance = broker, source, chance
        self.sent = 0
        self.done: list[tuple[str, int]] = []
        self.hands: list[list[Delivery]] = [[], []]

    async def step(self, receivers: Sequence[MemoryReceiver], clock: HandClock) -> None:
        """One act."""
        which = self.chance.randrange(2)
        act = self.chance.choice(["send", "send", "receive", "receive", "settle", "settle", "settle", "wait"])
        if act == "send":
            key = self.chance.choice("abc")
            await self.broker.send([out(f"{key}{self.sent}", self.source, key=key)])
            self.sent += 1
        elif act == "receive":
            self.hands[which] += await receivers[which].receive(self.chance.randint(1, 4), 0.0)
        elif act == "wait":
            await clock.advance(self.chance.choice([0.5, 2.0, 12.0]))
        elif self.hands[which]:
            await self._settle(receivers[which], self.hands[which])

    async def _settle(self, receiver: MemoryReceiver, hand: list[Delivery]) -> None:
        """The head of a lane; a retry or release takes its lane along, as the core does."""
        first = hand[0] if self.source.ordered else self.chance.choice(hand)
        act = self.chance.choice([Act.ACK, Act.ACK, Act.RETRY, Act.RELEASE])
        with_it = [d for d in hand if d is not first and d.lane == first.lane and act is not Act.ACK and d.lane]
        delay = self.chance.choice([0.0, 3.0]) if act is Act.RETRY else 0.0
        batch = [Settlement(first, act, delay), *(Settlement(d, Act.RELEASE) for d in with_it)]
        results = await receiver.settle(batch)
        if act is Act.ACK and results[0] is None:
            message_id = first.headers[h.ID]
            self.done.append((message_id[0], int(message_id[1:])))
        if results[0] is not None:  # the lease was lost: so is what waits behind it
            with_it = [d for d in hand if d.lane == first.lane and d.lane]
            await receiver.settle([Settlement(d, Act.RELEASE) for d in with_it])
        for delivery in [first, *with_it]:
            if delivery in hand:
                hand.remove(delivery)


async def _random_life(source: Source, chance: random.Random) -> None:
    clock = HandClock()
    async with (
        opened(clock, "memory://?lease=10", source) as broker,
        broker.receiver(source, prefetch=100) as one,
        broker.receiver(source, prefetch=100) as two,
    ):
        life = Life(broker, source, chance)
        for _ in range(60):
            await life.step((one, two), clock)
        await clock.advance(30.0)  # all leases and delays are over
        while batch := await one.receive(1, 0.0):
            await settle(one, batch[0], Act.ACK)
            message_id = batch[0].headers[h.ID]
            life.done.append((message_id[0], int(message_id[1:])))
        assert Counter(number for _, number in life.done) == Counter(range(life.sent))
        if source.ordered:
            for key in "abc":
                of_key = [number for name, number in life.done if name == key]
                assert of_key == sorted(of_key)
        assert await broker.admin.backlog(source) == Backlog(0, 0, None)


def _name_on_a_loop(name: str, keep: list[MemoryBroker]) -> None:
    async def run() -> None:
        broker = MemoryBroker(f"memory://{name}", clock=SystemClock())
        keep.append(broker)
        await broker.connect()
        await broker.admin.ensure([QueueSpec(WORK)], "create")
        async with broker.receiver(WORK, prefetch=1) as receiver:
            await broker.send([out(1, delay=0.001)])
            assert ids(await receiver.receive(1, 30.0)) == ["1"]

    asyncio.run(run())


def test_a_name_can_be_used_on_one_event_loop_after_the_other() -> None:
    keep: list[MemoryBroker] = []
    for _ in range(3):
        _name_on_a_loop("again", keep)


async def test_a_name_that_another_event_loop_uses_is_refused() -> None:
    here = MemoryBroker("memory://both", clock=SystemClock())
    with pytest.raises(ConfigError, match="memory://both is in use on another event loop of this process"):
        await asyncio.to_thread(_name_on_a_loop, "both", [here])
