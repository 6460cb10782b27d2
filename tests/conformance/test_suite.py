"""The suite itself: every capability has a test, contradictions are found, cancelled_at hits the await it names."""

import asyncio
import contextlib
from dataclasses import replace

import pytest

from msgbus.broker import Capabilities
from msgbus.testing.conformance import BrokerSuite, coverage
from msgbus.testing.conformance.admin import contradictions
from msgbus.testing.conformance.cancelling import cancelled_at
from msgbus.testing.conformance.claims import about


def test_every_capability_is_tested() -> None:
    assert [name for name, tests in coverage(BrokerSuite).items() if not tests] == []


def test_every_test_is_tied_to_a_capability() -> None:
    tied = {test for tests in coverage(BrokerSuite).values() for test in tests}
    every = {name for name in dir(BrokerSuite) if name.startswith("test_")}
    assert every == tied
    assert len(every) >= 30


def test_a_test_cannot_be_tied_to_what_does_not_exist() -> None:
    with pytest.raises(TypeError, match="telepathy"):
        about("telepathy")


def test_contradicting_claims_are_found() -> None:
    sound = Capabilities(queues=True)
    assert contradictions(sound) == []
    assert contradictions(replace(sound, lease_extends=True)) == ["lease_extends needs a lease"]
    assert contradictions(replace(sound, retry_keeps_order=True)) != []


async def _three_awaits(trace: list[int]) -> str:
    for place in range(3):
        trace.append(place)
        await asyncio.sleep(0)
    return "done"


async def test_each_await_can_be_cancelled() -> None:
    for place in range(3):
        trace: list[int] = []
        outcome = await cancelled_at(_three_awaits(trace), place)
        assert outcome.cancelled
        assert trace == list(range(place + 1))
    outcome = await cancelled_at(_three_awaits([]), 3)
    assert (outcome.cancelled, outcome.value) == (False, "done")


async def test_a_swallowed_cancellation_is_found() -> None:
    async def swallows() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

    with pytest.raises(AssertionError, match="swallowed"):
        await cancelled_at(swallows(), 0)
