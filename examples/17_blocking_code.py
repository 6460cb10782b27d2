"""Handlers that call what blocks (a driver, a file, a long calculation): `def` instead of `async def`.

They run in threads, as many at once as `Limits(concurrency=)` says, and the loop goes on meanwhile.
"""

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

from pydantic import BaseModel

from msgbus import Bus, Depends, Limits, Rpc, Topic, from_thread


class Order(BaseModel):
    order_id: str
    cents: int


class Total(BaseModel):
    of: str


folder = TemporaryDirectory()
orders = Topic("orders", Order)
written = Topic("written", str)
totals = Rpc("totals", Total, int)
bus = Bus()
bus.publishes(orders, written)
seen: asyncio.Queue[str] = asyncio.Queue()


def database() -> Iterator[sqlite3.Connection]:
    """A dependency may be a plain function too; it runs in a thread, not always the handler's."""
    path = Path(folder.name) / "orders.db"
    with closing(sqlite3.connect(path, check_same_thread=False, timeout=30.0)) as connection, connection:
        connection.execute("CREATE TABLE IF NOT EXISTS orders (id TEXT PRIMARY KEY, cents INTEGER)")
        yield connection


Database = Annotated[sqlite3.Connection, Depends(database)]


@bus.subscriber(orders, group="ledger", limits=Limits(concurrency=2))
def write(order: Order, db: Database) -> None:
    db.execute("INSERT OR REPLACE INTO orders VALUES (?, ?)", (order.order_id, order.cents))
    db.commit()
    from_thread(bus.publish(written, order.order_id))  # in an `async def` it would be `await bus.publish(...)`


@bus.responder(totals)
def total(request: Total, db: Database) -> int:
    (cents,) = db.execute("SELECT sum(cents) FROM orders").fetchone()
    return int(cents or 0)


@bus.subscriber(written, group="desk")
async def note(order_id: str) -> None:
    seen.put_nowait(order_id)


async def main() -> None:
    async with bus.consuming():
        await bus.publish_many(orders, [Order(order_id=str(number), cents=100 * number) for number in (1, 2, 3)])
        print("written:", sorted([await seen.get() for _ in range(3)]))
        print("total:", await bus.request(totals, Total(of="all")))
    folder.cleanup()


if __name__ == "__main__":
    asyncio.run(main())
