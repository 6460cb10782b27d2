"""A topic with a subscriber and a call with a responder, in one process on the embedded broker."""

import asyncio
from decimal import Decimal

from pydantic import BaseModel

from msgbus import Bus, Retry, Rpc, Topic


class OrderPlaced(BaseModel):
    order_id: str
    customer_id: str
    total: Decimal


class QuoteRequest(BaseModel):
    sku: str


class Quote(BaseModel):
    sku: str
    price: Decimal


orders = Topic("orders", OrderPlaced, key="customer_id")  # publish/subscribe
quotes = Rpc("quotes", QuoteRequest, Quote)  # request/reply

bus = Bus()  # MSGBUS_URL decides the broker; memory:// if unset
charged = asyncio.Event()


@bus.subscriber(orders, group="billing", retry=Retry(attempts=5, first_delay=1.0))
async def charge(order: OrderPlaced) -> None:
    print(f"charged {order.customer_id} {order.total} for order {order.order_id}")
    charged.set()


@bus.responder(quotes)
async def quote(request: QuoteRequest) -> Quote:
    return Quote(sku=request.sku, price=Decimal("4.50"))


async def main() -> None:
    async with bus.consuming():
        await bus.publish(orders, OrderPlaced(order_id="1", customer_id="c", total=Decimal("9.90")))
        answer = await bus.request(quotes, QuoteRequest(sku="a"), timeout=2.0)  # a Quote: the type checker knows
        print(f"{answer.sku} costs {answer.price}")
        await charged.wait()  # leaving the block stops the handlers; what they have not begun stays in the broker


if __name__ == "__main__":
    asyncio.run(main())
