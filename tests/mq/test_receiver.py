"""The receiver that AMQP and STOMP share: whose a delivery is, and what a stop and a lost connection leave."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from tests.scripted import HandClock

from msgbus.brokers.mailbox import Mailbox
from msgbus.brokers.mq.receiver import Arrived, PushReceiver
from msgbus.errors import BusError, Disconnected, LeaseLost, ReceiverClosed, Refused
from msgbus.message import Act, Delivery, Settlement, Source


class Line:
    """A subscription and its copies, which write down what they are told. `cancels`: what is in hand may stay."""

    def __init__(self, *, cancels: bool = True) -> None:
        self.closed: BusError | None = None
        self.told: list[str] = []
        self.refused: dict[bytes, BusError] = {}
        self.sending = asyncio.Event()
        self.sending.set()
        self._cancels = cancels

    def acknowledge(self, messages: Sequence[Arrived]) -> None:
        self.told.append(f"ack {b' '.join(each.body for each in messages).decode()}")

    def give_back(self, messages: Sequence[Arrived]) -> None:
        self.told.append(f"back {b' '.join(each.body for each in messages).decode()}")

    async def cancel(self) -> bool:
        self.told.append("cancel")
        return self._cancels

    async def close(self) -> None:
        self.abandon()

    def abandon(self) -> None:
        self.told.append("end")
        self.closed = ReceiverClosed("closed")

    async def send(self, source: Source, settlements: Sequence[Settlement]) -> Sequence[BusError | None]:
        await self.sending.wait()
        self.told.append(f"copy {b' '.join(each.delivery.body for each in settlements).decode()}")
        return [self.refused.get(each.delivery.body) for each in settlements]


class Lab:
    """A receiver of a queue, on such a line."""

    def __init__(
        self, clock: HandClock, *, ordered: bool = False, cancels: bool = True, gives_back: bool = True
    ) -> None:
        self.clock = clock
        self.line = Line(cancels=cancels)
        self.mailbox: Mailbox[Arrived] = Mailbox(clock)
        self.receiver: PushReceiver[Arrived, Arrived] = PushReceiver(
            Source("queue", "work", ordered=ordered),
            self.mailbox,
            self.line,
            iter,
            self.line,
            counts=True,
            gives_back=gives_back,
        )

    async def come(self, *bodies: str, **headers: str) -> Sequence[Delivery]:
        """Messages come, and are handed out."""
        for body in bodies:
            arrived = Arrived()
            arrived.body, arrived.headers = body.encode(), dict(headers)
            arrived.timestamp, arrived.deliveries, arrived.owner, arrived.fault = None, 1, None, None
            self.mailbox.put([arrived])
        return await self.receiver.receive(100, 0.0)

    async def settle(self, *settlements: tuple[Delivery, Act]) -> Sequence[BusError | None]:
        """In one call."""
        return await self.receiver.settle([Settlement(*each) for each in settlements])


async def test_each_act_does_what_it_says_in_one_call(clock: HandClock) -> None:
    lab = Lab(clock)
    lab.line.refused[b"c"] = Refused("no")
    a, b, c, d, e = await lab.come("a", "b", "c", "d", "e")
    results = await lab.settle((a, Act.ACK), (b, Act.RETRY), (c, Act.DEAD), (d, Act.RELEASE), (e, Act.ACK))
    assert [type(result) for result in results] == [type(None), type(None), Refused, type(None), type(None)]
    assert lab.line.told == ["back d", "ack a e", "copy b c", "ack b"]
    assert [type(each) for each in await lab.settle((a, Act.ACK), (c, Act.ACK))] == [LeaseLost, type(None)]


async def test_nobody_settles_what_another_receiver_handed_out(clock: HandClock) -> None:
    lab, other = Lab(clock), Lab(clock)
    mine, theirs = (await lab.come("a"))[0], (await other.come("b"))[0]
    results = await lab.settle((theirs, Act.ACK), (mine, Act.ACK), (mine, Act.RETRY))
    assert [type(result) for result in results] == [LeaseLost, type(None), LeaseLost]
    assert [type(each) for each in await lab.receiver.extend([mine, theirs], 1.0)] == [LeaseLost, LeaseLost]
    assert await other.receiver.extend([theirs], 1.0) == [None]
    assert lab.line.told == ["ack a"]


async def test_a_copy_whose_original_comes_again_is_a_lost_lease(clock: HandClock) -> None:
    lab = Lab(clock)
    lab.line.sending.clear()
    a, b = await lab.come("a", "b")
    lab.line.refused[b"b"] = Disconnected("gone")
    settling = asyncio.ensure_future(lab.settle((a, Act.RETRY), (b, Act.DEAD)))
    await asyncio.sleep(0)
    lab.line.closed = Disconnected("gone")
    lab.line.sending.set()
    assert [type(result) for result in await settling] == [LeaseLost, Disconnected]
    assert lab.line.told == ["copy a b"]
    assert [type(result) for result in await lab.settle((b, Act.DEAD))] == [LeaseLost]


async def test_a_cancelled_settlement_leaves_the_delivery_to_the_next_one(clock: HandClock) -> None:
    lab = Lab(clock)
    lab.line.sending.clear()
    (a,) = await lab.come("a")
    settling = asyncio.ensure_future(lab.settle((a, Act.RETRY)))
    await asyncio.sleep(0)
    settling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await settling
    assert lab.line.told == []
    assert await lab.settle((a, Act.ACK)) == [None]
    assert lab.line.told == ["ack a"]


async def test_stopped_unordered_what_came_is_still_handed_out_and_goes_back(clock: HandClock) -> None:
    lab = Lab(clock)
    (a,) = await lab.come("a")
    lab.mailbox.put([(await lab.come("b"))[0].token])
    await lab.receiver.stop()
    (b,) = await lab.receiver.receive(10, 1.0)
    await lab.settle((b, Act.RELEASE), (a, Act.ACK))
    assert lab.line.told == ["cancel", "back b", "ack a"]
    assert lab.line.closed is None


@pytest.mark.parametrize("ordered", [True, False])
async def test_where_the_end_comes_last_it_comes_when_nothing_is_in_hand(clock: HandClock, ordered: bool) -> None:
    lab = Lab(clock, ordered=ordered, cancels=False)
    a, b = await lab.come("a", "b")
    await lab.receiver.stop()
    assert await lab.come("never handed out") == []
    await lab.settle((b, Act.RELEASE))
    assert lab.line.closed is None
    await lab.settle((a, Act.ACK))
    assert lab.line.told[-2:] == ["ack a", "end"]
    assert await lab.receiver.receive(10, 1.0) == []


async def test_with_nothing_in_hand_a_stop_ends_it_at_once(clock: HandClock) -> None:
    lab = Lab(clock, cancels=False)
    await lab.receiver.stop()
    assert lab.line.told == ["cancel", "end"]


async def test_a_release_in_order_ends_the_receiver(clock: HandClock) -> None:
    lab = Lab(clock, ordered=True)
    (a,) = await lab.come("a")
    assert await lab.settle((a, Act.RELEASE)) == [None]
    assert lab.line.told == []
    with pytest.raises(ReceiverClosed, match="in order"):
        await lab.come("b")


async def test_a_release_is_a_copy_where_the_server_takes_nothing_back(clock: HandClock) -> None:
    lab = Lab(clock, gives_back=False, cancels=False)
    a, b = await lab.come("a", "b")
    await lab.settle((a, Act.RELEASE))
    assert lab.line.told == ["copy a", "ack a"]
    await lab.receiver.stop()
    await lab.settle((b, Act.RELEASE))  # by its end
    assert lab.line.told == ["copy a", "ack a", "cancel", "end"]
