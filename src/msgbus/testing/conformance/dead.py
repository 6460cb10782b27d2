"""Dead letters: written with their history, readable through Admin, and sent again."""

# ruff: noqa: S101

from __future__ import annotations

import asyncio

from msgbus import headers as h
from msgbus.message import Act, Delivery, Settlement, Source
from msgbus.testing.conformance.base import Base
from msgbus.testing.conformance.claims import about, not_claimed
from msgbus.testing.conformance.lab import Lab, bodies

_NONE = "nothing can be read back, see test_without_dead_letters_there_is_no_place"
_BODY = bytes(range(256))


def dead(delivery: Delivery) -> Settlement:
    """DEAD with the headers that the core gives."""
    headers = {
        h.ATTEMPT: "3",
        h.FIRST_FAILED: "1700000000.000",
        h.DEAD_REASON: "the reason: 100% sure",
        h.ERROR_TYPE: "ValueError",
        h.ERROR: "the error",
        h.ATTEMPTS: "3",
        h.ORIGIN: delivery.source.origin,
    }
    return Settlement(delivery, Act.DEAD, reason="the reason: 100% sure", headers=headers)


async def _buried(lab: Lab, source: Source) -> Source:
    """A message of `source` is dead; where it can be read."""
    receiver = await lab.open(source)
    await lab.send(lab.out(source, _BODY, key="k", headers={"user": "value"}))
    await lab.settle(receiver, [dead(delivery) for delivery in await lab.collect(receiver, 1)])
    await lab.nothing(receiver)
    await lab.leave(receiver)
    place = await lab.broker.admin.dead_letters(source)
    assert place is not None
    return place


class DeadLetterTests(Base):
    """DEAD, `Admin.dead_letters`, redrive."""

    @about("dead_letters", "binary", "headers")
    async def test_a_dead_letter_tells_its_history(self, lab: Lab) -> None:
        if not lab.can.dead_letters:
            not_claimed("dead_letters", _NONE)
        source = await lab.home()
        (letter,) = await lab.drain(await _buried(lab, source), 1)
        assert letter.body == _BODY
        assert letter.headers["user"] == "value"
        assert letter.headers[h.TYPE] == "Test"
        assert letter.headers[h.DEAD_REASON] == "the reason: 100% sure"
        assert letter.headers[h.ERROR_TYPE] == "ValueError"
        assert letter.headers[h.ATTEMPTS] == "3"
        assert letter.headers[h.ORIGIN] == source.origin

    @about("dead_letters", "expiry")
    async def test_a_dead_letter_does_not_expire(self, lab: Lab) -> None:
        if not lab.can.dead_letters:
            not_claimed("dead_letters", _NONE)
        source = await lab.home()
        receiver = await lab.open(source)
        out = lab.out(source, _BODY, key="k")
        out.expires_at = lab.time() + 2 * lab.harness.delay
        out.headers[h.EXPIRES] = h.rfc3339(out.expires_at)
        await lab.send(out)
        await lab.settle(receiver, [dead(delivery) for delivery in await lab.collect(receiver, 1)])
        await asyncio.sleep(2 * lab.harness.delay + lab.harness.quiet)  # time itself is what is awaited
        place = await lab.broker.admin.dead_letters(source)
        assert place is not None
        (letter,) = await lab.drain(place, 1)
        assert letter.body == _BODY

    @about("dead_letters")
    async def test_without_dead_letters_there_is_no_place(self, lab: Lab) -> None:
        place = await lab.broker.admin.dead_letters(await lab.home())
        assert (place is not None) is lab.can.dead_letters

    @about("dead_letters", "release_counts")
    async def test_listing_dead_letters_keeps_them(self, lab: Lab) -> None:
        if not lab.can.dead_letters:
            not_claimed("dead_letters", _NONE)
        place = await _buried(lab, await lab.home())
        for _ in range(3):
            receiver = await lab.open(place)
            letters = await lab.collect(receiver, 1)
            await receiver.stop()
            await lab.settle(receiver, [Settlement(letter, Act.RELEASE) for letter in letters])
            await lab.leave(receiver)
        assert bodies(await lab.drain(place, 1)) == [_BODY]

    @about("dead_letters", "dedup_window")
    async def test_a_redriven_letter_reaches_its_group(self, lab: Lab) -> None:
        if not lab.can.dead_letters:
            not_claimed("dead_letters", _NONE)
        source = await lab.home(ordered=lab.can.order != "none")
        place = await _buried(lab, source)
        for _ in range(2):  # twice, well inside any deduplication window
            receiver = await lab.open(place)
            (letter,) = await lab.collect(receiver, 1)
            again = lab.out(source.address, letter.body, key="k", id=letter.headers[h.ID])
            again.headers = {name: value for name, value in letter.headers.items() if name not in h.FAILURE}
            again.headers[h.HOP], again.dedup_id = h.resend_id(letter.headers, again.id)
            await lab.send(again)
            await lab.ack(receiver, [letter])
            await lab.leave(receiver)
            receiver = await lab.open(source)
            (back,) = await lab.collect(receiver, 1)
            assert (back.body, back.attempt, back.headers["user"]) == (_BODY, 1, "value")
            await lab.settle(receiver, [dead(back)])
            await lab.leave(receiver)
        await lab.drain(place, 1)

    @about("fanout", "dead_letters")
    async def test_a_dead_letter_is_of_one_group(self, lab: Lab) -> None:
        if not (lab.can.dead_letters and lab.can.fanout):
            not_claimed("dead_letters" if lab.can.fanout else "fanout", _NONE)
        failing, other = await lab.declare(lab.group("failing")), await lab.declare(lab.group("other"))
        await lab.drain(await _buried(lab, failing), 1)
        assert bodies(await lab.drain(other, 1)) == [_BODY]
        place = await lab.broker.admin.dead_letters(other)
        assert place is not None
        await lab.empty(place)

    @about("counts_deliveries", "isolates", "dead_letters")
    async def test_a_message_that_kills_its_consumers_is_dead_in_the_end(self, lab: Lab) -> None:
        source = await lab.declare(lab.queue() if lab.can.queues else lab.group(), short=True, max_deliveries=2)
        can = lab.broker.capabilities(source)
        if not (can.counts_deliveries and can.dead_letters):
            not_claimed("counts_deliveries", "there is no native cap")
        await lab.send(lab.out(source, _BODY))
        for _ in range(2):
            receiver = await lab.open(source)
            await lab.collect(receiver, 1)
            await lab.leave(receiver)
        receiver = await lab.open(source)  # brokers look at the count when they would deliver it once more
        await lab.nothing(receiver, lab.harness.quiet + (lab.harness.lease if can.lease else 0.0))
        place = await lab.broker.admin.dead_letters(source)
        assert place is not None
        assert bodies(await lab.drain(place, 1)) == [_BODY]
