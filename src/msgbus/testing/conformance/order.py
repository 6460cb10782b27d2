"""Order per key: kept in delivery, by a busy lane, through releases, retries and lost receivers."""

# ruff: noqa: S101

from __future__ import annotations

import pytest

from msgbus.broker import Receiver
from msgbus.errors import Refused
from msgbus.message import Act, Delivery, Receipt, Settlement, Source
from msgbus.testing.conformance.base import Base
from msgbus.testing.conformance.claims import about, not_claimed
from msgbus.testing.conformance.lab import Lab, numbers, retries

_NONE = "the bus refuses ordered=True, see test_ordered_is_refused_without_order"


async def _ordered(lab: Lab, *, short: bool = False) -> Source:
    """A declared ordered source."""
    if lab.can.order == "none":
        not_claimed("order", _NONE)
    return await lab.home(ordered=True, short=short)


def _of_key(deliveries: list[Delivery], key: str) -> list[int]:
    return [int(delivery.body) for delivery in deliveries if delivery.lane == key]


async def _whole_key(lab: Lab, receiver: Receiver, most: int = 3) -> list[Delivery]:
    """What of `most` messages the receiver will hand in while none is settled: at least the first."""
    got = await lab.collect(receiver, 1)
    while len(got) < most and (batch := await lab.receive(receiver, most - len(got), lab.harness.quiet)):
        got += batch
    return got


class OrderTests(Base):
    """Ordered sources; a test per way to lose the order."""

    @about("order")
    async def test_each_key_arrives_in_order(self, lab: Lab) -> None:
        source = await _ordered(lab)
        for number in range(10):
            await lab.send(*(lab.out(source, number, key=key) for key in "abc"))
        deliveries = await lab.drain(source, 30)
        for key in "abc":
            assert _of_key(deliveries, key) == list(range(10))

    @about("order")
    async def test_only_ordered_sources_have_lanes(self, lab: Lab) -> None:
        source = await lab.home()
        await lab.send_numbers(source, [1], key="k")
        (delivery,) = await lab.drain(source, 1)
        assert delivery.lane is None

    @about("send_order", "send_batch")
    async def test_one_call_keeps_the_order_of_its_entries(self, lab: Lab) -> None:
        source = await _ordered(lab)
        await lab.send_numbers(source, range(20), key="k")  # through the batcher, which gates where it must
        assert numbers(await lab.drain(source, 20)) == list(range(20))

    @about("send_order")
    async def test_a_failed_entry_does_not_disorder_the_others(self, lab: Lab) -> None:
        source = await _ordered(lab)
        limit = lab.can.message_bytes
        if limit is None:
            pytest.skip("capability 'message_bytes' is not claimed: no entry can be made to fail alone")
        outs = [lab.out(source, number, key="k") for number in range(5)]
        outs[2].body = b"x" * (limit + 1)
        results = await lab.try_send(*outs)
        assert [type(result) for result in results] == [Receipt, Receipt, Refused, Receipt, Receipt]
        assert numbers(await lab.drain(source, 4)) == [0, 1, 3, 4]

    @about("order")
    async def test_a_key_in_hand_is_kept_from_others(self, lab: Lab) -> None:
        source = await _ordered(lab)
        first = await lab.open(source)
        await lab.send_numbers(source, [0], key="k")
        (head,) = await lab.collect(first, 1)
        second = await lab.open(source, await lab.second())
        await lab.send_numbers(source, [1], key="k")
        await lab.nothing(second)
        await lab.ack(first, [head])
        ((receiver, following),) = await lab.collect_any([first, second], 1)
        assert following.body == b"1"
        await lab.ack(receiver, [following])

    @about("order", "lease")
    async def test_a_closed_receiver_gives_back_in_order(self, lab: Lab) -> None:
        source = await _ordered(lab, short=True)
        receiver = await lab.open(source)
        await lab.send_numbers(source, range(3), key="k")
        await lab.collect(receiver, 1)
        await lab.leave(receiver)
        assert numbers(await lab.drain(source, 3)) == [0, 1, 2]

    @about("order", "release_counts")
    async def test_released_messages_keep_their_order(self, lab: Lab) -> None:
        source = await _ordered(lab)
        receiver = await lab.open(source, prefetch=2)
        await lab.send_numbers(source, range(5), key="k")
        deliveries = await _whole_key(lab, receiver, 2)
        await receiver.stop()
        await lab.settle(receiver, [Settlement(delivery, Act.RELEASE) for delivery in deliveries])
        await lab.leave(receiver)
        assert numbers(await lab.drain(source, 5)) == [0, 1, 2, 3, 4]  # not behind what waited

    @pytest.mark.parametrize("together", [True, False])
    @about("retry_keeps_order", "retry_delay")
    async def test_a_native_retry_keeps_the_order(self, lab: Lab, *, together: bool) -> None:
        source = await _ordered(lab)
        if not lab.broker.capabilities(source).retry_keeps_order:
            not_claimed("retry_keeps_order", "the core holds the message, see test_order_is_kept_through_retries")
        receiver = await lab.open(source)
        await lab.send_numbers(source, range(3), key="k")
        head, *following = await _whole_key(lab, receiver)
        failed = retries(head, lab.harness.delay)
        released = [Settlement(delivery, Act.RELEASE) for delivery in following]
        for batch in [[failed, *released]] if together else [[failed], released]:
            await lab.settle(receiver, batch)
        await lab.send_numbers(source, [3], key="k")
        got: list[Delivery] = []
        while len(got) < 4:
            got += (batch_ := await lab.collect(receiver, 1))
            await lab.ack(receiver, batch_)
        assert numbers(got) == [0, 1, 2, 3]
        assert got[0].attempt == 2

    @about("order", "retry_delay")
    async def test_a_waiting_retry_holds_only_its_own_key(self, lab: Lab) -> None:
        source = await _ordered(lab)
        if not lab.broker.capabilities(source).retry_keeps_order:
            not_claimed("retry_keeps_order", "the core holds the message, see test_order_is_kept_through_retries")
        receiver = await lab.open(source)
        await lab.send_numbers(source, [0], key="failing")
        (head,) = await lab.collect(receiver, 1)
        await lab.settle(receiver, [retries(head, lab.harness.delay)])
        await lab.send(lab.out(source, 1, key="failing"), lab.out(source, 2, key="other"))
        got = []
        for _ in range(3):
            got += (batch := await lab.collect(receiver, 1))
            await lab.ack(receiver, batch)
        assert numbers(got) == [2, 0, 1]
