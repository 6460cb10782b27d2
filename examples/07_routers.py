"""Handlers in modules of their own, put together into one bus, with a lifespan around them.

A router publishes through the bus that it is in, and may have middlewares for its handlers alone.

Each part below would be a module; examples/shop is the same as a package.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pydantic import BaseModel

from msgbus import Bus, Delivery, Handle, Router, Rpc, Topic

# -- topics.py: what the modules share


class Order(BaseModel):
    order_id: str


class StockRequest(BaseModel):
    sku: str


orders = Topic("orders", Order)
packed = Topic("packed", str)
stock = Rpc("stock", StockRequest, int)

# -- billing.py


async def audited(delivery: Delivery, handle: Handle) -> None:
    await handle(delivery)
    print(f"audit: {delivery.source.name} is billed")


billing = Router(middlewares=[audited])  # around all its handlers; `.around(...)` is for one of them


@billing.subscriber(packed, group="billing")
async def charge(order_id: str) -> None:
    print(f"billing: order {order_id}")
    handled.put_nowait(order_id)


# -- warehouse.py

warehouse = Router()
on_stock: dict[str, int] = {}


@warehouse.subscriber(orders, group="warehouse")
async def pack(order: Order) -> None:
    print(f"warehouse: order {order.order_id}")
    await warehouse.publish(packed, order.order_id)  # the bus is not known here


@warehouse.responder(stock)
async def pieces(request: StockRequest) -> int:
    return on_stock.get(request.sku, 0)


# -- app.py: `msgbus run app:bus` would run it


@asynccontextmanager
async def lifespan(bus: Bus) -> AsyncIterator[None]:
    """Around the handlers' life; the bus is connected already, and still is at the end."""
    on_stock.update(tea=12)
    print("open for business")
    yield
    print("closed")


bus = Bus(lifespan=lifespan)
bus.include(billing, warehouse)
handled: asyncio.Queue[str] = asyncio.Queue()


async def main() -> None:
    async with bus.consuming():
        tea = await bus.request(stock, StockRequest(sku="tea"))
        print(f"tea on stock: {tea}")
        await bus.publish(orders, Order(order_id="1"))
        await handled.get()


if __name__ == "__main__":
    asyncio.run(main())
