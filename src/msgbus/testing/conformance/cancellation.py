"""Cancelled at any await, a call loses nothing and leaves a broker that works."""

# ruff: noqa: S101

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager

from msgbus.broker import Receiver
from msgbus.errors import LeaseLost
from msgbus.message import Act, Receipt, Settlement
from msgbus.testing.conformance.base import Base
from msgbus.testing.conformance.cancelling import MOST, cancelled_at
from msgbus.testing.conformance.claims import about, not_claimed
from msgbus.testing.conformance.lab import Lab, bodies, numbers


async def _enter(context: AbstractAsyncContextManager[Receiver]) -> Receiver:
    return await context.__aenter__()


class CancellationTests(Base):
    """A test per method; each cancels it at its first await, then at its second, and so on."""

    @about("receive_batch")
    async def test_a_cancelled_receive_loses_nothing(self, lab: Lab) -> None:
        source = await lab.home()
        receiver = await lab.open(source)
        for place in range(MOST):
            await lab.send_numbers(source, [place])
            outcome = await cancelled_at(lab.receive(receiver, 1, lab.harness.patience), place)
            got = [] if outcome.cancelled else list(outcome.value)
            got += await lab.collect(receiver, 1 - len(got))
            assert numbers(got) == [place]
            await lab.ack(receiver, got)
            if not outcome.cancelled:
                break
        await lab.nothing(receiver)

    @about("receive_batch")
    async def test_a_receive_cancelled_as_its_message_comes_loses_nothing(self, lab: Lab) -> None:
        source = await lab.home()
        receiver = await lab.open(source)
        for turns in range(10):
            waiting = asyncio.create_task(lab.receive(receiver, 1, lab.harness.patience))
            await asyncio.sleep(0)
            sending = asyncio.create_task(lab.send(lab.out(source, turns)))
            for _ in range(turns):
                await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.wait([waiting, sending])
            sending.result()
            got = [] if waiting.cancelled() else list(waiting.result())
            got += await lab.collect(receiver, 1 - len(got))
            assert numbers(got) == [turns]
            await lab.ack(receiver, got)
        await lab.nothing(receiver)

    @about("send_batch")
    async def test_a_cancelled_send_leaves_a_working_connection(self, lab: Lab) -> None:
        source = await lab.home()
        receiver = await lab.open(source)
        sent = 0
        for place in range(MOST):
            outcome = await cancelled_at(lab.broker.send(lab.fit(lab.out(source, place))), place)
            if outcome.cancelled:  # it may have arrived, or not: the caller sends it again
                await lab.send(lab.out(source, place))
            else:
                assert isinstance(outcome.value[0], Receipt)
            sent += 1
            if not outcome.cancelled:
                break
        seen: set[int] = set()
        while len(seen) < sent:
            got = await lab.collect(receiver, 1)
            seen.update(numbers(got))
            await lab.ack(receiver, got)
        assert seen == set(range(sent))

    @about("settle_batch", "confirms_settlement")
    async def test_a_cancelled_settle_can_be_repeated(self, lab: Lab) -> None:
        source = await lab.home(short=True)
        receiver = await lab.open(source)
        for place in range(MOST):
            await lab.send_numbers(source, [place])
            (delivery,) = await lab.collect(receiver, 1)
            outcome = await cancelled_at(receiver.settle([Settlement(delivery, Act.ACK)]), place)
            if not outcome.cancelled:
                break
            (result,) = await receiver.settle([Settlement(delivery, Act.ACK)])
            assert result is None or isinstance(result, LeaseLost)
        await lab.nothing(receiver, lab.harness.quiet + (lab.harness.lease if lab.can.lease else 0.0))
        await lab.leave(receiver)
        await lab.empty(source)

    @about("lease_extends")
    async def test_a_cancelled_extend_can_be_repeated(self, lab: Lab) -> None:
        if not lab.can.lease_extends:
            not_claimed("lease_extends", "the core never calls extend")
        source = await lab.home()
        receiver = await lab.open(source)
        await lab.send_numbers(source, [1])
        held = await lab.collect(receiver, 1)
        for place in range(MOST):
            outcome = await cancelled_at(receiver.extend(held, lab.can.lease or 30.0), place)
            if not outcome.cancelled:
                break
        assert list(await receiver.extend(held, lab.can.lease or 30.0)) == [None]
        await lab.ack(receiver, held)

    @about("receive_batch")
    async def test_a_cancelled_opening_leaves_no_receiver_behind(self, lab: Lab) -> None:
        source = await lab.home()
        for place in range(MOST):
            context = lab.broker.receiver(source, prefetch=10)
            outcome = await cancelled_at(_enter(context), place)
            if not outcome.cancelled:
                await context.__aexit__(None, None, None)
                break
        await lab.send(lab.out(source, b"x"))  # a receiver left behind would take it
        assert bodies(await lab.drain(source, 1)) == [b"x"]

    @about("receive_batch")
    async def test_a_cancelled_stop_can_be_repeated(self, lab: Lab) -> None:
        source = await lab.home()
        for place in range(MOST):
            receiver = await lab.open(source)
            await lab.send_numbers(source, [place])
            held = await lab.collect(receiver, 1)
            outcome = await cancelled_at(receiver.stop(), place)
            await receiver.stop()
            await lab.ack(receiver, held)
            await lab.leave(receiver)
            if not outcome.cancelled:
                break
        await lab.empty(source)
