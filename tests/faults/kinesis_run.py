"""One run of a fault test on Kinesis: records in, workers at work, and what must be true in the end."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import re
import sys
import uuid
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import NamedTuple

from tests.faults.http import Call, FaultyHttp, answer, passed
from tests.faults.kinesis_worker import Item, Work, topic_of
from tests.faults.ledger import ROOT
from tests.slowness import slowness

from msgbus import Bus
from msgbus.brokers.kinesis import KinesisBroker
from msgbus.brokers.kinesis.rows import SHARD_END
from msgbus.dead import DeadLetters
from msgbus.message import Source

LEASE = 2.0 * slowness()


def new_topic() -> str:
    """A name of its own: the server is shared."""
    return f"faults-{uuid.uuid4().hex[:10]}"


async def eventually(condition: Callable[[], Awaitable[bool]], pause: float = 0.1) -> None:
    """Until a server says so."""
    while not await condition():  # noqa: ASYNC110 - nothing tells
        await asyncio.sleep(pause)


def some_items(count: int, *, keys: int = 100, poison: int = 0, flaky: int = 53) -> list[Item]:
    """Every so many fails at its first attempt, or always."""
    return [
        Item(
            n=n,
            key=f"k{n % keys}",
            flaky=int(n % flaky == flaky - 1),
            poison=bool(poison) and n % poison == poison - 1,
        )
        for n in range(count)
    ]


class Line(NamedTuple):
    """What a worker said. `at`: on the machine's monotonic clock, which all processes share."""

    event: str
    n: int
    sequence: str
    attempt: int
    at: float
    worker: Worker


@dataclass(eq=False)
class Worker:
    """A process that consumes. `broken`: it was killed or frozen, so that what it held is handled again."""

    process: asyncio.subprocess.Process
    broken: bool = False


@dataclass(frozen=True, slots=True)
class Write:
    """One successful write of a lease. `checkpoint`: None where it says where to begin."""

    shard: str
    owner: str
    checkpoint: tuple[int, int] | None
    is_end: bool


@dataclass
class Books:
    """A `Meet` that writes down what happens to leases, and throttles DynamoDB where a test says so."""

    writes: list[Write] = field(default_factory=list)
    throttled: int = 0
    throttle: bool = False

    async def __call__(self, call: Call) -> bytes | None:
        if call.operation in ("UpdateItem", "Scan", "GetItem") and self.throttle:
            self.throttled += 1
            text = {"__type": "com.amazonaws.dynamodb#ProvisionedThroughputExceededException", "message": "by the test"}
            return answer(400, json.dumps(text).encode())
        if call.operation != "UpdateItem":
            return await passed(call)
        params = call.params
        status, body = await call.forward()
        if status == 200:
            self._note(params)
        return answer(status, body)

    def _note(self, params: dict[str, object]) -> None:
        values = params["ExpressionAttributeValues"]
        assert isinstance(values, dict)
        text = values[":checkpoint"]["S"]
        sub = int(values[":checkpointSubSequenceNumber"]["N"])
        key = params["Key"]
        assert isinstance(key, dict)
        position = (int(text), sub) if re.fullmatch(r"\d+", text) else None
        owner = values.get(":leaseOwner", {}).get("S", "")
        self.writes.append(Write(key["leaseKey"]["S"], owner, position, text == SHARD_END))

    def went_back(self) -> list[str]:
        """Checkpoints that are before an earlier one of their shard."""
        latest: dict[str, tuple[int, int]] = {}
        ended: set[str] = set()
        found = []
        for write in self.writes:
            if write.shard in ended:
                found.append(f"{write.shard} was written after its end")
            if write.is_end:
                ended.add(write.shard)
            elif write.checkpoint is not None:
                if write.checkpoint < latest.get(write.shard, (0, 0)):
                    found.append(f"{write.shard} went back from {latest[write.shard]} to {write.checkpoint}")
                latest[write.shard] = write.checkpoint
        return found

    def ended(self) -> set[str]:
        """The shards that somebody finished."""
        return {write.shard for write in self.writes if write.is_end}

    def owners(self) -> dict[str, list[str]]:
        """The owners of each shard, in their order."""
        found: defaultdict[str, list[str]] = defaultdict(list)
        for write in self.writes:
            if write.owner and (not found[write.shard] or found[write.shard][-1] != write.owner):
                found[write.shard].append(write.owner)
        return dict(found)


class Run:
    """`async with Run(...)`: a proxy before DynamoDB, a bus of the test, and workers."""

    def __init__(self, kinesis: str, dynamodb: str, work: Work, *, shards: int, options: str = "") -> None:
        self.work = work
        self.books = Books()
        self.lines: list[Line] = []
        self.of: defaultdict[int, list[Line]] = defaultdict(list)
        self.done: set[int] = set()
        self.workers: list[Worker] = []
        self.proxy = FaultyHttp(dynamodb, self.books)
        self._kinesis = kinesis
        self._shards = shards
        self._options = options
        self._changed = asyncio.Condition()
        self._readers: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Run:
        await self.proxy.__aenter__()
        options = f"shards={self._shards}&lease={LEASE}&poll=0.05&reads=20&rate=0&checkpoint=0.2&sync=1{self._options}"
        self.url = f"kinesis://us-east-1?{options}"  # an option that is given twice counts as the last says
        self._environment = {
            "MSGBUS_URL": self.url,
            "AWS_ENDPOINT_URL": self.proxy.url,
            "AWS_ENDPOINT_URL_KINESIS": self._kinesis,
            "MSGBUS_PROVISION": "create",
        }
        self._before = dict(os.environ)
        os.environ.update({name: value for name, value in self._environment.items() if name.startswith("AWS_")})
        self.bus = Bus(self.url)
        await self.bus.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        for worker in self.workers:
            if worker.process.returncode is None:
                worker.process.kill()
        await asyncio.gather(*self._readers)
        await self.bus.__aexit__(None, None, None)
        await self.proxy.__aexit__(*exc)
        os.environ.clear()
        os.environ.update(self._before)

    @property
    def source(self) -> Source:
        return Source("topic", self.work.topic, "g", ordered=True)

    @property
    def broker(self) -> KinesisBroker:
        broker = self.bus.link_for(self.work.topic).broker
        assert isinstance(broker, KinesisBroker)
        return broker

    async def start(self, count: int = 1, **changes: float) -> list[Worker]:
        """Workers that consume already."""
        return list(await asyncio.gather(*(self._start(**changes) for _ in range(count))))

    async def _start(self, **changes: float) -> Worker:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.faults.kinesis_worker", json.dumps({**asdict(self.work), **changes})),
            cwd=ROOT,
            env={**os.environ, **self._environment},
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        worker = Worker(process)
        self.workers.append(worker)
        assert await process.stdout.readline() == b"ready\n"
        self._readers.append(asyncio.create_task(self._read(worker, process.stdout)))
        return worker

    async def _read(self, worker: Worker, stdout: asyncio.StreamReader) -> None:
        while text := await stdout.readline():
            event, n, sequence, attempt, at = text.split()
            if event == b"lease":  # it changed hands: what was settled since its last write is handled again
                worker.broken = True
                continue
            line = Line(event.decode(), int(n), sequence.decode(), int(attempt), float(at), worker)
            self.lines.append(line)
            self.of[line.n].append(line)
            if line.event == "end":
                self.done.add(line.n)
            async with self._changed:
                self._changed.notify_all()

    async def publish(self, items: Sequence[Item], part: int = 500) -> None:
        """In their order; each is confirmed."""
        for start in range(0, len(items), part):
            await self.bus.publish_many(topic_of(self.work), items[start : start + part], timeout=100)

    async def until(self, enough: Callable[[], bool]) -> None:
        async with self._changed:
            await self._changed.wait_for(enough)

    async def handled(self, count: int) -> None:
        """Until so many different items were handled."""
        await self.until(lambda: len(self.done) >= count)

    async def stop(self) -> None:
        """Each ends softly, with exit code 0."""
        running = [worker for worker in self.workers if worker.process.returncode is None]
        for worker in running:
            worker.process.terminate()
        assert [await worker.process.wait() for worker in running] == [0] * len(running)
        await asyncio.gather(*self._readers)

    async def dead(self) -> list[int]:
        """The items among the dead letters."""
        letters = await DeadLetters(self.bus, topic_of(self.work), group="g").peek(10_000)
        return sorted(Item.model_validate_json(letter.body).n for letter in letters)

    async def drained(self) -> bool:
        """Whether everything is behind the checkpoints."""
        return await self.waiting() == 0

    async def waiting(self) -> int:
        """Records beyond the checkpoints."""
        return sum(lag.waiting for lag in await self.broker.admin.lag(self.source))

    def judge(self, items: Sequence[Item]) -> None:
        """Nothing lost, order kept per key, checkpoints never went back, duplicates only of broken workers."""
        assert self.done == {item.n for item in items if not item.poison}
        assert self.books.went_back() == []
        assert self.disorder(items) == []
        assert self.unexplained() == []

    def unexplained(self) -> list[str]:
        """Items that were handled to the end twice though no worker was broken, or its record was sent twice."""
        found = []
        for n, lines in self.of.items():
            ends = [line for line in lines if line.event == "end"]
            if len({line.sequence for line in ends}) > 1:
                found.append(f"item {n} has several records")
            sound = [line for line in ends if not line.worker.broken]
            if len(sound) > 1:
                found.append(f"item {n} was handled {len(sound)} times by workers that were not broken")
        return found

    def disorder(self, items: Sequence[Item]) -> list[str]:
        """Where an item was first begun before the one before it of its key had its first end."""
        by_key: defaultdict[str, list[int]] = defaultdict(list)
        for item in items:
            if not item.poison:
                by_key[item.key].append(item.n)
        found = []
        for key, numbers in by_key.items():
            for before, after in itertools.pairwise(numbers):
                if self._first(after, "begin") < self._first(before, "end"):
                    found.append(f"key {key}: {after} began before {before} was done")
        return found

    def _first(self, n: int, event: str) -> float:
        return next(line.at for line in self.of[n] if line.event == event)

    def shares(self) -> dict[str, int]:
        """How many shards each owner has that owns any now, by the last write of each."""
        owner = {write.shard: write.owner for write in self.books.writes if not write.is_end}
        ended = self.books.ended()
        counts: defaultdict[str, int] = defaultdict(int)
        for shard, name in owner.items():
            if shard not in ended and name:
                counts[name] += 1
        return dict(counts)

    def balanced(self, share: int, workers: int) -> Callable[[], Awaitable[bool]]:
        """Whether each of so many workers has so many shards."""

        async def look() -> bool:
            return sorted(self.shares().values()) == [share] * workers

        return look
