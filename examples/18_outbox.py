"""An order and the message that tells of it, in one transaction: both or neither. A relay sends what was committed.

pip install 'msgbus[sql]' aiosqlite
"""

import asyncio
import tempfile

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from msgbus import Bus, Topic
from msgbus.outbox import Outbox, Relay
from msgbus.outbox.sql import SqlStore

placed = Topic("orders-placed", str)
bus = Bus()
bus.publishes(placed)  # writers and relays must know it
outbox = Outbox(bus)
billed = asyncio.Event()


@bus.subscriber(placed, group="billing")
async def bill(order: str) -> None:
    print(f"billed {order}")
    billed.set()


async def place(session: AsyncSession, order: str) -> None:
    await session.execute(text("INSERT INTO orders VALUES (:id)"), {"id": order})
    await outbox.publish(session, placed, order)  # behind the write that it tells of


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite+aiosqlite:///{folder}/shop.db"
        store, engine = SqlStore(url), create_async_engine(url)
        await store.create()  # or by a migration: msgbus outbox schema --alembic
        async with AsyncSession(engine) as session:
            await session.execute(text("CREATE TABLE orders (id TEXT)"))
            await place(session, "order 1")
            await session.commit()
            await place(session, "order 2")
            await session.rollback()  # nobody ever hears of it
        print(f"waiting: {(await store.status()).waiting}")
        async with bus.consuming(), Relay(bus, store).running():
            await billed.wait()
        print(f"waiting: {(await store.status()).waiting}")
        await store.close()
        await engine.dispose()


asyncio.run(main())
