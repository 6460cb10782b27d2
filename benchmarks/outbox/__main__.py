"""Writing on asyncpg, relaying on PostgreSQL and SQLite. The ratios hold elsewhere, the rates don't."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import asyncpg
from tests.outbox.databases import Database, empty_postgres, empty_sqlite, run, with_tables
from tests.servers import server

from benchmarks.outbox.twins import drain_postgres, drain_sqlite, fill
from msgbus import Bus, Topic
from msgbus.outbox import Outbox, Relay
from msgbus.outbox.sql import SqlStore

ROWS = 20_000
TRANSACTIONS = 1_000
ROUNDS = 3


@dataclass
class Order:
    """A payload of about 100 bytes."""

    id: str
    note: str = "x" * 80


orders = Topic("orders", Order, key="id")
bus = Bus("memory://")
bus.publishes(orders)
outbox = Outbox(bus)


async def transactions(connection: asyncpg.Connection, publish: Callable[[], Awaitable[object]] | None) -> float:
    """A second's transactions of one business row each."""
    began = time.perf_counter()
    for _ in range(TRANSACTIONS):
        async with connection.transaction():
            await connection.execute("INSERT INTO business VALUES ($1)", "x" * 100)
            if publish is not None:
                await publish()
    return TRANSACTIONS / (time.perf_counter() - began)


async def relay(database: Database) -> float:
    """Rows a second through a relay into the embedded broker."""
    store = SqlStore(database.url)
    async with bus:
        runs = Relay(bus, store, batch=1000)
        task = asyncio.create_task(runs.run())
        while not runs.sent:  # noqa: ASYNC110 - connecting and taking the partitions is not measured
            await asyncio.sleep(0)
        began, first = time.perf_counter(), runs.sent
        while runs.sent < ROWS:  # noqa: ASYNC110
            await asyncio.sleep(0.002)
        rate = (ROWS - first) / (time.perf_counter() - began)
        runs.stop()
        await task
    await store.close()
    return rate


async def compare(name: str, twin: Callable[[], Awaitable[float]], ours: Callable[[], Awaitable[float]]) -> None:
    """Both in turn, so that what else the machine does hits both; medians."""
    pairs = [(await twin(), await ours()) for _ in range(ROUNDS)]
    raw, own = (statistics.median(each) for each in zip(*pairs, strict=True))
    print(f"{name:<44} raw {raw:>9,.0f}/s   msgbus {own:>9,.0f}/s   {own / raw:.2f}")


async def on_postgres(url: str) -> None:
    """Writing, and relaying."""
    database = await with_tables(await empty_postgres(url))
    connection = await asyncpg.connect(database.plain)
    await compare(
        "asyncpg: transaction, with 1 message",
        lambda: transactions(connection, None),
        lambda: transactions(connection, lambda: outbox.publish(connection, orders, Order("k"))),
    )
    await connection.close()

    async def ours() -> float:
        await fill(database, ROWS)
        return await relay(database)

    await compare("PostgreSQL: relay, batches of 1,000", lambda: drain_postgres(database, ROWS), ours)


async def on_sqlite(folder: Path) -> None:
    """Relaying."""
    database = await with_tables(empty_sqlite(folder))
    await run(database, "PRAGMA journal_mode = WAL")

    async def ours() -> float:
        await fill(database, ROWS)
        return await relay(database)

    await compare("SQLite: relay, batches of 1,000", lambda: drain_sqlite(database, ROWS), ours)


def main() -> None:
    """All of it, in about half a minute."""
    with server("postgres") as handle:
        asyncio.run(on_postgres(handle.url))
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(on_sqlite(Path(folder)))


if __name__ == "__main__":
    main()
