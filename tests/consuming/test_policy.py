"""What becomes of a delivery whose handler raised."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.scripted import PLAIN, subscription_on

from msgbus import Reject, RetryLater, Unavailable, backoff
from msgbus import headers as h
from msgbus.consuming.policy import Policy
from msgbus.errors import DecodeError, LeaseLost, Timeout
from msgbus.message import Act, Delivery, Settlement, Source
from msgbus.options import Retry

SOURCE = Source("topic", "orders", "billing")


def policy_of(retry: Retry, longest: float | None = None, now: float = 1000.0) -> Policy:
    """The policy of a subscription on a broker that delays retries up to `longest` seconds."""
    capabilities = replace(PLAIN, retry_delay=longest)
    return Policy(subscription_on(SOURCE, capabilities, retry=retry), lambda: now)


def decide(retry: Retry, error: Exception, *, attempt: int = 1, longest: float | None = None) -> Settlement:
    """The policy's settlement of a delivery at `attempt`."""
    settlement = policy_of(retry, longest).failed(Delivery(b"", SOURCE, {h.ID: "1"}, attempt=attempt), error)
    assert settlement is not None
    return settlement


def test_failures_are_retried_until_the_attempts_are_used_up() -> None:
    retry = Retry(attempts=3)
    assert [decide(retry, ValueError(), attempt=n).act for n in (1, 2, 3, 4)] == [
        Act.RETRY,
        Act.RETRY,
        Act.DEAD,
        Act.DEAD,
    ]


def test_a_retry_carries_its_attempt_and_the_first_failure() -> None:
    headers = decide(Retry(), ValueError(), attempt=2).headers
    assert headers == {h.ATTEMPT: "3", h.FIRST_FAILED: "1000.000"}


def test_the_first_failure_stays_the_first() -> None:
    delivery = Delivery(b"", SOURCE, {h.FIRST_FAILED: "7.000"}, attempt=2)
    settlement = policy_of(Retry()).failed(delivery, ValueError())
    assert settlement is not None
    assert settlement.headers is not None
    assert settlement.headers[h.FIRST_FAILED] == "7.000"


def test_a_dead_letter_says_all_that_its_reader_wants_to_know() -> None:
    settlement = decide(Retry(attempts=2), KeyError("cus\ntomer"), attempt=2)
    assert settlement.act is Act.DEAD
    assert settlement.headers is not None
    assert settlement.headers[h.ERROR_TYPE] == "KeyError"
    assert settlement.headers[h.ERROR] == "'cus\\ntomer'"
    assert settlement.headers[h.ATTEMPTS] == "2"
    assert settlement.headers[h.ORIGIN] == "topic/orders/billing"
    assert settlement.headers[h.FIRST_FAILED] == "1000.000"


def test_failure_headers_are_one_short_printable_line() -> None:
    settlement = decide(Retry(attempts=1), ValueError("line\r\n" + "x" * 10_000 + "\x00"))
    assert settlement.headers is not None
    for value in settlement.headers.values():
        assert value.isprintable()
        assert len(value) <= 500


def test_an_error_without_text_has_a_reason_all_the_same() -> None:
    assert decide(Retry(attempts=1), ValueError()).reason == "ValueError"


@pytest.mark.parametrize("error", [Reject("no such customer"), DecodeError("not JSON")])
def test_what_is_proven_bad_is_dead_at_once(error: Exception) -> None:
    settlement = decide(Retry(attempts=5), error)
    assert settlement.act is Act.DEAD
    assert settlement.reason == str(error)


def test_only_what_is_in_on_is_retried() -> None:
    retry = Retry(on=(ConnectionError,))
    assert decide(retry, ConnectionResetError()).act is Act.RETRY
    assert decide(retry, ValueError()).act is Act.DEAD


def test_what_is_in_never_is_dead_at_once() -> None:
    retry = Retry(never=(LookupError,))
    assert decide(retry, KeyError()).act is Act.DEAD
    assert decide(retry, ValueError()).act is Act.RETRY


def test_unavailable_is_never_dead() -> None:
    retry = Retry(attempts=2, max_delay=60.0, jitter=0.0, never=(Exception,), on=())
    for attempt in (1, 2, 3, 50, 100_000):
        settlement = decide(retry, Unavailable("the registry is down"), attempt=attempt)
        assert settlement.act is Act.RETRY
        assert settlement.delay <= 60.0


def test_retry_later_decides_the_delay_and_counts_as_an_attempt() -> None:
    retry = Retry(attempts=2, on=(KeyError,))
    settlement = decide(retry, RetryLater("busy", delay=42.0))
    assert (settlement.act, settlement.delay) == (Act.RETRY, 42.0)
    assert decide(retry, RetryLater("busy", delay=42.0), attempt=2).act is Act.DEAD


def test_retry_later_keeps_to_what_the_broker_can_delay() -> None:
    assert decide(Retry(), RetryLater(delay=5000.0), longest=900.0).delay == 900.0


def test_retry_later_without_a_delay_takes_that_of_the_options() -> None:
    assert decide(Retry(first_delay=3.0, jitter=0.0), RetryLater()).delay == 3.0


def test_a_lost_lease_is_not_settled() -> None:
    assert policy_of(Retry()).failed(Delivery(b"", SOURCE, {}), LeaseLost("gone")) is None


def test_a_timeout_is_a_failure_like_another() -> None:
    assert decide(Retry(), Timeout("ran longer than 1 s")).act is Act.RETRY
    assert decide(Retry(on=(ConnectionError,)), Timeout("ran longer than 1 s")).act is Act.DEAD


def test_the_first_attempts_follow_at_once() -> None:
    retry = Retry(attempts=6, in_place=2, first_delay=10.0, factor=3.0, jitter=0.0)
    assert [decide(retry, ValueError(), attempt=n).delay for n in (1, 2, 3, 4, 5)] == [0.0, 0.0, 10.0, 30.0, 90.0]


def test_the_delay_ends_at_its_maximum() -> None:
    retry = Retry(attempts=10_000, first_delay=1.0, max_delay=20.0, jitter=0.0)
    assert [decide(retry, ValueError(), attempt=n).delay for n in (1, 4, 5, 6, 5000)] == [1.0, 8.0, 16.0, 20.0, 20.0]


def test_each_failure_is_logged_once_with_its_fields(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "msgbus")
    decide(Retry(attempts=2), ValueError("odd"))
    decide(Retry(attempts=2), ValueError("odd"), attempt=2)
    retried, dead = caplog.records
    assert (retried.levelname, dead.levelname) == ("WARNING", "ERROR")
    assert "topic orders (group billing)" in retried.getMessage()
    assert "odd" in dead.getMessage()
    assert dead.__dict__["message_id"] == "1"
    assert dead.__dict__["error_type"] == "ValueError"
    assert dead.__dict__["attempt"] == 2


@given(
    attempt=st.integers(1, 2000),
    first=st.floats(0, 100),
    factor=st.floats(1, 10),
    longest=st.floats(0, 10_000),
    jitter=st.floats(0, 1),
)
def test_back_off_keeps_its_bounds(attempt: int, first: float, factor: float, longest: float, jitter: float) -> None:
    delay = backoff.delay(attempt, first, factor, longest, jitter)
    try:
        full = min(longest, first * factor ** (attempt - 1))
    except OverflowError:
        full = longest
    assert full * (1 - jitter) - 1e-9 <= delay <= full + 1e-9


@given(st.integers(-5, 1))
def test_back_off_of_the_first_failure_is_the_first_delay(attempt: int) -> None:
    assert backoff.delay(attempt, 2.0, jitter=0.0) == 2.0


@given(
    attempts=st.integers(1, 20),
    attempt=st.integers(1, 40),
    error=st.sampled_from([ValueError(), KeyError(), RetryLater(), RetryLater(delay=1.0), OSError()]),
)
def test_no_retry_is_without_a_cap(attempts: int, attempt: int, error: Exception) -> None:
    settlement = decide(Retry(attempts=attempts), error, attempt=attempt)
    assert (settlement.act is Act.DEAD) == (attempt >= attempts)
    assert settlement.delay >= 0


@pytest.mark.parametrize(("sent_at", "act"), [(None, Act.RETRY), (990.0, Act.RETRY), (989.0, Act.DEAD)])
def test_what_is_too_old_is_dead_at_its_next_failure(sent_at: float | None, act: Act) -> None:
    delivery = Delivery(b"", SOURCE, {}, sent_at=sent_at)
    settlement = policy_of(Retry(max_age=10.0)).failed(delivery, ValueError())
    assert settlement is not None
    assert settlement.act is act
