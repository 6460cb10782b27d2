"""Nothing spreads: odd messages, entries, errors and cancellations leave their neighbours alone."""

# ruff: noqa: S101

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Sequence

import pytest

from msgbus import headers as h
from msgbus.broker import Result
from msgbus.bus import Bus
from msgbus.errors import PublishFailed, Refused, RemoteError
from msgbus.message import Message, Outgoing, Receipt
from msgbus.options import Limits, Retry
from msgbus.publishing.middleware import PublishMiddleware, SendNext
from msgbus.testing.conformance.base import Base
from msgbus.testing.conformance.claims import about
from msgbus.testing.conformance.flow import Item, Publish, Tally, call_of, subscribe, until
from msgbus.testing.conformance.lab import Lab
from msgbus.testing.conformance.oddities import ENTRIES, FORGED, Oddity, errors, odd_error

_GOOD = 5  # on each side of what is odd
_VITAL = ("Intake.run", "Settler.run", "Heartbeat.run", "Workers._live")


def _spoiling(oddity: Oddity) -> PublishMiddleware:
    """A middleware that makes something odd of whatever has the key "odd"."""

    async def spoil(batch: Sequence[Outgoing], send: SendNext) -> Sequence[Result]:
        for out in batch:
            if out.key == "odd":
                oddity(out)
        return await send(batch)

    return spoil


def _is_well(bus: Bus) -> bool:
    """Every subscription runs on the receiver that it began with."""
    return bus.health().ready and not any(each.failures for each in bus.health().subscriptions)


async def _settled(lab: Lab, bus: Bus, count: int) -> None:
    """So many messages came to their end, and nothing is in hand any more."""
    (runner,) = bus.runners
    stats = runner.subscription.stats

    def is_settled() -> bool:
        session = runner.session
        return stats.handled + stats.dead >= count and session is not None and not session.in_hand

    await until(is_settled, lab)


async def _failures(publish: Publish, *items: Item) -> list[object]:
    """Of one call."""
    try:
        await publish(*items)
    except PublishFailed as failed:
        return [result for result in failed.results if not isinstance(result, Receipt)]
    return []


async def _publish_around(publish: Publish, numbers: range) -> None:
    await publish(*(Item("a", number) for number in numbers))


class HostileTests(Base):
    """What comes in, what goes out, what handlers raise, and what befalls the tasks of a session."""

    @about("send_batch", "send_slots")
    @pytest.mark.parametrize("name", sorted(ENTRIES))
    async def test_an_entry_that_can_t_be_written_fails_alone(self, lab: Lab, name: str) -> None:
        bus, tally = lab.bus(publish_middlewares=[_spoiling(ENTRIES[name])]), Tally(lab.harness.patience)
        retry = Retry(attempts=2, first_delay=0.01, max_delay=0.02)
        _, publish = subscribe(lab, bus, tally.add, retry)
        good, odd = [Item("a", number) for number in range(2 * _GOOD)], Item("odd", -1)
        async with bus.consuming():
            each = [*good[:3], odd, *good[3:_GOOD]]
            in_tasks = await asyncio.gather(*(_failures(publish, item) for item in each))
            in_one_call = await _failures(publish, *good[_GOOD:-2], odd, *good[-2:])
            for failures in (list(itertools.chain(*in_tasks)), in_one_call):
                assert [type(failure) for failure in failures] in ([], [Refused]), "else it is tried again for ever"
            await tally.until(len(good), of="a")
            assert _is_well(bus)
        assert Counter(tally.those("a")) == Counter(good)

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
                await lab.link.send([out])  # accepted or refused
            await _publish_around(publish, range(_GOOD, 2 * _GOOD))
            await tally.until(2 * _GOOD, of="a")
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
            await tally.until(2 * _GOOD, of="a")
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
