"""Options that can't work are refused where they are made; the text names the option and what is allowed."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from msgbus import Batch, Breaker, ConfigError, Lease, Limits, Retry


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Retry(attempts=0), "Retry.attempts: at least 1"),
        (lambda: Retry(first_delay=-1), "Retry.first_delay: 0 or more"),
        (lambda: Retry(factor=0.5), "Retry.factor: 1 or more"),
        (lambda: Retry(first_delay=10, max_delay=5), "Retry.max_delay: at least first_delay"),
        (lambda: Retry(jitter=1.5), "Retry.jitter: between 0 and 1"),
        (lambda: Retry(attempts=3, in_place=3), "Retry.in_place: 0 or more, and fewer than attempts"),
        (lambda: Retry(attempts=3, max_deliveries=3), "Retry.max_deliveries: more than attempts"),
        (lambda: Breaker(failures=0), "Breaker.failures: at least 1"),
        (lambda: Breaker(pause=0), "Breaker.pause: more than 0"),
        (lambda: Limits(concurrency=0), "Limits.concurrency: at least 1"),
        (lambda: Limits(prefetch=0), "Limits.prefetch: at least 1"),
        (lambda: Limits(rate=0), "Limits.rate: more than 0"),
        (lambda: Limits(timeout=0), "Limits.timeout: more than 0"),
        (lambda: Lease(seconds=0.5), "Lease.seconds: at least 1"),
        (lambda: Lease(longest=0), "Lease.longest: more than 0"),
        (lambda: Lease(hold=-1), "Lease.hold: 0 or more"),
        (lambda: Batch(size=0), "Batch.size: at least 1"),
        (lambda: Batch(wait=-1), "Batch.wait: 0 or more"),
    ],
)
def test_refused(make: Callable[[], object], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        make()


@pytest.mark.parametrize(
    "make",
    [
        lambda: Retry(first_delay=float("nan")),
        lambda: Retry(max_delay=float("nan")),
        lambda: Limits(timeout=float("nan")),
        lambda: Limits(rate=float("nan")),
        lambda: Breaker(pause=float("nan")),
    ],
)
def test_nan_is_no_time(make: Callable[[], object]) -> None:
    with pytest.raises(ConfigError):
        make()


def test_the_edges_are_fine() -> None:
    Retry(attempts=1, first_delay=0, max_delay=0, jitter=0, factor=1)
    Retry(attempts=2, in_place=1, max_deliveries=3)
    Batch(size=1, wait=0)
    Lease(hold=0)


def test_options_compare_by_value() -> None:
    assert Limits() == Limits()
    assert Retry() != Retry(attempts=2)
