"""One run of a fault test on RabbitMQ: items in, worker processes, trouble, and what must be true in the end."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import sys
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from tests.faults.amqp_worker import DELIVERIES, Item, Work, queue_of
from tests.slowness import slowness

from msgbus import Bus, BusError, Outgoing, Receipt
from msgbus.broker import QueueSpec
from msgbus.dead import DeadLetters
from msgbus.message import Source

ROOT = Path(__file__).parents[2]
_PARTS = 40  # calls of publish_many
_BEFORE, _AFTER = (
    2.0 * slowness(),
    4.0 * slowness(),
)  # seconds around trouble in which an answer may have been under way


class Line(NamedTuple):
    """What a worker said, and at which Unix time."""

    event: str
    n: int
    attempt: int
    at: float


def new_queue() -> str:
    """A name of its own: the server is shared."""
    return f"faults-{uuid.uuid4().hex[:10]}"


def some_items(count: int, *, keys: int = 100) -> list[Item]:
    """One in 97 is poison, one in 41 fails at its first attempt."""
    return [Item(n=n, key=f"k{n % keys}", poison=n % 97 == 96, flaky=int(n % 41 == 40)) for n in range(count)]


class Run:
    """`async with Run(url, work, items) as run`: a bus that publishes, and the workers with what they say."""

    def __init__(self, url: str, work: Work, items: Sequence[Item]) -> None:
        self.work, self.items = work, items
        self._part = max(1, len(items) // _PARTS)
        self.good = {item.n for item in items if not item.poison}
        self.poison = {item.n for item in items if item.poison}
        self.of: defaultdict[int, list[Line]] = defaultdict(list)
        self.done: set[int] = set()
        self.workers: list[asyncio.subprocess.Process] = []
        self._url = url
        self.resent: dict[int, BusError] = {}
        self._troubles: list[tuple[float, float]] = []
        self._sent: list[tuple[float, float]] = []  # of each part
        self._changed = asyncio.Condition()
        self._readers: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Run:
        self.bus = Bus(self._url)
        await self.bus.__aenter__()
        broker = self.bus.link_for(self.work.queue).broker
        self._send = broker.send
        setattr(broker, "send", self._noting)  # noqa: B010 - a method
        return self

    async def _noting(self, batch: Sequence[Outgoing]) -> Sequence[Receipt | BusError]:
        """Notes what is sent again: the server may have refused, or not answered, and have it all the same."""
        results = await self._send(batch)
        for out, result in zip(batch, results, strict=True):
            if isinstance(result, BusError):
                self.resent[Item.model_validate_json(out.body).n] = result
        return results

    async def __aexit__(self, *_: object) -> None:
        for worker in self.workers:
            if worker.returncode is None:
                worker.kill()
        await asyncio.gather(*self._readers)
        await self.bus.__aexit__(None, None, None)

    async def start(self, count: int = 1) -> None:
        """Workers that consume already."""
        await asyncio.gather(*(self._start() for _ in range(count)))

    async def _start(self) -> None:
        worker = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.faults.amqp_worker", json.dumps(asdict(self.work))),
            cwd=ROOT,
            env={**os.environ, "MSGBUS_URL": self._url},
            stdout=asyncio.subprocess.PIPE,
        )
        assert worker.stdout is not None
        self.workers.append(worker)
        assert await worker.stdout.readline() == b"ready\n"
        self._readers.append(asyncio.create_task(self._read(worker.stdout)))

    async def _read(self, stdout: asyncio.StreamReader) -> None:
        rest = b""
        while chunk := await stdout.read(1 << 16):
            *whole, rest = (rest + chunk).split(b"\n")
            for text in whole:
                event, n, attempt, at = text.decode().split()
                line = Line(event, int(n), int(attempt), float(at))
                self.of[line.n].append(line)
                if event == "end":
                    self.done.add(line.n)
            async with self._changed:
                self._changed.notify_all()

    async def publish(self, ahead: float = 0.2, until: float = 1.0) -> None:
        """In parts, each confirmed whatever happens, at most that share ahead of what was handled.

        `until`: up to that share of the items; another call goes on from there.
        """
        for start in range(len(self._sent) * self._part, int(until * len(self.items)), self._part):
            await self.handled(start / len(self.items) - ahead)
            began = time.time()
            await self.bus.publish_many(queue_of(self.work), self.items[start : start + self._part], timeout=100)
            self._sent.append((began, time.time()))

    async def declare(self) -> None:
        """The queue, as the workers declare it, before there is one."""
        admin = self.bus.link_for(self.work.queue).broker.admin
        await admin.ensure(
            [QueueSpec(Source("queue", self.work.queue, ordered=self.work.ordered), DELIVERIES)], "create"
        )

    async def handled(self, share: float = 1.0) -> None:
        """Until that share of the good items was handled."""
        enough = share * len(self.good)
        async with self._changed:
            await self._changed.wait_for(lambda: len(self.done) >= enough)

    @contextmanager
    def trouble(self) -> Iterator[None]:
        """What happens inside explains duplicates of what was under way then."""
        began = time.time()
        yield
        self._troubles.append((began - _BEFORE, time.time() + _AFTER))

    async def kill(self, worker: int) -> None:
        """-9, with what it has in hand."""
        with self.trouble():
            self.workers[worker].kill()
            await self.workers[worker].wait()

    # -- the judgement

    async def judge(self) -> None:
        """Nothing lost, exactly the poison is dead, every duplicate explained."""
        await self.handled()
        async with Bus(self._url) as bus:  # the connection of the one that published may be cut
            dead = await self._settled(bus)
        running = [worker for worker in self.workers if worker.returncode is None]
        for worker in running:
            worker.terminate()
        assert [await worker.wait() for worker in running] == [0] * len(running)
        await asyncio.gather(*self._readers)
        assert self.done == self.good, f"lost: {self.good - self.done}"
        assert set(dead) == self.poison, f"dead, but not poison: {set(dead) - self.poison}"
        assert self._troubles or len(dead) == len(self.poison)
        assert not self.unexplained(), "\n".join(self.unexplained())

    async def _settled(self, bus: Bus) -> list[int]:
        """Until nothing waits but dead letters, and all of those are there; these."""
        admin = bus.link_for(self.work.queue).broker.admin
        source = Source("queue", self.work.queue, ordered=self.work.ordered)
        while True:
            backlog = await admin.backlog(source)
            letters = await DeadLetters(bus, queue_of(self.work)).peek(10_000)
            dead = [Item.model_validate_json(letter.body).n for letter in letters]
            if backlog is not None and not backlog.depth and self.poison <= set(dead):
                return dead
            await asyncio.sleep(0.3)  # others settle: there is nothing to await

    def unexplained(self) -> list[str]:
        """Items that were handled to the end more than once, though nothing of theirs was under way in trouble."""
        found = []
        for n in self.good:
            ends = [line.at for line in self.of[n] if line.event == "end"]
            if (
                len(ends) > 1
                and n not in self.resent
                and not (self._troubled(ends[0], ends[0]) or self._troubled(*self._sent[n // self._part]))
            ):
                story = [(line.event, line.attempt, line.at) for line in self.of[n]]
                sent = self._sent[n // self._part]
                found.append(f"item {n}, sent {sent}: {story}; trouble was {self._troubles}")
        return found

    def _troubled(self, began: float, ended: float) -> bool:
        return any(began <= last and ended >= first for first, last in self._troubles)

    def duplicates(self) -> int:
        """Items that were handled to the end more than once, though they were sent once."""
        ends = {n: sum(line.event == "end" for line in self.of[n]) for n in self.good - self.resent.keys()}
        return sum(count > 1 for count in ends.values())

    def disorder(self) -> list[str]:
        """Where an item of a key began before the one before it was done. Repetitions are none."""
        by_key: defaultdict[str, list[Item]] = defaultdict(list)
        for item in self.items:
            by_key[item.key].append(item)
        return [
            f"key {before.key}: item {after.n} began before {before.n} was done"
            for members in by_key.values()
            for before, after in itertools.pairwise(members)
            if self._first(after.n, lambda line: line.event == "begin") < self._concluded(before)
        ]

    def _first(self, n: int, fits: Callable[[Line], bool]) -> float:
        return next(line.at for line in self.of[n] if fits(line))

    def _concluded(self, item: Item) -> float:
        """When it was first done; a poison one with its third attempt."""
        if item.poison:
            return self._first(item.n, lambda line: line.event == "fail" and line.attempt == 3)
        return self._first(item.n, lambda line: line.event == "end")
