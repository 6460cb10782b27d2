"""The same code on RabbitMQ: a topic exchange, a queue per group, and a service that knows nothing of msgbus.

Needs a server, and aio-pika for the stranger:

    pip install 'msgbus[amqp]' aio-pika
    MSGBUS_URL=amqp://guest:guest@127.0.0.1/ python examples/14_rabbitmq.py

Exchanges and queues are made at start (MSGBUS_PROVISION=create) and stay.
"""

import asyncio
import logging
import os

import aio_pika
from pydantic import BaseModel

from msgbus import Bus, Message, Retry, Topic


class OrderPlaced(BaseModel):
    order_id: str
    total: float


logging.getLogger("msgbus").setLevel(logging.ERROR)  # each failed attempt is a warning

PREFIX = os.environ.get("MSGBUS_PREFIX", "")
orders = Topic("orders", OrderPlaced)
bus = Bus()
told: asyncio.Queue[str] = asyncio.Queue()


@bus.subscriber(orders, group="billing", retry=Retry(attempts=3, first_delay=0.1, jitter=0.0))
async def charge(message: Message[OrderPlaced]) -> None:
    if message.payload.order_id == "flaky" and message.attempt == 1:
        raise ConnectionError("try again")  # waits in a queue of its own, then comes back to this group alone
    told.put_nowait(f"billing: {message.payload.order_id}, attempt {message.attempt}")


@bus.subscriber(orders, group="shipping")
async def ship(message: Message[OrderPlaced]) -> None:
    told.put_nowait(f"shipping: {message.payload.order_id} came through {message.raw.exchange.removeprefix(PREFIX)}")


async def foreign() -> None:
    """A producer with plain aio-pika: no header of msgbus, only JSON."""
    async with await aio_pika.connect(os.environ["MSGBUS_URL"]) as connection:
        channel = await connection.channel()
        exchange = await channel.get_exchange(PREFIX + "orders")
        await exchange.publish(aio_pika.Message(b'{"order_id": "foreign", "total": 5}'), routing_key="any")


async def main() -> None:
    async with bus.consuming():
        await bus.publish(orders, OrderPlaced(order_id="flaky", total=9.9))
        await foreign()
        for line in sorted([await told.get() for _ in range(4)]):
            print(line)


asyncio.run(main())
