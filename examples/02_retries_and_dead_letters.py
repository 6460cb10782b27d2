"""What happens when a handler raises: retries with back-off, then the dead letters, then a redrive."""

import asyncio
import logging

from pydantic import BaseModel

from msgbus import Bus, Delivery, Message, Reject, Retry, Topic
from msgbus.dead import DeadLetters


class Order(BaseModel):
    order_id: str
    country: str


orders = Topic("orders", Order)
bus = Bus()
rates = {"DE": 5, "FR": 7}
handled: asyncio.Queue[str] = asyncio.Queue()
died: asyncio.Queue[str] = asyncio.Queue()


async def on_dead(delivery: Delivery, error: Exception) -> None:
    """Told of every message that was dead-lettered: the place for an alert."""
    died.put_nowait(str(error))


# Short delays for the example. The defaults are 5 attempts, after 1, 2, 4 and 8 seconds.
@bus.subscriber(orders, group="shipping", retry=Retry(attempts=3, first_delay=0.02, on_dead=on_dead))
async def ship(message: Message[Order]) -> None:
    order = message.payload
    if order.order_id == "flaky" and message.attempt < 3:
        print(f"{order.order_id}: attempt {message.attempt} fails")
        raise ConnectionError("the carrier does not answer")
    if order.country not in rates:
        raise Reject(f"no rate for {order.country}")  # another attempt can't help: dead at once
    print(f"{order.order_id}: shipped for {rates[order.country]} at attempt {message.attempt}")
    handled.put_nowait(order.order_id)


async def main() -> None:
    async with bus.consuming():
        await bus.publish(orders, Order(order_id="flaky", country="DE"))
        await bus.publish(orders, Order(order_id="poison", country="IS"))
        await handled.get()
        print(f"dead: {await died.get()}")

        letters = DeadLetters(bus, orders, "shipping", wait=0)
        for letter in await letters.peek():
            print(f"dead letter of {letter.origin}: {letter.error_type}, {letter.reason}, body {letter.body.decode()}")

        rates["IS"] = 19  # the bug is fixed
        result = await letters.redrive()
        print(f"redriven: {result.moved}")
        await handled.get()
        print(f"dead letters left: {await letters.count()}")


if __name__ == "__main__":
    logging.getLogger("msgbus").setLevel(logging.CRITICAL)  # each failure is logged; here they are on purpose
    asyncio.run(main())
