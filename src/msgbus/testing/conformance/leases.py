"""Leases: they end, they can be prolonged, and what is lost can't be settled."""

# ruff: noqa: S101

from __future__ import annotations

from msgbus.errors import LeaseLost
from msgbus.message import Act, Settlement, Source
from msgbus.testing.conformance.base import Base
from msgbus.testing.conformance.claims import about, not_claimed
from msgbus.testing.conformance.lab import Lab, numbers

_HELD = "held as long as its receiver lives, see test_without_leases_a_delivery_is_held"
_EARLY = 0.05  # seconds: a server rounds


async def _leased(lab: Lab, *, extends: bool = False) -> Source:
    """A declared source with a short lease."""
    source = await lab.home(short=True)
    can = lab.broker.capabilities(source)
    if can.lease is None:
        not_claimed("lease", _HELD)
    if extends and not can.lease_extends:
        not_claimed("lease_extends", "the core never calls extend")
    return source


class LeaseTests(Base):
    """How long a delivery is ours."""

    @about("lease")
    async def test_a_lease_that_ends_gives_the_message_to_another(self, lab: Lab) -> None:
        source = await _leased(lab)
        first, second = await lab.open(source), await lab.open(source, await lab.second())
        began = lab.now()
        await lab.send_numbers(source, [1])
        ((holder, stale),) = await lab.collect_any([first, second], 1)
        other = second if holder is first else first
        (again,) = await lab.collect(other, 1)
        assert lab.now() - began >= lab.harness.lease - _EARLY
        await lab.nothing(holder, lab.harness.lease / 4)  # what came late to a busy process ends late there
        (lost,) = await holder.settle([Settlement(stale, Act.ACK)])
        assert isinstance(lost, LeaseLost)
        await lab.ack(other, [again])
        await lab.nothing(other, lab.harness.quiet + lab.harness.lease)

    @about("lease")
    async def test_the_lease_claimed_is_the_lease_in_force(self, lab: Lab) -> None:
        source = await _leased(lab)
        await lab.declare(source)  # by somebody who asks for no lease
        opener = await lab.second()
        first, second = await lab.open(source), await lab.open(source, opener)
        claimed = lab.broker.capabilities(source).lease or 0.0
        assert opener.capabilities(source).lease == claimed  # known once it is open, whoever declared it
        began = lab.now()
        await lab.send_numbers(source, [1])
        await lab.collect_any([first, second], 1)
        longest = 2 * lab.harness.lease + lab.harness.quiet  # a longer one can't be waited for
        for receiver in (first, second):
            await lab.nothing(receiver, (began + min(claimed - _EARLY, longest) - lab.now()) / 2)
        if claimed < longest:
            ((holder, again),) = await lab.collect_any([first, second], 1)
            await lab.ack(holder, [again])

    @about("lease")
    async def test_settling_after_the_lease_changes_nothing(self, lab: Lab) -> None:
        source = await _leased(lab)
        receiver = await lab.open(source, prefetch=1)
        await lab.send_numbers(source, [1])
        (stale,) = await lab.collect(receiver, 1)
        (again,) = await lab.collect(receiver, 1)  # what is lost has left its room, though nobody settled it
        (lost,) = await receiver.settle([Settlement(stale, Act.RELEASE)])
        assert isinstance(lost, LeaseLost)
        await lab.nothing(receiver, lab.harness.lease / 4)
        await lab.ack(receiver, [again])
        await lab.nothing(receiver, lab.harness.quiet + lab.harness.lease)

    @about("lease", "lease_extends")
    async def test_an_extended_lease_holds(self, lab: Lab) -> None:
        source = await _leased(lab, extends=True)
        first = await lab.open(source)
        await lab.send_numbers(source, [1])
        held = await lab.collect(first, 1)
        second = await lab.open(source, await lab.second())
        for _ in range(5):
            assert list(await first.extend(held, lab.harness.lease)) == [None]
            await lab.nothing(second, lab.harness.lease / 2)
        await lab.ack(first, held)
        await lab.nothing(second, lab.harness.quiet + lab.harness.lease)

    @about("lease_extends")
    async def test_extending_a_long_lease_can_shorten_it(self, lab: Lab) -> None:
        await _leased(lab, extends=True)
        source = await lab.declare(lab.queue("long") if lab.can.queues else lab.group("long"))
        first = await lab.open(source)
        await lab.send_numbers(source, [1])
        held = await lab.collect(first, 1)
        assert list(await first.extend(held, lab.harness.lease)) == [None]
        second = await lab.open(source, await lab.second())
        assert numbers(await lab.collect(second, 1)) == [1]

    @about("lease", "lease_extends")
    async def test_a_lost_lease_is_not_extended(self, lab: Lab) -> None:
        source = await _leased(lab, extends=True)
        first = await lab.open(source)
        await lab.send_numbers(source, [1, 2])
        held = await lab.collect(first, 2)
        await lab.ack(first, held[:1])
        second = await lab.open(source, await lab.second())
        again = await lab.collect(second, 1)
        results = await first.extend(held, lab.harness.lease)
        assert [type(result) for result in results] == [LeaseLost, LeaseLost]
        await lab.ack(second, again)

    @about("lease", "lease_max")
    async def test_without_leases_a_delivery_is_held(self, lab: Lab) -> None:
        source = await lab.home()
        can = lab.broker.capabilities(source)
        first = await lab.open(source)
        await lab.send_numbers(source, [1])
        held = await lab.collect(first, 1)
        second = await lab.open(source, await lab.second())
        longest = 2 * lab.harness.lease if can.lease is None else min(lab.harness.lease, can.lease / 2)
        await lab.nothing(second, longest)
        await lab.ack(first, held)
