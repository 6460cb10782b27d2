"""A stop ends, whatever a client does with its cancellation, and when closing a receiver hangs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from tests.conftest import OpenScripted
from tests.models import WORK, Order
from tests.scripted import HandClock, ScriptedReceiver, consuming, turns

from msgbus import Bus
from msgbus.config import Settings
from msgbus.consuming import runner as runners
from msgbus.consuming import session as sessions
from msgbus.message import Source


def bus_of(clock: HandClock) -> Bus:
    """A bus that leaves little time to what runs."""
    bus = Bus(settings=Settings(url="scripted://one", grace=0.01), clock=clock)

    @bus.consumer(WORK)
    async def handle(order: Order) -> None: ...

    return bus


async def swallow(times: int) -> None:
    """Wait, through so many cancellations."""
    for _ in range(times):
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()


async def stubborn(release: asyncio.Event) -> None:
    """Wait, through all cancellations."""
    while not release.is_set():
        with contextlib.suppress(asyncio.CancelledError):
            await release.wait()


async def test_an_opening_that_swallows_cancellations_is_cancelled_again(
    clock: HandClock, scripted: OpenScripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runners, "_HARD_STOP", 0.5)
    broker = scripted()
    ended: list[bool] = []

    async def open_() -> None:
        await swallow(2)
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    broker.on_open = open_
    async with consuming(bus_of(clock), clock):
        await turns()
    assert ended == [True]


async def test_a_receiver_that_opens_all_the_same_is_left_at_once(clock: HandClock, scripted: OpenScripted) -> None:
    broker = scripted()
    broker.on_open = lambda: swallow(1)
    async with consuming(bus_of(clock), clock):
        await turns()
    assert [receiver.is_open for receiver in broker.receivers] == [False]
    assert broker.receivers[0].limits == []


async def test_a_client_that_never_ends_is_left_behind(
    clock: HandClock, scripted: OpenScripted, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(runners, "_HARD_STOP", 0.05)
    broker = scripted()
    release = asyncio.Event()
    broker.on_open = lambda: stubborn(release)
    with caplog.at_level(logging.ERROR, "msgbus.consume"):
        async with consuming(bus_of(clock), clock):
            await turns()
    assert "left behind" in caplog.text
    release.set()
    await turns()


async def test_a_receiver_that_does_not_close_is_cancelled(
    clock: HandClock, scripted: OpenScripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runners, "_HARD_STOP", 0.05)
    broker = scripted()
    inner = broker.receiver
    closing: list[str] = []

    @asynccontextmanager
    async def receiver(source: Source, *, prefetch: int) -> AsyncIterator[ScriptedReceiver]:
        async with inner(source, prefetch=prefetch) as opened:
            yield opened
            closing.append("begins")
            try:
                await asyncio.Event().wait()
            finally:
                closing.append("cut off")

    monkeypatch.setattr(broker, "receiver", receiver)
    async with consuming(bus_of(clock), clock):
        await turns()
    assert closing == ["begins", "cut off"]


async def test_a_receiver_that_does_not_stop_keeps_nobody(
    clock: HandClock, scripted: OpenScripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "_HARD_STOP", 0.05)
    broker = scripted()
    release = asyncio.Event()
    async with consuming(bus_of(clock), clock):
        await turns()
        (opened,) = broker.receivers
        opened.stop = lambda: stubborn(release)  # type: ignore[method-assign]
    assert not opened.is_open
    release.set()
    await turns()


async def test_the_error_of_a_runner_is_still_its_own(clock: HandClock, scripted: OpenScripted) -> None:
    broker = scripted()

    async def open_() -> None:
        raise LookupError("a bug of the broker")

    broker.on_open = open_
    with pytest.raises(LookupError, match="a bug of the broker"):
        async with consuming(bus_of(clock), clock):
            await asyncio.Event().wait()
