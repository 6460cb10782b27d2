"""The rig: PostgreSQL, RabbitMQ, writers and relays as processes, a consumer that watches, and what breaks them."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import signal
import sys
import tempfile
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg
from tests.amqp.crash import written
from tests.chaos.service import LEASE, TABLES, Order, orders_of
from tests.servers import Server
from tests.slowness import slowness

from msgbus import Bus, Limits
from msgbus.outbox.schema import statements

ROOT = Path(__file__).parents[2]
_RELAY = ("msgbus.cli", "outbox", "relay", "tests.chaos.service:bus", "--lease", str(LEASE), "--batch", "50")
_REST = 120.0 * slowness()  # seconds within which all must have come when nothing is broken any more


@dataclass
class Seen:
    """What the consumer saw: by key the numbers in the order in which each came first, and how often each came."""

    firsts: defaultdict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    counts: Counter[tuple[str, int]] = field(default_factory=Counter)

    def note(self, order: Order) -> None:
        """One more."""
        self.counts[order.key, order.n] += 1
        if self.counts[order.key, order.n] == 1:
            self.firsts[order.key].append(order.n)


class Rig:
    """`async with Rig.open(...) as rig`; `rig.stormy(seconds)`, then `rig.judge()`."""

    def __init__(self, postgres: Server, rabbitmq: Server, seed: int) -> None:
        self.postgres, self.rabbitmq = postgres, rabbitmq
        self.faults: Counter[str] = Counter()
        self.seen = Seen()
        self._draw = random.Random(seed)
        self._queue = f"chaos-{uuid.uuid4().hex[:8]}"
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self._environment: dict[str, str] = {}
        self._bus = Bus()
        self._database = ""
        self._folder = tempfile.TemporaryDirectory(prefix="chaos-")

    @classmethod
    @asynccontextmanager
    async def open(
        cls, postgres: Server, rabbitmq: Server, seed: int, *, relays: int = 2, writers: int = 3
    ) -> AsyncIterator[Rig]:
        """Everything runs."""
        rig = cls(postgres, rabbitmq, seed)
        await rig._prepare()
        rig._bus = bus = Bus(rabbitmq.url)

        @bus.consumer(orders_of(rig._queue), limits=Limits(prefetch=100))
        async def watch(order: Order) -> None:
            rig.seen.note(order)

        async with AsyncExitStack() as stack:
            await stack.enter_async_context(bus.consuming())
            stack.push_async_callback(rig._end)
            for n in range(relays):
                await rig._start(f"relay {n}")
            for n in range(writers):
                await rig._start(f"writer {n}")
            yield rig

    async def _prepare(self) -> None:
        name = f"chaos_{uuid.uuid4().hex[:8]}"
        connection = await asyncpg.connect(self.postgres.url)
        await connection.execute(f"CREATE DATABASE {name}")
        await connection.close()
        self._database = f"{self.postgres.url.rpartition('/')[0]}/{name}"
        connection = await asyncpg.connect(self._database)
        for statement in (*statements("postgresql"), *TABLES):
            await connection.execute(statement)
        await connection.close()
        self._environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]),
            "DATABASE_URL": self._database,
            "MSGBUS_URL": self.rabbitmq.url,
            "CHAOS_QUEUE": self._queue,
        }

    async def _start(self, name: str) -> None:
        what = _RELAY if name.startswith("relay") else ("tests.chaos.writer", f"{name} {self._draw.random()}")
        with self._said(name).open("wb") as said:
            self._processes[name] = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", *what), cwd=ROOT, env=self._environment, stdout=said, stderr=said
            )

    def _said(self, name: str) -> Path:
        return Path(self._folder.name) / name

    def _check(self) -> None:
        """Nothing ends by itself."""
        for name, process in self._processes.items():
            assert process.returncode is None, f"{name} has ended: {self._said(name).read_text()[-3000:]}"

    async def _kill(self, name: str) -> None:
        process = self._processes[name]
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGCONT)
            process.kill()
        await process.wait()

    async def _end(self) -> None:
        for name in self._processes:
            await self._kill(name)
        self._folder.cleanup()

    async def breathe(self) -> None:
        """Let the processes work for a moment."""
        await asyncio.sleep(0.05)

    # -- what may happen

    async def stormy(self, seconds: float) -> None:
        """One fault after the other, for so long."""
        end = time.monotonic() + seconds
        faults = (
            *(self._kill_one, self._kill_one, self._freeze_relay, self._freeze_relay, self._cut_database),
            *(self._restart_database, self._restart_broker),
        )
        while time.monotonic() < end:
            await asyncio.sleep(self._draw.uniform(0.2, 1.5))
            self._check()
            fault: Callable[[], Awaitable[None]] = self._draw.choice(faults)
            await fault()
            self.faults[fault.__name__.strip("_")] += 1

    async def _kill_one(self) -> None:
        name = self._draw.choice(sorted(self._processes))
        await self._kill(name)
        await self._start(name)

    async def _freeze_relay(self) -> None:
        """Past its lease, or not quite."""
        process = self._processes[self._draw.choice([name for name in sorted(self._processes) if "relay" in name])]
        process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(self._draw.uniform(0.3, 1.7) * LEASE)
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGCONT)

    async def _cut_database(self) -> None:
        connection = await asyncpg.connect(self._database)
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid() AND random() < 0.7"
        )
        await connection.close()

    async def _restart_database(self) -> None:
        self.postgres.kill()
        await self.postgres.restart_async()

    async def _restart_broker(self) -> None:
        await written(self.rabbitmq)  # a queue that it has just made may not survive
        self.rabbitmq.kill()
        await self.rabbitmq.restart_async()

    # -- and what must hold

    async def judge(self) -> str:
        """All that was committed came, nothing else, in the order of each key; a line that says how much."""
        self._check()
        for name in [each for each in self._processes if each.startswith("writer")]:
            await self._kill(name)
        committed = await self._committed()
        try:
            async with asyncio.timeout(_REST):
                while not committed <= self.seen.counts.keys() or await self._waiting():
                    await asyncio.sleep(0.2)  # others work: there is nothing to await
                    committed = await self._committed()  # one that was killed may have been committing
        except TimeoutError:
            missing = sorted(committed - self.seen.counts.keys())
            raise AssertionError(f"{len(missing)} are lost: {missing[:10]}; {await self._state()}") from None
        return self._verdict(committed)

    def _verdict(self, committed: set[tuple[str, int]]) -> str:
        extra = sorted(self.seen.counts.keys() - committed)
        assert not extra, f"{len(extra)} came that were never committed: {extra[:10]}"
        for key, numbers in self.seen.firsts.items():
            wrong = [n for n, following in itertools.pairwise(numbers) if following < n]
            assert not wrong, f"{key}: out of order behind {wrong[:10]}"
        again = sum(count - 1 for count in self.seen.counts.values())
        faults = ", ".join(f"{count} {name}" for name, count in sorted(self.faults.items())) or "no fault"
        assert self.faults or not again, f"{again} came again, and nothing was broken"
        return f"{len(committed):,} committed, 0 lost, 0 out of order, {again:,} came again; {faults}"

    async def _committed(self) -> set[tuple[str, int]]:
        connection = await asyncpg.connect(self._database)
        rows = await connection.fetch("SELECT key, n FROM orders")
        await connection.close()
        return {(row["key"], row["n"]) for row in rows}

    async def _state(self) -> str:
        connection = await asyncpg.connect(self._database)
        dead = await connection.fetch("SELECT reason, count(*) FROM msgbus_outbox_dead GROUP BY reason")
        await connection.close()
        relays = [f"{name}: {self._said(name).read_text()[-600:]}" for name in self._processes if "relay" in name]
        dead_ones = [tuple(each) for each in dead]
        return (
            f"{await self._waiting()} wait, dead {dead_ones}, health {self._bus.health()}, {self.faults}\n"
            + "\n".join(relays)
        )

    async def _waiting(self) -> int:
        connection = await asyncpg.connect(self._database)
        count: int = await connection.fetchval("SELECT count(*) FROM msgbus_outbox")
        await connection.close()
        return count
