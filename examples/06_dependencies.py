"""What a handler needs beside the message: `Annotated[X, Depends(f)]`, resolved for each message.

A dependency may have dependencies of its own, and one that yields is finished after the handler. What is opened once,
for all messages, the lifespan yields.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from pydantic import BaseModel

from msgbus import Bus, Depends, Topic, from_lifespan


class Order(BaseModel):
    order_id: str


class Database:
    def __init__(self, name: str) -> None:
        self.name = name


class Session:
    def __init__(self, database: Database) -> None:
        self.database = database

    async def save(self, what: str) -> None:
        print(f"  saved {what} in {self.database.name}")


@asynccontextmanager
async def lifespan(bus: Bus) -> AsyncIterator[Database]:
    yield Database("production")  # opened here, and closed after this line


async def session(opened: Annotated[Database, Depends(from_lifespan(Database))]) -> AsyncIterator[Session]:
    print("  session begins")
    yield Session(opened)
    print("  session ends")
    done.set()


orders = Topic("orders", Order)
bus = Bus(lifespan=lifespan)
done = asyncio.Event()


@bus.subscriber(orders, group="billing")
async def charge(order: Order, session: Annotated[Session, Depends(session)]) -> None:
    await session.save(f"order {order.order_id}")


async def main() -> None:
    async with bus.consuming():
        print("as declared:")
        await bus.publish(orders, Order(order_id="1"))
        await done.wait()
        done.clear()

    bus.dependencies.override(from_lifespan(Database), lambda: Database("a test database"))  # what tests do
    async with bus.consuming():
        print("overridden:")
        await bus.publish(orders, Order(order_id="2"))
        await done.wait()


if __name__ == "__main__":
    asyncio.run(main())
