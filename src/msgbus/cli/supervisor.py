"""The parent process of `msgbus run --workers N` and `--reload`: starts workers, starts them again, stops them all."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterable, Sequence
from contextlib import AsyncExitStack, suppress
from typing import Any

from msgbus import backoff
from msgbus.cli.health import Place, ask, serving
from msgbus.cli.service import SIGNALS
from msgbus.consuming.health import Health

log = logging.getLogger("msgbus.run")

HOPELESS = 2  # exit code of a worker that no restart can help: a setting or a declaration is wrong
LIFELINE = "MSGBUS_RUN_LIFELINE"
"""Names the file descriptor that closes with the supervisor, in the environment of a worker."""

_STEADY = 60.0  # seconds of life after which a worker's crashes are forgiven
_MARGIN = 20.0  # seconds beyond the grace period that a worker may take to cancel handlers and hand back


class Worker:
    """One process, started again when it crashes."""

    def __init__(self, number: int, command: Sequence[str], lifeline: int, folder: str) -> None:
        self.number = number
        self.socket = os.path.join(folder, f"{number}.sock")
        self._command = [*command, "--health", f"unix:{self.socket}"]
        self._lifeline = lifeline
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> asyncio.subprocess.Process:
        """In a process group of its own: Ctrl-C reaches the supervisor alone, which decides."""
        with suppress(FileNotFoundError):
            os.unlink(self.socket)
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.DEVNULL,
            env={**os.environ, LIFELINE: str(self._lifeline)},
            pass_fds=[self._lifeline],
            start_new_session=True,
        )
        log.info("worker %d started", self.number, extra={"worker": self.number, "worker_pid": self._process.pid})
        return self._process

    def signal(self, number: int) -> None:
        """Harmless where there is no process."""
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)


class Supervisor:
    """Keeps `count` workers of one command running until it is told to stop.

    The first signal stops them softly, the second hard, the third kills them. A worker that exits by itself is
    started again after a back-off; one that says that it is hopeless ends everything with its exit code.
    With `changes`, the workers are stopped and started for each item, and a crashed one waits for the next.
    """

    def __init__(
        self, command: Sequence[str], count: int, grace: float, *, changes: AsyncIterable[Any] | None = None
    ) -> None:
        self._command = command
        self._count = count
        self._grace = grace
        self._changes = changes
        self._workers: list[Worker] = []
        self._stops = 0
        self._stopping = asyncio.Event()
        self._changed = asyncio.Event()
        self._code = 0

    async def run(self, health: Place | None = None) -> int:
        """The exit code: 0 where every worker stopped in order."""
        read, write = os.pipe()
        async with AsyncExitStack() as stack:
            stack.callback(os.close, write)
            stack.callback(os.close, read)
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="msgbus-"))
            self._workers = [Worker(number, self._command, read, folder) for number in range(1, self._count + 1)]
            self._listen(stack)
            await stack.enter_async_context(serving(health, self.health))
            watching = asyncio.ensure_future(self._watch())
            stack.callback(watching.cancel)
            await asyncio.gather(*map(self._keep, self._workers))
        return self._code

    def stop(self) -> None:
        """Softly, then hard, then at once."""
        self._stops += 1
        self._stopping.set()
        self._signal(signal.SIGKILL if self._stops > 2 else signal.SIGTERM)
        if self._stops == 1:
            asyncio.get_running_loop().call_later(self._grace + _MARGIN, self._signal, signal.SIGKILL)

    async def health(self) -> Health:
        """Live and ready where all workers are; a crashed one that is being started again is not ready."""
        reports = await asyncio.gather(*(ask(worker.socket) for worker in self._workers))
        problems = tuple(
            f"worker {worker.number}: {problem}"
            for worker, report in zip(self._workers, reports, strict=True)
            for problem in report.problems
        )
        ready = all(report.ready for report in reports) and not self._stops
        return Health(all(report.live for report in reports), ready, problems)

    async def _keep(self, worker: Worker) -> None:
        loop, crashes = asyncio.get_running_loop(), 0
        while not self._stopping.is_set():
            self._changed.clear()
            began = loop.time()
            process = await worker.start()
            if self._stopping.is_set() or self._changed.is_set():  # while it was being made
                worker.signal(signal.SIGTERM)
            code = await process.wait()
            if self._stopping.is_set():
                in_order = code in (0, -signal.SIGTERM)  # the latter: before it could listen to signals
                self._code = self._code or (0 if in_order else 1)
            elif self._changes is not None:
                await self._next_change(worker, code)
            elif code == HOPELESS:
                self._code = code
                self.stop()
            else:
                crashes = crashes + 1 if loop.time() - began < _STEADY else 1
                await self._pause(worker, code, backoff.delay(crashes, 0.5, longest=30.0, jitter=0.5))

    async def _pause(self, worker: Worker, code: int, seconds: float) -> None:
        log.error(
            "worker %d ended with exit code %d, starting it again in %.1f s",
            worker.number,
            code,
            seconds,
            extra={"worker": worker.number, "exit_code": code},
        )
        await _first(self._stopping.wait(), timeout=seconds)

    async def _next_change(self, worker: Worker, code: int) -> None:
        if not self._changed.is_set():
            log.error("worker %d ended with exit code %d, waiting for a change", worker.number, code)
        await _first(self._stopping.wait(), self._changed.wait())

    async def _watch(self) -> None:
        if self._changes is None:
            return
        try:
            async for _ in self._changes:
                log.info("files have changed, starting again")
                self._changed.set()
                self._signal(signal.SIGTERM)
        except Exception:
            log.exception("can't watch the files")
            self._code = 1
            self.stop()

    def _signal(self, number: int) -> None:
        for worker in self._workers:
            worker.signal(number)

    def _listen(self, stack: AsyncExitStack) -> None:
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, self.stop)
            stack.callback(loop.remove_signal_handler, number)


async def _first(*events: Any, timeout: float | None = None) -> None:
    tasks = [asyncio.ensure_future(event) for event in events]
    await asyncio.wait(tasks, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()


def worker_command(target: str, *options: str, debug: bool = False) -> list[str]:
    """The command line of one worker."""
    return [sys.executable, "-m", "msgbus.cli", *(["--debug"] if debug else []), "run", target, *options]
