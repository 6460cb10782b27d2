"""How much a subscription takes: the window, the rate, the breaker; and the breaker through the whole bus."""

from __future__ import annotations

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.models import WORK, Order, orders
from tests.scripted import HandClock, consuming

from msgbus import Breaker, Bus, Limits, Message, Retry, Unavailable
from msgbus.consuming.flow import BreakerState, Rate, Window


@given(
    concurrency=st.integers(1, 100),
    prefetch=st.integers(1, 1000),
    steps=st.lists(st.tuples(st.integers(0, 1000), st.floats(0, 10)), max_size=30),
)
def test_the_window_stays_between_concurrency_and_prefetch(
    concurrency: int, prefetch: int, steps: list[tuple[int, float]]
) -> None:
    window = Window(concurrency, prefetch)
    now = 1000.0
    for count, elapsed in steps:
        now += elapsed
        before = window.size
        window.handled(count, now)
        assert min(concurrency, prefetch) <= window.size <= prefetch
        assert window.size <= 2 * before


def test_quick_handlers_widen_the_window() -> None:
    window = Window(4, 1000)
    now = 1000.0
    for _ in range(20):
        now += 0.3
        window.handled(500, now)
    assert window.size == 1000


def test_slow_handlers_narrow_the_window_so_that_they_don_t_hoard() -> None:
    window = Window(4, 1000)
    now = 1000.0
    for _ in range(20):
        now += 0.3
        window.handled(500, now)
    for _ in range(40):
        now += 1.0
        window.handled(1, now)
    assert window.size <= 6


@given(rate=st.floats(0.1, 1000), steps=st.lists(st.floats(0.001, 3.0), min_size=1, max_size=50))
def test_no_more_than_the_rate_and_one_second_s_worth(rate: float, steps: list[float]) -> None:
    bucket = Rate(rate)
    now, taken = 500.0, 0
    for step in steps:
        available = bucket.available(now)
        assert available >= 0
        bucket.take(available)
        taken += available
        now += step
    assert taken <= rate * (now - 500.0) + max(1.0, rate) + 1e-6


def test_an_empty_bucket_says_how_long_to_wait() -> None:
    bucket = Rate(2.0)
    bucket.take(bucket.available(0.0))
    assert bucket.wait() == pytest.approx(0.5)
    assert bucket.available(0.6) == 1


def test_the_breaker_opens_after_failures_in_a_row_and_closes_at_a_success(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "msgbus.flow")
    breaker = BreakerState(Breaker(failures=3, pause=10.0, on=(ConnectionError,)), "queue work")
    for now in (0.0, 1.0):
        breaker.failed(ConnectionError(), now)
    breaker.succeeded()
    for now in (2.0, 3.0):
        breaker.failed(ConnectionError(), now)
    assert breaker.is_closed
    breaker.failed(ConnectionResetError(), 4.0)
    assert not breaker.is_closed
    assert breaker.wait(5.0) == pytest.approx(9.0)
    assert breaker.wait(14.0) == 0.0
    assert not breaker.is_closed, "one at a time, until one succeeds"
    breaker.failed(ConnectionError(), 15.0)
    assert breaker.wait(16.0) == pytest.approx(9.0)
    breaker.succeeded()
    assert breaker.is_closed
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]


def test_only_what_says_that_a_dependency_is_down_opens_the_breaker() -> None:
    breaker = BreakerState(Breaker(failures=1), "queue work")
    for error in (ValueError(), ConnectionError()):  # it may be one message's own
        breaker.failed(error, 0.0)
        assert breaker.is_closed
    breaker.failed(Unavailable(), 0.0)
    assert not breaker.is_closed


async def test_an_open_breaker_pauses_receiving_then_tries_one_then_goes_on(clock: HandClock) -> None:
    bus = Bus(clock=clock)
    down = True
    starts: list[tuple[float, str]] = []

    @bus.consumer(
        WORK,
        limits=Limits(concurrency=1, prefetch=1, breaker=Breaker(failures=2, pause=30.0, on=(ConnectionError,))),
        retry=Retry(first_delay=5.0, jitter=0.0, factor=1.0, attempts=50),
    )
    async def work(message: Message[Order]) -> None:
        starts.append((round(clock.now() - began, 1), message.payload.order_id))
        if down:
            raise ConnectionError("the database is down")

    began = clock.now()
    async with consuming(bus, clock):
        await bus.publish_many(WORK, orders(*map(str, range(6))))
        await clock.until(lambda: len(starts) == 3)
        opened, tried = starts[1][0], starts[2][0]
        assert tried - opened >= 30.0
        await clock.advance(29.0)
        assert len(starts) == 3, "the probe failed: paused again"
        down = False
        await clock.until(lambda: bus.runners[0].subscription.stats.handled == 6)
    times = [at for at, _ in starts[3:]]
    assert times[0] - tried >= 30.0
    assert times[1] - times[0] < 6.0


async def test_without_a_breaker_it_goes_on(clock: HandClock) -> None:
    bus = Bus(clock=clock)
    starts: list[float] = []

    @bus.consumer(WORK, limits=Limits(breaker=None), retry=Retry(attempts=1))
    async def work(order: Order) -> None:
        starts.append(clock.now())
        raise ConnectionError

    async with consuming(bus, clock):
        await bus.publish_many(WORK, orders(*map(str, range(20))))
        await clock.until(lambda: len(starts) == 20)
    assert starts[-1] - starts[0] < 1.0
