"""Broken connections and restarted servers: the broker says so, connects again, and nothing is lost."""

# ruff: noqa: S101

from __future__ import annotations

import asyncio

from msgbus.broker import Receiver
from msgbus.errors import BusError, Disconnected, ReceiverClosed, Throttled, Unavailable
from msgbus.message import Act, Settlement, Source
from msgbus.testing.conformance.base import Base
from msgbus.testing.conformance.claims import about
from msgbus.testing.conformance.lab import Lab, numbers


class OutageTests(Base):
    """Skipped where the harness can neither cut nor restart."""

    @about("lease")
    async def test_a_receiver_whose_connection_is_cut_says_so_or_goes_on(self, lab: Lab) -> None:
        lab.harness.needs("cut")
        source = await lab.home(short=True)
        receiver = await lab.open(source)
        waiting = asyncio.create_task(receiver.receive(1, 10 * lab.harness.patience))
        await asyncio.sleep(lab.harness.quiet)
        await lab.harness.cut()
        await lab.send_numbers(source, [1])  # the link connects again
        # A server may have handed it to the dead connection: then it comes when that lease has ended.
        await asyncio.wait([waiting], timeout=lab.harness.patience + _lease(lab, source))
        assert waiting.done(), "it still waits on a dead connection"
        error = waiting.exception()
        if lab.broker.capabilities(source).lease is None:  # nobody else gets the message while it says nothing
            assert isinstance(error, Disconnected | ReceiverClosed) or len(waiting.result()) == 1
        assert error is None or isinstance(error, BusError)

    @about("shared")
    async def test_messages_are_still_there_after_a_cut(self, lab: Lab) -> None:
        lab.harness.needs("cut")
        source = await lab.home(short=True)
        await lab.send_numbers(source, range(5))
        receiver = await lab.open(source)
        await lab.collect(receiver, 1)  # in hand, unsettled
        await lab.harness.cut()
        await _until_gone(lab, receiver)
        await lab.reconnect()
        assert lab.broker.status().connected
        await lab.send_numbers(source, [5])
        await _all(lab, source, set(range(6)))

    @about("confirms_settlement")
    async def test_settling_after_a_cut_is_told_truly(self, lab: Lab) -> None:
        lab.harness.needs("cut")
        source = await lab.home(short=True)
        await lab.send_numbers(source, [1])
        receiver = await lab.open(source)
        held = await lab.collect(receiver, 1)
        await lab.harness.cut()
        try:
            (result,) = await receiver.settle([Settlement(held[0], Act.ACK)])
        except BusError as error:
            result = error
        await _quietly_leave(lab, receiver)
        await lab.reconnect()
        if result is not None:
            await _all(lab, source, {1})
        elif lab.broker.capabilities(source).confirms_settlement:
            await lab.nothing(await lab.open(source), lab.harness.quiet + _lease(lab, source))
        # else it was on its way, and may have been lost with the connection: the message comes again, or it does not

    @about("send_slots")
    async def test_a_send_in_an_outage_is_disconnected_or_arrives(self, lab: Lab) -> None:
        lab.harness.needs("cut")
        source = await lab.home(short=True)
        await lab.harness.cut()
        try:
            async with asyncio.timeout(lab.harness.patience):
                (result,) = await lab.broker.send(lab.fit(lab.out(source, 1)))
        except Disconnected as error:
            result = error
        await lab.reconnect()
        if isinstance(result, BusError):
            assert isinstance(result, Disconnected | Unavailable | Throttled)
            await lab.send_numbers(source, [1])
        await _all(lab, source, {1})

    @about("confirms_settlement")
    async def test_messages_survive_a_restart_of_the_server(self, lab: Lab) -> None:
        lab.harness.needs("restart")
        source = await lab.home(short=True)
        await lab.send_numbers(source, range(5))
        receiver = await lab.open(source)
        settled = await lab.collect(receiver, 1)
        await lab.ack(receiver, settled)
        await lab.harness.restart()
        await _until_gone(lab, receiver)
        await lab.reconnect()
        perhaps = set() if lab.can.confirms_settlement else set(numbers(settled))  # accepted, but only on its way
        await _all(lab, source, set(range(5)) - set(numbers(settled)), perhaps)


def _lease(lab: Lab, source: Source) -> float:
    """How long a delivery of `source` may be kept from us by a holder that is gone."""
    return lab.broker.capabilities(source).lease or 0.0


async def _until_gone(lab: Lab, receiver: Receiver) -> None:
    """Until the receiver knows, or was never tied to a connection; what it gets is left unsettled."""
    try:
        for _ in range(3):
            await receiver.receive(1, lab.harness.quiet)
    except BusError:
        pass
    await _quietly_leave(lab, receiver)


async def _quietly_leave(lab: Lab, receiver: Receiver) -> None:
    try:
        await lab.leave(receiver)
    except BusError as error:
        raise AssertionError("leaving a dead receiver must not raise") from error


async def _all(lab: Lab, source: Source, expected: set[int], perhaps: set[int] | None = None) -> None:
    """Every number arrives, some perhaps twice, and nothing else but what `perhaps` comes."""
    receiver = await lab.open(source)
    seen: set[int] = set()
    while not expected <= seen:
        got = await lab.collect(receiver, 1)
        await lab.ack(receiver, got)
        seen.update(numbers(got))
    assert seen - (perhaps or set()) == expected
    await lab.leave(receiver)
