"""The ladder of delay queues: any delay out of a few queues, never early, hardly late."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.amqp.conftest import Connect, out, queue, send, take
from tests.amqp.management import account, add_user, manage
from tests.servers import Handle

from msgbus import headers as h
from msgbus.brokers.amqp.names import DUE, LATEST, LONGEST, RUNGS, rung
from msgbus.errors import Refused
from msgbus.message import Act, Settlement


def hops(seconds: float) -> list[int]:
    """The delay queues that a message goes through, in milliseconds."""
    way, left = [], round(seconds * 1000)
    while (step := rung(left / 1000)) > 0:
        way.append(step)
        left -= step
    return way


@given(st.floats(0, LONGEST))
def test_the_hops_of_a_delay_are_not_early_and_hardly_late(seconds: float) -> None:
    asked = round(seconds * 1000)
    assert asked <= sum(hops(seconds)) <= asked + LATEST * 1000
    assert set(hops(seconds)) <= set(RUNGS)
    assert len(hops(seconds)) <= len(RUNGS)


@pytest.mark.parametrize(
    ("seconds", "way"),
    [(0, []), (1, [1000]), (1.2, [2000]), (3, [4000]), (300, [256_000, 32_000, 8_000, 4_000]), (LONGEST, [86_400_000])],
)
def test_short_and_usual_delays_take_few_hops(seconds: float, way: list[int]) -> None:
    assert hops(seconds) == way


async def test_a_retry_that_comes_early_waits_again(connect: Connect, name: str) -> None:
    broker = await connect()
    source = await queue(broker, name)
    async with broker.receiver(source, prefetch=10) as receiver:
        await send(broker, out(source, b"x"))
        (delivery,) = await receiver.receive(10, 10.0)
        began = time.monotonic()
        settlement = Settlement(delivery, Act.RETRY, 2.5, headers={h.ATTEMPT: "2"})
        assert await receiver.settle([settlement]) == [None]
        got = [each for each in [await receiver.receive(10, 10.0)] if each]
        while not got:
            got = [each for each in [await receiver.receive(10, 10.0)] if each]
        ((again,),) = got
        assert time.monotonic() - began >= 2.49
        assert (again.body, again.attempt, DUE in again.headers) == (b"x", 2, False)
        assert await receiver.settle([Settlement(again, Act.ACK)]) == [None]


@pytest.mark.parametrize("due", ["soon", "nan", "inf", "1", "99999999999"])
async def test_a_due_time_that_makes_no_sense_is_ignored(connect: Connect, name: str, due: str) -> None:
    broker = await connect()
    source = await queue(broker, name)
    async with broker.receiver(source, prefetch=10) as receiver:
        await send(broker, out(source, b"x", **{DUE: due}))
        (delivery,) = await receiver.receive(10, 10.0)
        assert DUE not in delivery.headers


async def test_what_comes_early_and_has_no_queue_to_wait_in_comes_early(
    connect: Connect, rabbitmq: Handle, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Rather than take room in hand for ever."""
    owner = await connect()
    source = await queue(owner, name)
    await add_user(rabbitmq, name, "secret", configure="^$")
    try:
        broker = await connect(url=account(rabbitmq, f"{name}:secret"))
        async with broker.receiver(source, prefetch=2) as receiver:
            early = [out(source, n, **{DUE: f"{time.time() + 1000:.3f}"}) for n in range(2)]
            await send(broker, *early, out(source, 2))
            found = await take(receiver, 2)
            assert await receiver.settle([Settlement(each, Act.ACK) for each in found]) == [None, None]
            found += await take(receiver, 1)
            assert sorted(each.body for each in found) == [b"0", b"1", b"2"]
            assert not any(DUE in each.headers for each in found)
    finally:
        await manage(rabbitmq, "DELETE", f"users/{name}")
    assert "comes before its time: the delay queue" in caplog.text


async def test_what_has_no_queue_to_wait_in_fails_alone(connect: Connect, rabbitmq: Handle, name: str) -> None:
    """Delay queues are made when they are first needed: who may not make them keeps those that are there."""
    owner = await connect()
    source = await queue(owner, name)
    await add_user(rabbitmq, name, "secret", configure="^$")
    try:
        broker = await connect(url=account(rabbitmq, f"{name}:secret"))
        async with broker.receiver(source, prefetch=10) as receiver:
            await send(broker, *(out(source, number) for number in range(3)))
            ack, retry, dead = await take(receiver, 3)
            settlements = [Settlement(dead, Act.DEAD), Settlement(retry, Act.RETRY, 1.0), Settlement(ack, Act.ACK)]
            results = await receiver.settle(settlements)
            assert results[::2] == [None, None]
            assert isinstance(results[1], Refused)
            assert re.search("delay queue .* can't be made .*permission.*ACCESS_REFUSED", str(results[1]))
            assert await receiver.settle([Settlement(retry, Act.DEAD)]) == [None]
    finally:
        await manage(rabbitmq, "DELETE", f"users/{name}")
