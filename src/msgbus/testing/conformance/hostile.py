"""Nothing spreads: odd messages, entries, errors and cancellations leave their neighbours alone."""

# ruff: noqa: S101

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from msgbus import headers as h
from msgbus.bus import Bus
from msgbus.errors import PASSING, Disconnected, Refused, RemoteError
from msgbus.message import Message, Outgoing, Receipt
from msgbus.options import Limits, Retry
from msgbus.testing.conformance.base import Base
from msgbus.testing.conformance.claims import about
from msgbus.testing.conformance.flow import Item, Publish, Tally, call_of, subscribe
from msgbus.testing.conformance.lab import Lab, bodies
from msgbus.testing.conformance.oddities import ENTRIES, FORGED, Oddity, errors, odd_error

_GOOD = 5  # on each side of what is odd
_VITAL = ("Intake.run", "Settler.run", "Heartbeat.run", "Workers._live")


async def _wrong(lab: Lab, oddity: Oddity) -> Outgoing:
    out = lab.out(await lab.home(), b"odd")
    lab.fit(out)
    oddity(out)
    return out


async def _sent(lab: Lab, *outs: Outgoing) -> object:
    async with asyncio.timeout(lab.harness.patience):
        return (await lab.link.send(outs))[0]


def _is_well(bus: Bus) -> bool:
    """Every subscription runs on the receiver that it began with."""
    return bus.health().ready and not any(each.failures for each in bus.health().subscriptions)


async def _settled(lab: Lab, bus: Bus, count: int) -> None:
    """So many messages were received, and nothing is in hand any more."""
    (runner,) = bus.runners
    async with asyncio.timeout(2 * lab.harness.patience):
        while runner.subscription.stats.handled + runner.subscription.stats.dead < count or runner.session is None:
            await asyncio.sleep(lab.harness.quiet / 10)
        while runner.session.in_hand:
            await asyncio.sleep(lab.harness.quiet / 10)


async def _publish_around(publish: Publish, numbers: range) -> None:
    await publish(*(Item("a", number) for number in numbers))


class HostileTests(Base):
    """What comes in, what goes out, what handlers raise, and what befalls the tasks of a session."""

    @about("send_batch", "send_slots")
    @pytest.mark.parametrize("name", sorted(ENTRIES))
    async def test_an_entry_that_can_t_be_written_fails_alone(self, lab: Lab, name: str) -> None:
        source = await lab.home()
        before, after = lab.out(source, b"before"), lab.out(source, b"after")
        lab.fit(before, after)
        odd = await _wrong(lab, ENTRIES[name])
        results = await asyncio.gather(*(_sent(lab, out) for out in (before, odd, after)))
        assert [type(results[0]), type(results[2])] == [Receipt, Receipt]
        assert not isinstance(results[1], (Disconnected, *PASSING)), "it would be tried again for ever"
        assert isinstance(results[1], (Receipt, Refused))
        again = lab.out(source, b"in one call")
        lab.fit(again)
        odd = await _wrong(lab, ENTRIES[name])
        async with asyncio.timeout(lab.harness.patience):
            results = await lab.link.send([odd, again])
        assert isinstance(results[1], Receipt)
        count = 3 + sum(isinstance(result, Receipt) for result in results[:1]) * 2
        received = [body for body in bodies(await lab.drain(source, count)) if body != b"odd"]
        assert Counter(received) == Counter([b"before", b"after", b"in one call"])

    @about("headers", "dead_letters")
    async def test_forged_headers_harm_nobody_else(self, lab: Lab) -> None:
        bus, tally = lab.bus(), Tally(lab.harness.patience)
        source, publish = subscribe(lab, bus, tally.add, Retry(attempts=2, first_delay=0.01, max_delay=0.02))
        async with bus.consuming():
            await _publish_around(publish, range(_GOOD))
            for forged in FORGED:
                out = lab.out(source, b'{"key": "odd", "number": -1}', content_type="application/json")
                lab.fit(out)
                out.headers.update(forged)
                await _sent(lab, out)
            await _publish_around(publish, range(_GOOD, 2 * _GOOD))
            await _settled(lab, bus, 2 * _GOOD)
            assert _is_well(bus)
        good = [item.number for item in tally.seen if item.key == "a"]
        assert sorted(good) == list(range(2 * _GOOD))

    @about("binary", "dead_letters")
    async def test_what_a_raw_client_puts_there_harms_nobody_else(self, lab: Lab) -> None:
        lab.harness.needs("put_odd")
        bus, tally = lab.bus(), Tally(lab.harness.patience)
        source, publish = subscribe(lab, bus, tally.add, Retry(attempts=2, first_delay=0.01, max_delay=0.02))
        async with bus.consuming():
            await _publish_around(publish, range(_GOOD))
            odd = await lab.harness.put_odd(source)
            await _publish_around(publish, range(_GOOD, 2 * _GOOD))
            await _settled(lab, bus, 2 * _GOOD + odd)
            assert _is_well(bus)
        good = [item.number for item in tally.seen if item.key == "a"]
        assert sorted(good) == list(range(2 * _GOOD))

    @about("retry_delay", "dead_letters")
    async def test_odd_errors_of_handlers_are_failures_of_their_message(self, lab: Lab) -> None:
        bus, tally = lab.bus(), Tally(lab.harness.patience)
        kinds = sorted(errors())

        async def handle(item: Item) -> None:
            if item.key == "odd":
                await odd_error(kinds[item.number])
            await tally.add(item)

        retry = Retry(attempts=2, first_delay=0.01, max_delay=0.02)
        source, publish = subscribe(lab, bus, handle, retry)
        odd = [Item("odd", number) for number in range(len(kinds))]
        async with bus.consuming():
            await _publish_around(publish, range(_GOOD))
            await publish(*odd)
            await _publish_around(publish, range(_GOOD, 2 * _GOOD))
            await _settled(lab, bus, 2 * _GOOD + len(odd))
            assert bus.runners[0].subscription.stats.dead == len(odd)
            assert _is_well(bus)
        assert sorted(item.number for item in tally.seen) == list(range(2 * _GOOD))
        if lab.can.dead_letters:
            place = await lab.broker.admin.dead_letters(source)
            assert place is not None
            letters = await lab.drain(place, len(odd))
            assert all(letter.headers[h.DEAD_REASON] for letter in letters)

    @about("reply")
    async def test_a_requester_is_told_of_any_error(self, lab: Lab) -> None:
        rpc, bus = call_of(lab), lab.bus()
        kinds = sorted(set(errors()) - {"retry later"})

        @bus.responder(rpc)
        async def answer(item: Item) -> Item:
            await odd_error(kinds[item.number])
            return item

        async with bus.consuming():
            for number in range(len(kinds)):
                with pytest.raises(RemoteError):
                    await bus.request(rpc, Item("a", number), timeout=lab.harness.patience)
            assert _is_well(bus)

    @about("reply", "inboxes")
    async def test_a_requester_can_t_have_a_reply_sent_elsewhere(self, lab: Lab) -> None:
        rpc, bus = call_of(lab), lab.bus()
        if lab.can.inboxes is None:
            pytest.skip("a responder answers wherever a requester says: the broker can't tell an inbox by its address")
        asked = Tally(lab.harness.patience)

        @bus.responder(rpc)
        async def answer(item: Item) -> Item:
            await asked.add(item)
            return item

        victim = await lab.declare(lab.queue("victim"))
        async with bus.consuming():
            headers = {h.REPLY_TO: victim.name, h.CORRELATION: "c"}
            request = lab.out(lab.queue("add"), b'{"key": "odd", "number": 1}', headers=headers)
            request.headers[h.CONTENT_TYPE] = "application/json"
            await lab.send(request)
            await _settled(lab, bus, 1)
            assert await bus.request(rpc, Item("a", 2), timeout=lab.harness.patience) == Item("a", 2)
        assert [item.number for item in asked.seen] == [2]
        await lab.empty(victim)

    @about("receive_batch", "settle_batch")
    async def test_tasks_that_are_cancelled_from_within_are_no_silent_end(self, lab: Lab) -> None:
        bus, tally = lab.bus(), Tally(2 * lab.harness.patience + 3 * lab.harness.lease)
        _, publish = subscribe(lab, bus, tally.add, Retry(), limits=Limits(concurrency=2))
        async with bus.consuming():
            await publish(Item("a", 0))
            await tally.until(1)
            number = 1
            for vital in _VITAL:
                for task in asyncio.all_tasks():
                    if getattr(task.get_coro(), "__qualname__", "") == vital:
                        task.cancel()
                await publish(Item("a", number))
                number += 1
                await tally.until(number)
        assert {item.number for item in tally.seen} == set(range(number))

    @about("receive_batch")
    async def test_a_handler_that_cancels_its_task_fails_alone(self, lab: Lab) -> None:
        bus, tally = lab.bus(concurrency=1), Tally(lab.harness.patience)

        async def handle(message: Message[Item]) -> None:
            if message.payload.key == "odd" and message.attempt == 1:
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
                return  # and leaves its cancellation behind
            await asyncio.sleep(0)
            await tally.add(message.payload)

        _, publish = subscribe(lab, bus, handle, Retry(first_delay=0.01, max_delay=0.02))
        async with bus.consuming():
            await publish(Item("a", 0), Item("odd", 1), *(Item("a", number) for number in range(2, 10)))
            await tally.until(9)
            assert _is_well(bus)
        assert sorted(item.number for item in tally.seen) == [0, *range(2, 10)]
