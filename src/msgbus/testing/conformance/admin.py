"""The cold side: capabilities, status, topology, backlog, purge, replay."""

# ruff: noqa: S101

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time

import pytest

from msgbus.broker import Capabilities, QueueSpec
from msgbus.errors import Refused
from msgbus.message import Source, Start
from msgbus.testing.conformance.base import Base
from msgbus.testing.conformance.claims import about, not_claimed
from msgbus.testing.conformance.lab import Lab, numbers, parts_of


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

    @about("receive_batch")
    async def test_backlog_counts_what_waits(self, lab: Lab) -> None:
        source = await lab.home()
        if await lab.broker.admin.backlog(source) is None:
            pytest.skip("Admin.backlog answers None: this broker can't tell")
        await lab.send_numbers(source, range(3))
        end = time.monotonic() + lab.harness.patience
        while (backlog := await lab.broker.admin.backlog(source)) is not None and backlog.depth < 3:
            assert time.monotonic() < end, backlog
            await asyncio.sleep(lab.harness.quiet)  # some count with a lag
        assert backlog is not None
        assert backlog.depth == 3
        assert backlog.oldest is None or 0 <= backlog.oldest <= lab.harness.patience

    @about("receive_batch")
    async def test_purge_throws_away_what_waits(self, lab: Lab) -> None:
        source, other = await lab.home(), await lab.declare(_other(lab))
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
        later = time.time()
        await lab.send_numbers(source, range(3, 5))
        await lab.broker.admin.seek(source, Start("oldest"))
        assert sorted(numbers(await lab.drain(source, 5))) == [0, 1, 2, 3, 4]
        await lab.broker.admin.seek(source, Start("time", later))
        assert sorted(numbers(await lab.drain(source, 2))) == [3, 4]
        await lab.send_numbers(source, [5])
        await lab.broker.admin.seek(source, Start("latest"))
        await lab.empty(source)

    @about("queues")
    async def test_admin_of_a_missing_queue_is_no_crash(self, lab: Lab) -> None:
        source = lab.queue("missing") if lab.can.queues else lab.group(topic="missing")
        with contextlib.suppress(Refused):
            assert await lab.broker.admin.backlog(source) is None


def _other(lab: Lab) -> Source:
    return lab.queue("other") if lab.can.queues else lab.group("other", topic="other")
