"""Settling: one result per entry, through the receiver that delivered and no other, harmless when repeated."""

# ruff: noqa: S101

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from msgbus.errors import BusError, LeaseLost
from msgbus.message import Act, Settlement
from msgbus.testing.conformance.base import Base
from msgbus.testing.conformance.claims import about
from msgbus.testing.conformance.dead import dead
from msgbus.testing.conformance.lab import Lab, bodies, numbers, retries


def _check_first_lost(results: Sequence[BusError | None]) -> None:
    assert [type(result) for result in results] == [LeaseLost, type(None), type(None)]


class SettlementTests(Base):
    """`settle` and `stop`."""

    @about("settle_batch", "retry_delay", "dead_letters")
    async def test_each_settlement_of_a_batch_is_carried_out(self, lab: Lab) -> None:
        source = await lab.home()
        can = lab.broker.capabilities(source)
        receiver = await lab.open(source)
        await lab.send_numbers(source, range(5))
        by_number = {int(delivery.body): delivery for delivery in await lab.collect(receiver, 5)}
        batch = [Settlement(by_number[0], Act.ACK), Settlement(by_number[4], Act.ACK)]
        batch.insert(1, dead(by_number[1]) if can.dead_letters else Settlement(by_number[1], Act.ACK))
        batch.insert(2, retries(by_number[2]) if can.retry_delay is not None else Settlement(by_number[2], Act.ACK))
        batch.insert(3, Settlement(by_number[3], Act.RELEASE))
        await lab.settle(receiver, batch)
        expected = [2, 3] if can.retry_delay is not None else [3]
        await lab.leave(receiver)
        assert sorted(numbers(await lab.drain(source, len(expected)))) == expected

    @about("settle_batch", "lease_extends")
    async def test_results_are_in_the_order_of_the_batch(self, lab: Lab) -> None:
        if lab.can.settle_batch < 3:
            pytest.skip("capability 'settle_batch' is less than 3: there is no order to confuse")
        source, elsewhere = await lab.home(), await lab.declare(lab.other())
        await lab.send_numbers(source, range(2))
        await lab.send_numbers(elsewhere, [9])
        receiver, stranger = await lab.open(source), await lab.open(elsewhere)
        batch = [*await lab.collect(stranger, 1), *await lab.collect(receiver, 2)]
        if lab.broker.capabilities(source).lease_extends:
            _check_first_lost(await receiver.extend(batch, lab.can.lease or 30.0))
        _check_first_lost(await receiver.settle([Settlement(delivery, Act.ACK) for delivery in batch]))
        await lab.ack(stranger, batch[:1])
        await lab.leave(receiver)
        await lab.empty(source)

    @about("settle_batch")
    async def test_settling_nothing_is_nothing(self, lab: Lab) -> None:
        receiver = await lab.open(await lab.home())
        assert list(await receiver.settle([])) == []

    @about("settle_slots", "settle_linger")
    async def test_settling_at_the_same_time(self, lab: Lab) -> None:
        source = await lab.home()
        count = 2 * lab.can.settle_slots
        receiver = await lab.open(source)
        await lab.send_numbers(source, range(count))
        deliveries = await lab.collect(receiver, count)
        slots = asyncio.Semaphore(lab.can.settle_slots)

        async def ack(index: int) -> None:
            async with slots:
                await lab.ack(receiver, [deliveries[index]])

        await asyncio.gather(*(ack(index) for index in reversed(range(count))))
        await lab.leave(receiver)
        await lab.empty(source)

    @about("settle_batch")
    async def test_settling_out_of_order(self, lab: Lab) -> None:
        source = await lab.home()
        receiver = await lab.open(source)
        await lab.send_numbers(source, range(6))
        deliveries = await lab.collect(receiver, 6)
        for index in (3, 5, 0):
            await lab.ack(receiver, [deliveries[index]])
        left = sorted(numbers([deliveries[index] for index in (1, 2, 4)]))
        await receiver.stop()
        await lab.settle(receiver, [Settlement(deliveries[index], Act.RELEASE) for index in (1, 2, 4)])
        await lab.leave(receiver)
        assert sorted(numbers(await lab.drain(source, 3))) == left

    @about("settle_batch")
    async def test_settling_twice_is_harmless(self, lab: Lab) -> None:
        source = await lab.home()
        receiver = await lab.open(source)
        await lab.send_numbers(source, range(3))
        deliveries = await lab.collect(receiver, 3)
        await lab.ack(receiver, deliveries[:1])
        for act in (Act.ACK, Act.RELEASE):
            (result,) = await receiver.settle([Settlement(deliveries[0], act)])
            assert result is None or isinstance(result, LeaseLost)
        await lab.nothing(receiver)
        await lab.ack(receiver, deliveries[1:])  # the receiver still works, the others are still its own
        await lab.leave(receiver)
        await lab.empty(source)

    @about("settle_batch")
    async def test_one_delivery_twice_in_a_batch(self, lab: Lab) -> None:
        source = await lab.home()
        receiver = await lab.open(source)
        await lab.send_numbers(source, range(2))
        deliveries = await lab.collect(receiver, 2)
        batch = [Settlement(deliveries[index], Act.ACK) for index in (0, 0, 1)]
        results: list[BusError | None] = []
        for start in range(0, 3, lab.can.settle_batch):
            results += await receiver.settle(batch[start : start + lab.can.settle_batch])
        assert results[0] is None
        assert results[1] is None or isinstance(results[1], LeaseLost)
        assert results[2] is None
        await lab.leave(receiver)
        await lab.empty(source)

    @about("settle_batch")
    async def test_another_receiver_cannot_settle(self, lab: Lab) -> None:
        source = await lab.home()
        await lab.send_numbers(source, [1])
        first = await lab.open(source)
        (held,) = await lab.collect(first, 1)
        for broker in (lab.broker, await lab.second()):
            other = await lab.open(source, broker)
            for act in (Act.ACK, Act.RELEASE):
                (result,) = await other.settle([Settlement(held, act)])
                assert isinstance(result, LeaseLost)
            await lab.nothing(other)
        await lab.ack(first, [held])

    @about("lease")
    async def test_a_closed_receiver_settles_nothing(self, lab: Lab) -> None:
        source = await lab.home(short=True)
        first = await lab.open(source)
        await lab.send_numbers(source, [1])
        (stale,) = await lab.collect(first, 1)
        await lab.leave(first)
        second = await lab.open(source)
        (again,) = await lab.collect(second, 1)
        for act in (Act.ACK, Act.RELEASE, Act.DEAD):
            (result,) = await first.settle([Settlement(stale, act)])
            assert isinstance(result, LeaseLost)
        await lab.leave(second)  # the stale token has acknowledged nobody else's message: it is still there
        assert bodies(await lab.drain(source, 1)) == [again.body]

    @about("lease_extends")
    async def test_a_stopped_receiver_still_settles(self, lab: Lab) -> None:
        source = await lab.home()
        can = lab.broker.capabilities(source)
        receiver = await lab.open(source)
        await lab.send_numbers(source, range(3))
        held = await lab.collect(receiver, 3)
        await receiver.stop()
        await receiver.stop()
        if can.lease_extends:
            assert list(await receiver.extend(held, can.lease or 30.0)) == [None] * 3
        await lab.ack(receiver, held)
        await lab.leave(receiver)
        await lab.empty(source)

    @about("receive_batch")
    async def test_stop_ends_a_waiting_receive(self, lab: Lab) -> None:
        receiver = await lab.open(await lab.home())
        waiting = asyncio.create_task(receiver.receive(1, 10 * lab.harness.patience))
        await asyncio.sleep(lab.harness.quiet)
        await receiver.stop()
        async with asyncio.timeout(lab.harness.patience):
            assert list(await waiting) == []

    @about("receive_batch")
    async def test_a_stopped_receiver_takes_nothing_new(self, lab: Lab) -> None:
        source = await lab.home()
        receiver = await lab.open(source)
        await receiver.stop()
        await lab.send_numbers(source, [1])
        await lab.nothing(receiver)
        assert numbers(await lab.drain(source, 1)) == [1]
