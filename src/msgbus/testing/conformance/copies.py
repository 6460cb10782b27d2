"""What others wrote is sent again as it came: retried, dead or redriven, with headers of ours beside it."""

# ruff: noqa: S101

from __future__ import annotations

import pytest

from msgbus import headers as h
from msgbus.dead import DeadLetters
from msgbus.message import Source
from msgbus.testing.conformance.base import Base
from msgbus.testing.conformance.claims import about
from msgbus.testing.conformance.dead import dead
from msgbus.testing.conformance.lab import Lab, retries
from msgbus.topic import Queue, Topic


async def _fail(lab: Lab, source: Source, *, is_dead: bool) -> Source:
    """The message in `source` fails; where it is then."""
    receiver = await lab.open(source)
    (delivery,) = await lab.collect(receiver, 1)
    await lab.settle(receiver, [dead(delivery) if is_dead else retries(delivery)])
    await lab.leave(receiver)
    place = await lab.broker.admin.dead_letters(source) if is_dead else source
    assert place is not None
    return place


async def _redrive(lab: Lab, source: Source) -> None:
    target = Queue("queue", bytes) if source.kind == "queue" else Topic("topic", bytes)
    bus = lab.bus()
    async with bus:
        letters = DeadLetters(bus, target, source.group, wait=lab.harness.quiet)
        (letter,) = await letters.peek()
        assert letter.id
        found = await letters.find(letter.id)
        assert found is not None
        assert found.body == letter.body
        redriven = await letters.redrive(ids=[letter.id])
        assert (redriven.moved, redriven.failed, redriven.missing) == (1, (), ())


class CopyTests(Base):
    """Copies keep the native message."""

    @about("headers", "dead_letters", "retry_delay")
    @pytest.mark.parametrize("fate", ["retried", "dead", "redriven"])
    async def test_a_copy_of_a_foreign_message_is_the_message_that_came(self, lab: Lab, fate: str) -> None:
        lab.harness.needs("put_foreign")
        source = await lab.home()
        wrote = await lab.harness.put_foreign(source)
        place = await _fail(lab, source, is_dead=fate != "retried")
        if fate == "redriven":
            await _redrive(lab, source)
            place = source
        read = await lab.harness.take_foreign(place)
        assert {name: read.get(name) for name in wrote} == wrote

    @about("dead_letters")
    async def test_a_foreign_message_that_dies_twice_is_one_message(self, lab: Lab) -> None:
        lab.harness.needs("put_foreign")
        source = await lab.home()
        await lab.harness.put_foreign(source)
        ids, bodies = [], []
        for hop in range(3):
            receiver = await lab.open(source)
            (delivery,) = await lab.collect(receiver, 1)
            assert (delivery.attempt, delivery.headers.get(h.HOP, "0")) == (1, str(hop))
            ids.append(delivery.headers.get(h.ID))
            bodies.append(delivery.body)
            await lab.settle(receiver, [dead(delivery)])
            await lab.leave(receiver)
            await _redrive(lab, source)
        assert ids[1] == ids[2]
        assert len(set(bodies)) == 1
