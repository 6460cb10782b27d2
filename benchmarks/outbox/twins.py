"""The same work by hand: fetch a batch in order, do nothing with it, delete it."""

from __future__ import annotations

import sqlite3
import time

import asyncpg
from tests.outbox.databases import Database, run

from msgbus.outbox.rows import PARTS

_BATCH = 1000
_COLUMNS = "part, id, kind, name, key, headers, body, dedup_id, expires_at, created"
_HEADERS = (
    '{"ce-specversion"\\: "1.0", "ce-type"\\: "Order", "ce-source"\\: "bench", "content-type"\\: "application/json"}'
)


async def fill(database: Database, count: int) -> None:
    """An empty table with so many rows of 1,000 keys over all partitions."""
    numbers = (
        f"generate_series(1, {count}) AS g(n)"
        if database.dialect == "postgresql"
        else f"(WITH RECURSIVE g(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM g WHERE n < {count}) SELECT n FROM g)"  # noqa: S608
    )
    text = "x" * 100
    body = f"convert_to('{text}', 'UTF8')" if database.dialect == "postgresql" else f"CAST('{text}' AS blob)"
    await run(
        database,
        "DELETE FROM msgbus_outbox",
        f"INSERT INTO msgbus_outbox ({_COLUMNS}) SELECT n % {PARTS}, CAST(n AS text), 'topic', 'orders',"  # noqa: S608
        f" CAST(n % 1000 AS text), '{_HEADERS}', {body}, NULL, NULL, 1 FROM {numbers}",
    )


async def drain_postgres(database: Database, count: int) -> float:
    """Rows a second on asyncpg."""
    await fill(database, count)
    connection = await asyncpg.connect(database.plain)
    began = time.perf_counter()
    while rows := await connection.fetch(
        f"SELECT seq, {_COLUMNS} FROM msgbus_outbox ORDER BY part, seq LIMIT {_BATCH}"  # noqa: S608
    ):
        await connection.execute(
            "DELETE FROM msgbus_outbox o USING unnest($1::smallint[], $2::bigint[]) AS d(part, seq)"
            " WHERE o.part = d.part AND o.seq = d.seq",
            [row["part"] for row in rows],
            [row["seq"] for row in rows],
        )
    rate = count / (time.perf_counter() - began)
    await connection.close()
    return rate


async def drain_sqlite(database: Database, count: int) -> float:
    """Rows a second on sqlite3, in this thread."""
    await fill(database, count)
    connection = sqlite3.connect(database.plain)
    began = time.perf_counter()
    while rows := connection.execute(
        f"SELECT seq, {_COLUMNS} FROM msgbus_outbox ORDER BY seq LIMIT {_BATCH}"  # noqa: S608
    ).fetchall():
        with connection:
            connection.executemany("DELETE FROM msgbus_outbox WHERE seq = ?", [row[:1] for row in rows])
    rate = count / (time.perf_counter() - began)
    connection.close()
    return rate
