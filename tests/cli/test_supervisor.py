"""The supervisor with small scripts for workers, and what must not go wrong around them."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.scripted import turns

from msgbus import Health
from msgbus.cli import supervisor as module
from msgbus.cli.supervisor import Supervisor, Worker, worker_command

STUBBORN = """
import signal, sys
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, lambda number, frame: open(sys.argv[1], "a").write("told\\n"))
open(sys.argv[1], "a").write("ready\\n")
while True:
    signal.pause()
"""


class Heard(logging.Handler):
    """The messages of the supervisor's log, to be awaited."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: asyncio.Queue[str] = asyncio.Queue()

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.put_nowait(record.getMessage())

    async def until(self, beginning: str) -> str:
        while not (message := await self.messages.get()).startswith(beginning):
            pass
        return message


@pytest.fixture
async def heard(caplog: pytest.LogCaptureFixture) -> AsyncIterator[Heard]:
    """What `msgbus run` says."""
    caplog.set_level(logging.INFO, logger="msgbus.run")
    handler = Heard()
    logging.getLogger("msgbus.run").addHandler(handler)
    yield handler
    logging.getLogger("msgbus.run").removeHandler(handler)


def script(text: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", text, *arguments]


async def read_lines(pipe: Path, count: int) -> list[str]:
    """So many lines from a pipe that a worker writes to, one opening for each."""
    return [await asyncio.to_thread(pipe.read_text) for _ in range(count)]


async def test_a_hopeless_worker_ends_everything(heard: Heard) -> None:
    assert await Supervisor(script("raise SystemExit(2)"), 2, 1.0).run() == 2


async def test_a_crashed_worker_waits_longer_each_time(heard: Heard, monkeypatch: pytest.MonkeyPatch) -> None:
    crashes: list[int] = []

    def delay(crash: int, first: float, longest: float, jitter: float) -> float:
        crashes.append(crash)
        return 0.0 if crash < 3 else 3600.0

    monkeypatch.setattr("msgbus.backoff.delay", delay)
    supervisor = Supervisor(script("raise SystemExit(1)"), 1, 1.0)
    running = asyncio.create_task(supervisor.run())
    for _ in range(3):
        await heard.until("worker 1 ended with exit code 1")
    supervisor.stop()  # it does not wait for the hour to pass
    assert await running == 0
    assert crashes == [1, 2, 3]


async def test_the_third_signal_kills(heard: Heard, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    supervisor = Supervisor(script(STUBBORN, str(pipe)), 1, 3600.0)
    running = asyncio.create_task(supervisor.run())
    assert await read_lines(pipe, 1) == ["ready\n"]
    for _ in range(2):
        os.kill(os.getpid(), signal.SIGTERM)
        assert await read_lines(pipe, 1) == ["told\n"]
    os.kill(os.getpid(), signal.SIGINT)
    assert await running == 1


async def test_a_worker_that_ignores_its_grace_period_is_killed(
    heard: Heard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MARGIN", 0.0)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    supervisor = Supervisor(script(STUBBORN.replace("told", ""), str(pipe)), 1, 0.0)
    running = asyncio.create_task(supervisor.run())
    await read_lines(pipe, 1)
    supervisor.stop()
    assert await running == 1


async def test_health_is_that_of_all_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    reports = {"/1.sock": Health(True, True), "/2.sock": Health(True, False, ("starting",))}

    async def ask(path: str) -> Health:
        return reports[path]

    monkeypatch.setattr(module, "ask", ask)
    supervisor = Supervisor([], 2, 1.0)
    supervisor._workers = [Worker(number, [], 0, "/") for number in (1, 2)]
    assert await supervisor.health() == Health(True, False, ("worker 2: starting",))
    reports["/2.sock"] = Health(True, True)
    assert await supervisor.health() == Health(True, True)
    reports["/1.sock"] = Health(False, False, ("no answer",))
    assert (await supervisor.health()).live is False
    supervisor.stop()
    assert (await supervisor.health()).ready is False


async def test_files_that_can_not_be_watched_end_it(heard: Heard) -> None:
    class Changes:
        def __aiter__(self) -> Changes:
            return self

        async def __anext__(self) -> Any:
            raise OSError("too many watches")

    supervisor = Supervisor(script("import signal; signal.pause()"), 1, 1.0, changes=Changes())
    assert await supervisor.run() == 1


async def test_a_change_while_a_worker_is_being_started_is_not_missed(
    heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[int] = []
    change: asyncio.Queue[object] = asyncio.Queue()

    async def changes() -> AsyncIterator[Any]:
        while True:
            yield await change.get()

    class Slow(Worker):
        async def start(self) -> asyncio.subprocess.Process:
            process = await Worker.start(self)
            started.append(process.pid)
            if len(started) == 1:
                change.put_nowait("app.py")
                await turns()
            return process

    supervisor = Supervisor(script("import signal; signal.pause()"), 1, 1.0, changes=changes())
    monkeypatch.setattr(module, "Worker", Slow)
    running = asyncio.create_task(supervisor.run())
    for _ in range(2):
        await heard.until("worker 1 started")
    supervisor.stop()
    assert await running == 0
    assert len(started) == 2


def test_the_command_of_a_worker() -> None:
    command = worker_command("shop:bus", "--grace=1.0", debug=True)
    assert command == [sys.executable, "-m", "msgbus.cli", "--debug", "run", "shop:bus", "--grace=1.0"]
