"""Commits orders until it is killed: a row lock per key, so that the order of commits is that of the numbers.

    python -m tests.chaos.writer SEED

One in ten transactions is rolled back. A database that is away is waited for.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys

import asyncpg
from tests.chaos.service import KEYS, Order, bus, orders

from msgbus.outbox import Outbox

_NEXT = "INSERT INTO counters VALUES ($1, 1) ON CONFLICT (key) DO UPDATE SET n = counters.n + 1 RETURNING n"
_TROUBLE = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, TimeoutError)


class _RollBackError(Exception):
    """One in ten."""


async def _order(connection: asyncpg.Connection, outbox: Outbox, draw: random.Random) -> None:
    key = f"k{draw.randrange(KEYS)}"
    async with connection.transaction():
        n = await connection.fetchval(_NEXT, key)
        await connection.execute("INSERT INTO orders VALUES ($1, $2)", key, n)
        await outbox.publish(connection, orders, Order(key=key, n=n))
        await asyncio.sleep(draw.random() * 0.004)
        if draw.random() < 0.1:
            raise _RollBackError


async def main(seed: str) -> None:
    """For ever."""
    outbox, draw = Outbox(bus), random.Random(seed)
    while True:
        try:
            connection = await asyncpg.connect(os.environ["DATABASE_URL"], timeout=10)
            while True:
                try:
                    await _order(connection, outbox, draw)
                except _RollBackError:
                    continue
        except _TROUBLE:
            await asyncio.sleep(0.1)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
