"""Handlers in modules of their own, put together into one bus, with a lifespan around them.

Each part below would be a module; examples/shop is the same as a package.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pydantic import BaseModel

from msgbus import Bus, Router, Rpc, Topic

# -- topics.py: what the modules share


class Order(BaseModel):
    order_id: str


class StockRequest(BaseModel):
    sku: str


orders = Topic("orders", Order)
stock = Rpc("stock", StockRequest, int)

# -- billing.py

billing = Router()


@billing.subscriber(orders, group="billing")
async def charge(order: Order) -> None:
    print(f"billing: order {order.order_id}")
    handled.put_nowait(order.order_id)


# -- warehouse.py

warehouse = Router()
on_stock: dict[str, int] = {}


@warehouse.subscriber(orders, group="warehouse")
async def pack(order: Order) -> None:
    print(f"warehouse: order {order.order_id}")
    handled.put_nowait(order.order_id)


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
        await handled.get()


if __name__ == "__main__":
    asyncio.run(main())
