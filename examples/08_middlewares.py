"""Middlewares: plain functions around each handler and around each send, in the same task.

So a context variable that is set around the handler is seen by it, and by what it publishes.
"""

import asyncio
from collections.abc import Sequence
from contextvars import ContextVar

from pydantic import BaseModel

from msgbus import Bus, BusError, Delivery, Message, Outgoing, Receipt, Topic
from msgbus.handlers.middleware import Handle
from msgbus.publishing.middleware import SendNext


class Order(BaseModel):
    order_id: str


class Invoice(BaseModel):
    order_id: str


orders = Topic("orders", Order)
invoices = Topic("invoices", Invoice)
tenant: ContextVar[str] = ContextVar("tenant", default="")


async def read_tenant(delivery: Delivery, handle: Handle) -> None:
    """Around a handler. What it raises counts as an attempt; not calling `handle` skips the message."""
    tenant.set(delivery.headers.get("tenant", "nobody"))  # each message has a context of its own
    await handle(delivery)


async def write_tenant(batch: Sequence[Outgoing], send: SendNext) -> Sequence[Receipt | BusError]:
    """Around a send: a whole batch, with one result per entry."""
    for out in batch:
        out.headers["tenant"] = tenant.get()
    return await send(batch)


bus = Bus(middlewares=[read_tenant], publish_middlewares=[write_tenant])
done = asyncio.Event()


@bus.subscriber(orders, group="billing")
async def charge(order: Order) -> None:
    print(f"order {order.order_id} of {tenant.get()}")
    await bus.publish(invoices, Invoice(order_id=order.order_id))


@bus.subscriber(invoices, group="mail")
async def mail(message: Message[Invoice]) -> None:
    print(f"invoice {message.payload.order_id} of {message.headers['tenant']}")
    done.set()


async def main() -> None:
    async with bus.consuming():
        tenant.set("acme")
        await bus.publish(orders, Order(order_id="1"))
        await done.wait()


if __name__ == "__main__":
    asyncio.run(main())
