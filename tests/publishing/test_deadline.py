"""Deadlines on a task: a Timeout when it is late, and nothing else."""

from __future__ import annotations

import asyncio

import pytest
from tests.scripted import HandClock, turns

from msgbus import Timeout
from msgbus.clock import Alarms
from msgbus.publishing.deadline import Deadline


async def test_in_time_nothing_happens(clock: HandClock) -> None:
    alarms = Alarms(clock)
    with Deadline(alarms, 5.0, "work"):
        await asyncio.sleep(0)
    await clock.advance(10.0)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    assert not alarms.pending


async def test_too_late_is_a_timeout_that_says_what_and_how_long(clock: HandClock) -> None:
    alarms = Alarms(clock)

    async def late() -> None:
        with Deadline(alarms, 5.0, "topic orders"):
            await clock.sleep(10.0)

    task = asyncio.create_task(late())
    await clock.until(task.done)
    with pytest.raises(Timeout, match=r"topic orders: not done within 5 s"):
        task.result()
    assert not task.cancelling()


async def test_a_cancellation_from_elsewhere_goes_through(clock: HandClock) -> None:
    alarms = Alarms(clock)

    async def late() -> None:
        with Deadline(alarms, 5.0, "work"):
            await clock.sleep(10.0)

    task = asyncio.create_task(late())
    await turns()
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert not alarms.pending


async def test_both_at_once_is_a_cancellation(clock: HandClock) -> None:
    deadline = Deadline(Alarms(clock), 5.0, "work")

    async def late() -> None:
        with deadline:
            await clock.sleep(10.0)

    task = asyncio.create_task(late())
    await turns()
    deadline.ring()
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


async def test_an_error_of_the_block_stays_that_error(clock: HandClock) -> None:
    with pytest.raises(ZeroDivisionError), Deadline(Alarms(clock), 5.0, "work"):
        raise ZeroDivisionError


async def test_nested_deadlines_the_earlier_one_wins(clock: HandClock) -> None:
    alarms = Alarms(clock)

    async def late() -> None:
        with Deadline(alarms, 9.0, "outer"), Deadline(alarms, 5.0, "inner"):
            await clock.sleep(20.0)

    task = asyncio.create_task(late())
    await clock.until(task.done)
    with pytest.raises(Timeout, match="inner"):
        task.result()


async def test_in_a_task_that_is_being_cancelled_it_is_a_timeout_all_the_same(clock: HandClock) -> None:
    """As a publish in the clean-up of a cancelled handler."""
    alarms = Alarms(clock)
    log: list[str] = []

    async def service() -> None:
        try:
            await clock.sleep(100.0)
        except asyncio.CancelledError:
            try:
                with Deadline(alarms, 5.0, "clean-up"):
                    await clock.sleep(10.0)
            except Timeout:
                log.append("timeout")
            raise

    task = asyncio.create_task(service())
    await turns()
    task.cancel()
    await clock.until(task.done)
    assert log == ["timeout"]
    assert task.cancelled()
