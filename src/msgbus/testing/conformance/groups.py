"""Queues share their messages out, topics give every group its own copy."""

# ruff: noqa: S101

from __future__ import annotations

import dataclasses

from msgbus import headers as h
from msgbus.message import Act, Settlement, Source
from msgbus.testing.conformance.base import Base
from msgbus.testing.conformance.claims import about, not_claimed
from msgbus.testing.conformance.lab import Lab, numbers

_TOPICS = "the bus refuses topics, see test_topics_are_refused_without_fanout"


async def _kill_one(lab: Lab, source: Source) -> None:
    await lab.send(lab.out(source.address, 99))
    receiver = await lab.open(source)
    (delivery,) = await lab.collect(receiver, 1)
    await lab.settle(receiver, [Settlement(delivery, Act.DEAD, reason="by the test", headers={h.DEAD_REASON: "x"})])
    await lab.leave(receiver)


class GroupTests(Base):
    """Competing consumers and fan-out."""

    @about("queues", "shared")
    async def test_competing_consumers_get_each_message_once(self, lab: Lab) -> None:
        source = await lab.home()
        receivers = [await lab.open(source, prefetch=2), await lab.open(source, await lab.second(), prefetch=2)]
        await lab.send_numbers(source, range(12))
        seen: list[int] = []
        while len(seen) < 12:
            for receiver, delivery in await lab.collect_any(receivers, 1):
                await lab.ack(receiver, [delivery])
                seen.append(int(delivery.body))
        assert sorted(seen) == list(range(12))
        for receiver in receivers:
            await lab.nothing(receiver)

    @about("queues")
    async def test_what_one_consumer_holds_no_other_gets(self, lab: Lab) -> None:
        source = await lab.home()
        await lab.send_numbers(source, range(1))
        first = await lab.open(source)
        held = await lab.collect(first, 1)
        second = await lab.open(source, await lab.second())
        await lab.nothing(second)
        await lab.ack(first, held)

    @about("fanout")
    async def test_every_group_gets_every_message(self, lab: Lab) -> None:
        if not lab.can.fanout:
            not_claimed("fanout", _TOPICS)
        groups = [await lab.declare(lab.group(name)) for name in ("a", "b", "c")]
        await lab.send_numbers(groups[0], range(5))
        for group in groups:
            assert sorted(numbers(await lab.drain(group, 5))) == list(range(5))

    @about("fanout")
    async def test_the_members_of_a_group_compete(self, lab: Lab) -> None:
        if not lab.can.fanout:
            not_claimed("fanout", _TOPICS)
        mine, other = await lab.declare(lab.group("mine")), await lab.declare(lab.group("other"))
        receivers = [await lab.open(mine), await lab.open(mine, await lab.second())]
        await lab.send_numbers(mine, range(8))
        got = await lab.collect_any(receivers, 8)
        assert sorted(numbers([delivery for _, delivery in got])) == list(range(8))
        for receiver, delivery in got:
            await lab.ack(receiver, [delivery])
        assert sorted(numbers(await lab.drain(other, 8))) == list(range(8))

    @about("fanout")
    async def test_a_late_group_gets_nothing_old(self, lab: Lab) -> None:
        if not lab.can.fanout:
            not_claimed("fanout", _TOPICS)
        early = await lab.declare(lab.group("early"))
        await lab.send_numbers(early, [1])
        late = await lab.declare(lab.group("late"))
        receiver = await lab.open(late)
        await lab.nothing(receiver)
        await lab.send_numbers(early, [2])
        deliveries = await lab.collect(receiver, 1)
        assert numbers(deliveries) == [2]
        await lab.ack(receiver, deliveries)
        assert sorted(numbers(await lab.drain(early, 2))) == [1, 2]

    @about("fanout")
    async def test_one_group_can_be_addressed_alone(self, lab: Lab) -> None:
        if not lab.can.fanout:
            not_claimed("fanout", _TOPICS)
        mine, other = await lab.declare(lab.group("mine")), await lab.declare(lab.group("other"))
        await lab.send(lab.out(mine.address, 7))
        assert numbers(await lab.drain(mine, 1)) == [7]
        await lab.empty(other)

    @about("fanout", "dead_letters")
    async def test_groups_whose_names_look_alike_are_different_places(self, lab: Lab) -> None:
        if not lab.can.fanout:
            not_claimed("fanout", _TOPICS)
        names = {"a": ("b.c", "b--c", "dead"), "a.b": ("c",), "a--b": ("c",)}
        groups = [await lab.declare(lab.group(group, topic=topic)) for topic, each in names.items() for group in each]
        if lab.can.dead_letters:
            await _kill_one(lab, await lab.declare(lab.queue("a") if lab.can.queues else lab.group("x", topic="a")))
        for number, topic in enumerate(names):
            await lab.send_numbers(lab.group("", topic=topic), [number])
        for group in groups:
            number = list(names).index(group.name.removeprefix(lab.prefix))
            assert numbers(await lab.drain(group, 1)) == [number], group

    @about("fanout")
    async def test_a_filter_loses_nothing_that_matches(self, lab: Lab) -> None:
        if not lab.can.fanout:
            not_claimed("fanout", _TOPICS)
        plain = lab.group("picky")
        picky = await lab.declare(dataclasses.replace(plain, filter=(("colour", ("red", "blue")),)))
        colours = ["red", "green", "blue", "green"]
        await lab.send(*(lab.out(picky, i, headers={"colour": colour}) for i, colour in enumerate(colours)))
        receiver = await lab.open(picky)
        seen: set[int] = set()
        while not {0, 2} <= seen:
            deliveries = await lab.collect(receiver, 1)
            seen.update(numbers(deliveries))
            await lab.ack(receiver, deliveries)
