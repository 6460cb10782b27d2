"""Mailbox: from push to pull, without losing what came while nobody took it."""

from __future__ import annotations

import asyncio

import pytest
from tests.scripted import HandClock

from msgbus.brokers.mailbox import Mailbox
from msgbus.errors import BusError, Disconnected, ReceiverClosed, Throttled


async def _started(box: Mailbox[int], wait: float = 5.0) -> asyncio.Task[list[int]]:
    task = asyncio.ensure_future(box.take(10, wait))
    await asyncio.sleep(0)
    return task


async def test_take_gives_what_is_there_up_to_the_limit(clock: HandClock) -> None:
    box: Mailbox[int] = Mailbox(clock)
    box.put(range(5))
    assert await box.take(3, 5.0) == [0, 1, 2]
    assert await box.take(3, 5.0) == [3, 4]
    assert await box.take(3, 0.0) == []


async def test_take_returns_as_soon_as_something_comes(clock: HandClock) -> None:
    box: Mailbox[int] = Mailbox(clock)
    taking = await _started(box)
    box.put([1])
    assert await taking == [1]


async def test_take_gives_up_after_its_wait(clock: HandClock) -> None:
    box: Mailbox[int] = Mailbox(clock)
    taking = await _started(box, 5.0)
    await clock.advance(4.9)
    assert not taking.done()
    await clock.advance(0.2)
    assert await taking == []


async def test_a_cancelled_take_leaves_everything_to_the_next(clock: HandClock) -> None:
    box: Mailbox[int] = Mailbox(clock)
    taking = await _started(box)
    box.put([1, 2])
    taking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await taking
    assert await box.take(10, 0.0) == [1, 2]


async def test_a_failure_is_told_once_after_what_came_before_it(clock: HandClock) -> None:
    box: Mailbox[int] = Mailbox(clock)
    box.put([1])
    box.fail(Throttled("slow down"))
    assert await box.take(10, 5.0) == [1]
    with pytest.raises(Throttled):
        await box.take(10, 5.0)
    box.put([2])
    assert await box.take(10, 5.0) == [2]


@pytest.mark.parametrize("tell", [Mailbox.fail, Mailbox.end])
async def test_a_failure_wakes_who_waits(clock: HandClock, tell: object) -> None:
    box: Mailbox[int] = Mailbox(clock)
    taking = await _started(box)
    assert callable(tell)
    tell(box, BusError("down"))
    with pytest.raises(BusError, match="down"):
        await taking


async def test_the_end_takes_what_was_not_taken_and_stays(clock: HandClock) -> None:
    box: Mailbox[int] = Mailbox(clock)
    box.put([1])
    box.end(ReceiverClosed("first"))
    box.end(Disconnected("second"))
    for _ in range(2):
        with pytest.raises(ReceiverClosed, match="first"):
            await box.take(10, 5.0)


async def test_closed_it_gives_what_is_there_and_waits_no_longer(clock: HandClock) -> None:
    box: Mailbox[int] = Mailbox(clock)
    taking = await _started(box)
    box.close()
    assert await taking == []
    box.put([1])
    assert await box.take(10, 5.0) == [1]
    assert await box.take(10, 5.0) == []


async def test_closed_and_refusing_it_gives_nothing(clock: HandClock) -> None:
    box: Mailbox[int] = Mailbox(clock)
    box.put([1])
    box.close(refuse=True)
    assert await box.take(10, 5.0) == []
    box.put([2])
    assert await box.take(10, 5.0) == []
