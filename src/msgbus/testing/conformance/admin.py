"""The cold side: capabilities, status, topology, backlog, purge, replay."""

# ruff: noqa: S101

from __future__ import annotations

import asyncio
import contextlib
import dataclasses

import pytest

from msgbus.broker import Backlog, Capabilities, QueueSpec
from msgbus.errors import BusError, Disconnected, Refused, Unavailable
from msgbus.handlers.topology import parts_of
from msgbus.message import Act, Receipt, Settlement, Source, Start
from msgbus.testing.conformance.base import Base
from msgbus.testing.conformance.claims import about, not_claimed
from msgbus.testing.conformance.lab import Lab, numbers

_ROUNDED = 0.05  # seconds: a server's clock, and what it rounds


def contradictions(can: Capabilities) -> list[str]:
    """What of a broker's claims can't be true together."""
    rules = {
        "send_batch, send_slots, receive_batch, settle_batch and settle_slots are at least 1": min(
            can.send_batch, can.send_slots, can.receive_batch, can.settle_batch, can.settle_slots
        )
        >= 1,
        "message_bytes fits into send_bytes": (can.message_bytes or 0) <= (can.send_bytes or 1 << 62),
        "headers is 0 or leaves room for what the envelope promotes": can.headers is None
        or can.headers not in range(1, 5),
        "lease_extends needs a lease": can.lease is not None or not can.lease_extends,
        "lease_max is at least the lease": can.lease_max is None or can.lease_max >= (can.lease or 0.0),
        "retry_keeps_order needs order and native retries": not can.retry_keeps_order
        or (can.order != "none" and can.retry_delay is not None),
        "order needs sends that keep it": can.order == "none" or can.send_order != "none",
        "settle_linger is shorter than the lease": can.settle_linger < (can.lease or can.lease_max or 1e9),
        "a broker has topics or queues": can.fanout or can.queues,
    }
    return [rule for rule, holds in rules.items() if not holds]


class AdminTests(Base):
    """`capabilities`, `status`, `connect`, `close` and `Admin`."""

    @about("send_bytes", "lease_max", "settle_linger", "retry_resolution")
    async def test_the_claims_do_not_contradict_each_other(self, lab: Lab) -> None:
        ordered = [await lab.home(ordered=True)] if lab.can.order != "none" else []
        for source in (None, *ordered):
            assert contradictions(lab.broker.capabilities(source)) == []

    @about("shared")
    async def test_status_follows_the_connection(self, lab: Lab) -> None:
        broker = lab.harness.broker()
        assert not broker.status().connected
        await broker.connect()
        assert (broker.status().connected, broker.status().blocked) == (True, False)
        await broker.close()
        assert not broker.status().connected
        assert broker.status().reason

    @about("shared")
    async def test_connecting_to_no_server_can_be_tried_again(self, lab: Lab) -> None:
        if not lab.harness.unreachable:
            pytest.skip("the harness knows no URL that is `unreachable`")
        await _cannot_connect(lab, lab.harness.unreachable, (Disconnected, Unavailable))

    @about("shared")
    async def test_a_wrong_password_is_refused(self, lab: Lab) -> None:
        if not lab.harness.unauthorized:
            pytest.skip("the harness knows no URL that is `unauthorized`")
        await _cannot_connect(lab, lab.harness.unauthorized, (Refused,))

    @about("replay")
    async def test_lags_are_of_what_is_received(self, lab: Lab) -> None:
        source = await lab.home()
        await lab.send(lab.out(source, b"x"))
        receiver = await lab.open(source)
        await lab.ack(receiver, await lab.collect(receiver, 1))
        lags = lab.broker.status().lags
        assert all(lag.source == source and lag.seconds >= 0 for lag in lags)
        assert len({lag.part for lag in lags}) == len(lags)
        if lags:
            assert lab.can.replay, "only a log has parts to be late with"
        await lab.leave(receiver)
        assert not lab.broker.status().lags

    @about("shared")
    async def test_close_can_be_repeated_and_undone(self, lab: Lab) -> None:
        source = await lab.home()
        broker = lab.harness.broker()
        await broker.close()
        await broker.connect()
        await broker.close()
        await broker.close()
        await broker.connect()
        await broker.send(lab.fit(lab.out(source, b"x")))
        await broker.close()
        await lab.drain(source, 1)

    @about("queues", "fanout")
    async def test_ensure_creates_once(self, lab: Lab) -> None:
        parts = parts_of(lab.queue() if lab.can.queues else lab.group())
        admin = lab.broker.admin
        made = await admin.ensure(parts, "create")
        assert made
        assert all(difference.made for difference in made)
        assert list(await admin.ensure(parts, "create")) == []
        assert list(await (await lab.second()).admin.ensure(parts, "verify")) == []

    @about("queues", "fanout")
    async def test_ensure_verifies_without_creating(self, lab: Lab) -> None:
        parts = parts_of(lab.queue() if lab.can.queues else lab.group())
        for _ in range(2):
            missing = await lab.broker.admin.ensure(parts, "verify")
            assert missing
            assert not any(difference.made for difference in missing)
            assert all(difference.part for difference in missing)

    @about("queues")
    async def test_ensure_trusts_without_looking(self, lab: Lab) -> None:
        source = lab.queue() if lab.can.queues else lab.group()
        assert list(await lab.broker.admin.ensure(parts_of(source), "trust")) == []
        assert await lab.broker.admin.ensure(parts_of(source), "verify")

    @about("lease")
    async def test_ensure_gives_a_queue_its_lease(self, lab: Lab) -> None:
        source = await lab.home(short=True)
        if lab.broker.capabilities(source).lease is None:
            not_claimed("lease", "a QueueSpec's lease has no meaning")
        receiver = await lab.open(source)
        await lab.send_numbers(source, [1])
        await lab.collect(receiver, 1)
        await lab.ack(receiver, await lab.collect(receiver, 1))

    @about("queues", "fanout")
    async def test_a_queue_spec_alone_is_a_queue(self, lab: Lab) -> None:
        if not lab.can.queues:
            not_claimed("queues", "the bus refuses them, see test_queues_are_refused_where_there_are_none")
        source = lab.queue("alone")
        await lab.broker.admin.ensure([QueueSpec(source)], "create")
        await lab.send_numbers(Source("queue", source.name), [1])
        assert numbers(await lab.drain(source, 1)) == [1]

    @about("receive_batch", "backlog")
    async def test_backlog_counts_what_waits(self, lab: Lab) -> None:
        source = await lab.home()
        if lab.can.backlog == "none":
            assert await lab.broker.admin.backlog(source) is None
            not_claimed("backlog", "Admin.backlog answers None")
        sent = await _sent_apart(lab, source, 3)
        backlog = await _counted(lab, source, 3, 0)
        _check_age(lab, backlog, sent[0], sent[1])
        if backlog.in_flight is not None:
            receiver = await lab.open(source, prefetch=1)
            held = await lab.collect(receiver, 1)
            _check_age(lab, await _counted(lab, source, 2, 1), sent[1], sent[2])
            await lab.ack(receiver, held)
            await lab.leave(receiver)
        elif lab.can.backlog == "all":
            receiver = await lab.open(source, prefetch=1)
            held = await lab.collect(receiver, 1)
            assert (await _counted(lab, source, 3, 0)).depth == 3, "what is in hand is not counted"
            await lab.ack(receiver, held)
            await lab.leave(receiver)
            await _counted(lab, source, 2, 0)

    @about("receive_batch")
    async def test_purge_leaves_what_is_in_flight(self, lab: Lab) -> None:
        if lab.harness.purges_in_flight:
            pytest.skip("the harness says that this server can't")
        source = await lab.home()
        await lab.send_numbers(source, range(3))
        receiver = await lab.open(source, prefetch=1)
        held = await lab.collect(receiver, 1)
        assert 0 <= await lab.broker.admin.purge(source) <= 2
        await receiver.stop()
        await lab.settle(receiver, [Settlement(held[0], Act.RELEASE)])
        await lab.leave(receiver)
        assert numbers(await lab.drain(source, 1)) == numbers(held)

    @about("receive_batch")
    async def test_purge_throws_away_what_waits(self, lab: Lab) -> None:
        source, other = await lab.home(), await lab.declare(lab.other())
        await lab.send_numbers(source, range(3))
        await lab.send_numbers(other, range(2))
        assert 0 <= await lab.broker.admin.purge(source) <= 3
        await lab.empty(source)
        assert sorted(numbers(await lab.drain(other, 2))) == [0, 1]
        await lab.send_numbers(source, [9])
        assert numbers(await lab.drain(source, 1)) == [9]

    @about("replay")
    async def test_a_new_group_can_start_at_the_oldest(self, lab: Lab) -> None:
        if not lab.can.replay:
            not_claimed("replay", "the bus refuses select.start, see test_replay_is_refused_where_there_is_none")
        early = await lab.declare(lab.group("early"))
        await lab.send_numbers(early, range(3))
        late = await lab.declare(dataclasses.replace(lab.group("late"), start=Start("oldest")))
        assert sorted(numbers(await lab.drain(late, 3))) == [0, 1, 2]

    @about("replay")
    async def test_a_group_can_seek(self, lab: Lab) -> None:
        source = await lab.declare(lab.group()) if lab.can.fanout else await lab.home()
        if not lab.can.replay:
            with pytest.raises(Refused):
                await lab.broker.admin.seek(source, Start("oldest"))
            return
        await lab.send_numbers(source, range(3))
        await lab.drain(source, 3)
        await asyncio.sleep(lab.harness.quiet)
        later = lab.time()
        await lab.send_numbers(source, range(3, 5))
        await lab.broker.admin.seek(source, Start("oldest"))
        assert sorted(numbers(await lab.drain(source, 5))) == [0, 1, 2, 3, 4]
        await lab.broker.admin.seek(source, Start("time", later))
        assert sorted(numbers(await lab.drain(source, 2))) == [3, 4]
        await lab.send_numbers(source, [5])
        await lab.broker.admin.seek(source, Start("latest"))
        await lab.empty(source)

    @about("replay")
    async def test_a_group_can_seek_to_a_position(self, lab: Lab) -> None:
        if not lab.can.replay:
            not_claimed("replay", "there is nothing to seek, see test_a_group_can_seek")
        source = await lab.declare(lab.group()) if lab.can.fanout else await lab.home()
        receipts: list[Receipt | BusError] = []
        for number in range(4):
            receipts += await lab.try_send(lab.out(source, number, key="k"))
        place = Start("position", receipts[2].position if isinstance(receipts[2], Receipt) else None)
        if place.value is None:
            with pytest.raises(Refused):
                await lab.broker.admin.seek(source, place)
            return
        await lab.drain(source, 4)
        await lab.broker.admin.seek(source, place)
        assert sorted(numbers(await lab.drain(source, 2))) == [2, 3]  # from there on, the position itself included

    @about("queues")
    async def test_admin_of_a_missing_queue_is_no_crash(self, lab: Lab) -> None:
        source = lab.queue("missing") if lab.can.queues else lab.group(topic="missing")
        with contextlib.suppress(Refused):
            assert await lab.broker.admin.backlog(source) is None


async def _cannot_connect(lab: Lab, url: str, errors: tuple[type[BusError], ...]) -> None:
    """`connect` itself looks at the server, and says what would help."""
    broker = lab.harness.broker(url)
    async with asyncio.timeout(lab.harness.patience):
        with pytest.raises(errors):
            await broker.connect()
    assert not broker.status().connected
    await broker.close()


async def _sent_apart(lab: Lab, source: Source, count: int) -> list[float]:
    """Send numbers one by one; when each was sent."""
    sent: list[float] = []
    for number in range(count):
        sent.append(lab.now())
        await lab.send_numbers(source, [number])
        await asyncio.sleep(lab.harness.quiet)  # time itself is what is told apart
    return sent


async def _counted(lab: Lab, source: Source, depth: int, in_flight: int) -> Backlog:
    """The backlog, as soon as it says so: some count with a lag."""
    end = lab.now() + lab.harness.patience
    while True:
        backlog = await lab.broker.admin.backlog(source)
        assert backlog is not None
        if backlog.depth == depth and backlog.in_flight in (None, in_flight):
            return backlog
        assert lab.now() < end, f"{backlog}, and {depth} wait, {in_flight} are in flight"
        await asyncio.sleep(lab.harness.quiet)


def _check_age(lab: Lab, backlog: Backlog, sent: float, next_sent: float) -> None:
    """`oldest` is the age of what was sent at `sent`, and not of what came after it."""
    if backlog.oldest is not None:
        assert lab.now() - next_sent - _ROUNDED < backlog.oldest <= lab.now() - sent + _ROUNDED
