"""The virtual clock: nothing waits, everything is in order."""

import asyncio
import contextlib
import time
from contextvars import ContextVar
from functools import partial
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from msgbus.clock import Clock
from msgbus.testing import VirtualClock

DELAYS = st.lists(st.integers(0, 50).map(float), max_size=30)


def noting(clock: VirtualClock, delays: list[float]) -> list[tuple[float, int]]:
    """Timers that note when they ring, with their place in the list."""
    rung: list[tuple[float, int]] = []

    def note(place: int) -> None:
        rung.append((clock.now(), place))

    for place, delay in enumerate(delays):
        clock.call_later(delay, partial(note, place))
    return rung


async def test_is_a_clock_that_starts_at_zero_on_a_fixed_date() -> None:
    clock: Clock = VirtualClock()
    assert clock.now() == 0.0
    assert time.gmtime(clock.time())[:6] == (2026, 1, 1, 0, 0, 0)
    assert VirtualClock(epoch=5.0).time() == 5.0


async def test_stands_while_real_time_passes() -> None:
    clock = VirtualClock()
    rung = noting(clock, [0.001])
    await asyncio.sleep(0.01)
    assert (clock.now(), rung) == (0.0, [])


@given(DELAYS)
async def test_every_timer_rings_at_its_time_and_equal_ones_in_order(delays: list[float]) -> None:
    clock = VirtualClock(turns=1)
    rung = noting(clock, delays)
    await clock.advance(50)
    assert rung == sorted((delay, place) for place, delay in enumerate(delays))
    assert clock.now() == 50
    assert clock.next_due is None


@given(DELAYS, st.lists(st.integers(0, 20).map(float), min_size=1, max_size=5))
async def test_many_small_turns_are_one_large_turn(delays: list[float], parts: list[float]) -> None:
    clocks = VirtualClock(turns=1), VirtualClock(turns=1)
    rung = [noting(clock, delays) for clock in clocks]
    for part in parts:
        await clocks[0].advance(part)
    await clocks[1].advance(sum(parts))
    assert rung[0] == rung[1]


async def test_a_timer_set_by_another_rings_within_the_same_advance() -> None:
    clock = VirtualClock()
    rung: list[float] = []
    clock.call_later(1.0, lambda: clock.call_later(1.5, lambda: rung.append(clock.now())))
    await clock.advance(3.0)
    assert rung == [2.5]


async def test_what_a_task_does_between_two_timers_happens_at_its_own_time() -> None:
    clock = VirtualClock()
    seen: list[float] = []

    async def tick() -> None:
        for _ in range(4):
            await clock.sleep(10.0)
            seen.append(clock.now())

    task = asyncio.create_task(tick())
    await clock.advance(35.0)
    assert seen == [10.0, 20.0, 30.0]
    await clock.advance(5.0)
    assert task.done()


async def test_a_cancelled_timer_never_rings_not_even_when_cancelled_in_its_own_instant() -> None:
    clock = VirtualClock()
    rung: list[str] = []
    clock.call_later(0.5, lambda: rung.append("cancelled")).cancel()
    clock.call_later(1.0, lambda: later.cancel())
    later = clock.call_later(1.0, lambda: rung.append("in its instant"))
    await clock.advance(2.0)
    assert rung == []


async def test_step_goes_to_the_next_timer() -> None:
    clock = VirtualClock()
    rung = noting(clock, [3.0, 1.0, 3.0])
    assert [await clock.step(), clock.now(), rung[:]] == [True, 1.0, [(1.0, 1)]]
    assert [await clock.step(), clock.now(), rung[1:]] == [True, 3.0, [(3.0, 0), (3.0, 2)]]
    assert [await clock.step(), clock.now()] == [False, 3.0]


async def test_after_a_jump_a_periodic_task_has_run_once() -> None:
    clock = VirtualClock()
    seen: list[float] = []

    async def tick() -> None:
        while True:
            await clock.sleep(1.0)
            seen.append(clock.now())

    task = asyncio.create_task(tick())
    await clock.advance(0.0)
    await clock.jump(86400.0)
    assert seen == [86400.0]
    await clock.advance(1.0)
    assert seen == [86400.0, 86401.0]
    task.cancel()


async def test_sleepers_are_known_by_their_context() -> None:
    who: ContextVar[str] = ContextVar("who", default="")
    clock = VirtualClock()

    async def sleep(name: str, seconds: float) -> None:
        who.set(name)
        await clock.sleep(seconds)

    tasks = [asyncio.create_task(sleep(name, seconds)) for name, seconds in (("a", 1.0), ("b", 2.0), ("c", 0.0))]
    await clock.advance(0.5)
    assert [context.get(who) for context in clock.sleepers] == ["a", "b"]
    tasks[0].cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await tasks[0]
    assert [context.get(who) for context in clock.sleepers] == ["b"]
    await clock.advance(2.0)
    assert not clock.sleepers
    assert all(task.done() for task in tasks)


async def test_a_callback_that_raises_is_reported_by_the_loop_and_stops_nothing() -> None:
    clock = VirtualClock()
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    clock.call_later(1.0, lambda: 1 / 0)
    rung = noting(clock, [1.0])
    await clock.advance(1.0)
    assert [type(context["exception"]) for context in reported] == [ZeroDivisionError]
    assert rung == [(1.0, 0)]
