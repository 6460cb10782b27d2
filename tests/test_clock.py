"""The seam for time: the machine's clock, and many deadlines behind one timer."""

import asyncio
import time
from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msgbus.clock import Alarms, Clock, SystemClock
from msgbus.testing import VirtualClock
from msgbus.testing.virtual import VirtualTimer

GRAIN = 0.005
SLIP = 1e-9  # of floating point


class CountingClock(VirtualClock):
    """Counts the timers that are set."""

    def __init__(self) -> None:
        super().__init__(turns=2)
        self.timers = 0

    def call_later(self, delay: float, callback: Callable[[], object]) -> VirtualTimer:
        """As VirtualClock's."""
        self.timers += 1
        return super().call_later(delay, callback)


async def test_the_system_clock_is_the_machine_s() -> None:
    clock: Clock = SystemClock()
    assert abs(clock.now() - time.monotonic()) < 1
    assert abs(clock.time() - time.time()) < 1
    rung = asyncio.Event()
    handle = clock.call_later(0.0, lambda: pytest.fail("it was cancelled"))
    clock.call_later(0.001, rung.set)
    handle.cancel()
    before = time.monotonic()
    await clock.sleep(0.001)
    assert time.monotonic() - before >= 0.0005
    await asyncio.wait_for(rung.wait(), 5)


async def test_alarms_ring_in_order_never_early() -> None:
    clock = VirtualClock()
    alarms = Alarms(clock, GRAIN)
    rung: list[str] = []
    times: list[float] = []

    def ring(name: str) -> None:
        rung.append(name)
        times.append(clock.now())

    for name, delay in (("b", 2.0), ("a", 1.0), ("c", 2.003)):
        alarms.call(delay, partial(ring, name))
    await clock.advance(10)
    assert rung == ["a", "b", "c"]
    assert times == pytest.approx([1.005, 2.005, 2.005])


async def test_alarms_of_one_time_ring_in_the_order_in_which_they_were_set() -> None:
    clock = VirtualClock()
    alarms = Alarms(clock)
    rung: list[int] = []
    for place in range(50):
        alarms.call(1.0, partial(rung.append, place))
    await clock.advance(1.1)
    assert rung == list(range(50))
    assert not alarms.pending


async def test_a_cancelled_alarm_does_not_ring_and_may_be_cancelled_again() -> None:
    clock = VirtualClock()
    alarms = Alarms(clock)
    rung: list[str] = []
    cancelled = alarms.call(1.0, lambda: rung.append("cancelled"))
    kept = alarms.call(2.0, lambda: rung.append("kept"))
    cancelled.cancel()
    await clock.advance(3.0)
    assert rung == ["kept"]
    cancelled.cancel()
    kept.cancel()


async def test_an_alarm_before_all_others_sets_the_timer_anew() -> None:
    clock = VirtualClock()
    alarms = Alarms(clock)
    rung: list[float] = []
    for delay in (100.0, 10.0, 1.0):
        alarms.call(delay, lambda: rung.append(clock.now()))
    await clock.advance(1.1)
    assert rung == pytest.approx([1.005])
    await clock.advance(200.0)
    assert rung == pytest.approx([1.005, 10.005, 100.005])


async def test_an_alarm_may_set_another_and_itself_again() -> None:
    clock = VirtualClock()
    alarms = Alarms(clock)
    rung: list[float] = []

    def ring() -> None:
        rung.append(clock.now())
        if len(rung) < 3:
            alarms.call(1.0, ring)

    alarms.call(1.0, ring)
    await clock.advance(10.0)
    assert rung == pytest.approx([1.005, 2.01, 3.015])


async def test_deadlines_that_are_cancelled_in_time_cost_no_timer() -> None:
    clock = CountingClock()
    alarms = Alarms(clock)
    alarms.call(30.0, lambda: None)
    for _ in range(100):
        alarms.call(30.0, lambda: pytest.fail("it was cancelled")).cancel()
    assert clock.timers == 1
    await clock.advance(31.0)


async def test_close_forgets_everything() -> None:
    clock = VirtualClock()
    alarms = Alarms(clock)
    alarms.call(1.0, lambda: pytest.fail("closed"))
    alarms.close()
    await clock.advance(2.0)
    assert clock.next_due is None


@given(st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 3000), st.booleans()), max_size=25))
async def test_each_alarm_rings_once_at_most_two_grains_late_unless_it_is_cancelled(
    plan: list[tuple[int, int, bool]],
) -> None:
    """Each entry: milliseconds until it is set, its delay in milliseconds, and whether it is cancelled at once."""
    clock = VirtualClock(turns=1)
    alarms = Alarms(clock, GRAIN)
    rung: dict[int, list[float]] = {place: [] for place in range(len(plan))}

    def set_alarm(place: int) -> None:
        call = alarms.call(plan[place][1] / 1000, lambda: rung[place].append(clock.now()))
        if plan[place][2]:
            call.cancel()

    for place, (start, _, _) in enumerate(plan):
        clock.call_later(start / 1000, partial(set_alarm, place))
    await clock.advance(10.0)
    for place, (start, delay, cancelled) in enumerate(plan):
        late = [at - (start + delay) / 1000 for at in rung[place]]
        assert len(late) == (0 if cancelled else 1)
        assert all(-SLIP <= seconds <= 2 * GRAIN + SLIP for seconds in late)
    assert not alarms.pending
