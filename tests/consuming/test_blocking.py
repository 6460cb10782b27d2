"""A handler that holds up the event loop is named; what waits as it should is not."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from collections.abc import Iterator

import pytest
from tests.models import WORK, Order

from msgbus import Batch, Bus, Depends
from msgbus.consuming import blocking


class Told(logging.Handler):
    """The lines of the watch; an event for the first of each kind."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.blocks, self.blocked = threading.Event(), threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())
        (self.blocks if "blocks the event loop" in self.lines[-1] else self.blocked).set()


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[Told]:
    for name, value in {"_PERIOD": 0.01, "_LIMIT": 0.05, "_DOUBT": 0.05}.items():
        monkeypatch.setattr(blocking, name, value)
    monkeypatch.setattr(blocking.LoopWatch, "told", set())
    handler = Told()
    blocking.log.addHandler(handler)
    yield handler
    blocking.log.removeHandler(handler)


async def handled(bus: Bus, done: asyncio.Event) -> None:
    async with bus.consuming():
        await bus.send(WORK, Order(order_id="1"))
        async with asyncio.timeout(30.0):
            await done.wait()


async def test_a_handler_that_blocks_the_loop_is_named_with_its_line_and_its_time(told: Told) -> None:
    bus, done = Bus("memory://"), asyncio.Event()

    @bus.consumer(WORK)
    async def sleepy(order: Order) -> None:
        assert told.blocks.wait(30.0)
        done.set()

    await handled(bus, done)
    assert await asyncio.to_thread(told.blocked.wait, 30.0)
    first, second = told.lines
    name = "test_a_handler_that_blocks_the_loop_is_named_with_its_line_and_its_time.<locals>.sleepy"
    assert first.startswith(f"{name} blocks the event loop, at ")
    assert "threading.py:" in first, "the line that waits"
    assert second.startswith(f"{name} blocked the event loop for ")


async def test_a_dependency_that_blocks_is_named_and_a_batch_too(told: Told) -> None:
    bus, done = Bus("memory://"), asyncio.Event()

    async def slow() -> None:
        assert told.blocks.wait(30.0)

    @bus.consumer(WORK, batch=Batch(size=1))
    async def handle(orders: list[Order], _: None = Depends(slow)) -> None:
        done.set()

    await handled(bus, done)
    assert await asyncio.to_thread(told.blocked.wait, 30.0)
    assert ".slow blocks the event loop" in told.lines[0]


async def test_a_function_is_told_once(told: Told) -> None:
    bus, done = Bus("memory://"), asyncio.Event()
    blocking.LoopWatch.told.add("test_a_function_is_told_once.<locals>.again")

    @bus.consumer(WORK)
    async def again(order: Order) -> None:
        told.blocks.wait(0.5)  # several looks
        done.set()

    await handled(bus, done)
    assert told.lines == []


def test_what_blocks_outside_of_handlers_is_not_told() -> None:
    assert blocking.culprit(sys._getframe()) == ("", "")
    assert blocking.culprit(None) == ("", "")
