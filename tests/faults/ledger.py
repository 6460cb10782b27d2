"""Reads what worker processes say, and judges: nothing lost, every duplicate explained, order kept."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple, Self

from tests.faults.pulse import Pulse
from tests.faults.sqs_weather import Wire
from tests.faults.sqs_worker import Item, Work

ROOT = Path(__file__).parents[2]


class Line(NamedTuple):
    """What a worker said. `copy`: the MessageId. `at`: Unix time."""

    event: str
    n: int
    copy: str
    attempt: int
    at: float
    worker: Worker


@dataclass(eq=False)
class Worker:
    """A process that consumes. `broken`: it was killed or frozen, so that what it held is handled again."""

    process: asyncio.subprocess.Process
    broken: bool = False

    def kill(self) -> None:
        self.broken = True
        self.process.kill()

    def freeze(self) -> None:
        self.broken = True
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)


class Ledger:
    """Starts workers and keeps what they say. Leaving it kills those that are left."""

    def __init__(self, environment: Mapping[str, str], lease: float) -> None:
        self.lines: list[Line] = []
        self.of: defaultdict[int, list[Line]] = defaultdict(list)
        self.done: set[int] = set()
        self.workers: list[Worker] = []
        self.pulse = Pulse(lease)
        self._environment = {**os.environ, **environment}
        self._changed = asyncio.Condition()
        self._readers: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._beating = asyncio.create_task(self.pulse.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._beating.cancel()
        for worker in self.workers:
            if worker.process.returncode is None:
                worker.process.kill()
        await asyncio.gather(*self._readers)

    async def start(self, work: Work) -> Worker:
        """A worker that consumes already."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.faults.sqs_worker", json.dumps(asdict(work))),
            cwd=ROOT,
            env=self._environment,
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        worker = Worker(process)
        self.workers.append(worker)
        assert await process.stdout.readline() == b"ready\n"
        self._readers.append(asyncio.create_task(self._read(worker, process.stdout)))
        return worker

    async def stop(self) -> None:
        """Each ends softly, with exit code 0."""
        running = [worker for worker in self.workers if worker.process.returncode is None]
        for worker in running:
            worker.process.terminate()
        assert [await worker.process.wait() for worker in running] == [0] * len(running)
        await asyncio.gather(*self._readers)

    async def until(self, enough: Callable[[], bool]) -> None:
        """Until the lines so far are enough."""
        async with self._changed:
            await self._changed.wait_for(enough)

    async def holder(self, n: int) -> Worker:
        """Who has begun item n, when somebody has."""
        await self.until(lambda: bool(self.of[n]))
        return self.of[n][-1].worker

    async def _read(self, worker: Worker, stdout: asyncio.StreamReader) -> None:
        while chunk := await stdout.read(1 << 16):
            if not chunk.endswith(b"\n"):
                chunk += await _rest(stdout)
            for text in chunk.decode().splitlines():
                event, n, copy, attempt, at = text.split()
                if event == "late":
                    self.pulse.late(float(at), float(copy))
                    continue
                line = Line(event, int(n), copy, int(attempt), float(at), worker)
                self.lines.append(line)
                self.of[line.n].append(line)
                if event == "end":
                    self.done.add(line.n)
            async with self._changed:
                self._changed.notify_all()

    # -- the judgement

    def unexplained(self, wire: Wire) -> list[str]:
        """Items that were handled to the end more often than what happened explains."""
        return [said for n in self.of for said in self._unexplained(n, wire)]

    def _unexplained(self, n: int, wire: Wire) -> Iterable[str]:
        ends = [line for line in self.of[n] if line.event == "end"]
        copies = {line.copy for line in ends}
        if len(copies) > 1 and n not in wire.unsure:
            yield f"item {n} was sent as {copies}, and no answer to a send of it was lost"
        for copy in copies:
            sound = [line for line in ends if line.copy == copy and not line.worker.broken]
            if len(sound) > 1 and not self.was_late(n):
                yield f"item {n} was handled {len(sound)} times by workers that were not broken"

    def was_late(self, n: int) -> bool:
        """Whether a process was too slow to keep leases while the item was in hand."""
        return self.pulse.missed(self.of[n][0].at, self.of[n][-1].at)

    def disorder(self, items: Iterable[Item]) -> list[str]:
        """Where a key's order was broken: an item begun before the one before it had its end.

        A repetition after a kill is no disorder: only the first begin of each item counts, and its first conclusion.
        """
        by_key: defaultdict[str, list[Item]] = defaultdict(list)
        for item in items:
            by_key[item.key].append(item)
        found = []
        for members in by_key.values():
            for before, after in itertools.pairwise(members):
                if self._begun(after.n) < self._concluded(before):
                    found.append(f"key {before.key}: item {after.n} began before {before.n} was done")
        return found

    def _begun(self, n: int) -> float:
        return next(line.at for line in self.of[n] if line.event == "begin")

    def _concluded(self, item: Item) -> float:
        """When it was first done; a poison one with its last attempt."""
        if not item.poison:
            return next(line.at for line in self.of[item.n] if line.event == "end")
        last = max(line.attempt for line in self.of[item.n])
        return next(line.at for line in self.of[item.n] if line.event == "fail" and line.attempt == last)


async def _rest(stdout: asyncio.StreamReader) -> bytes:
    try:
        return await stdout.readuntil(b"\n")
    except asyncio.IncompleteReadError as error:  # killed in mid-line: a line is one write, so there is none
        return error.partial
