"""Wrong calls: both checkers must report an error on each marked line, and on no other."""

from __future__ import annotations

from tests.types.accepted import (
    Base,
    Order,
    Point,
    Refund,
    Row,
    blobs,
    bus,
    counts,
    either,
    orders,
    prices,
    router,
    rows,
    work,
)

from msgbus import Message, Queue, Topic


async def calls(order: Order, base: Base, point: Point, message: Message[Order]) -> None:
    """Each of them is a mistake that was made somewhere."""
    await bus.publish(orders, 123)  # refused
    await bus.publish(orders, point)  # refused
    await router.publish(orders, point)  # refused
    await bus.publish(orders, base)  # refused
    await bus.publish(orders, message)  # refused
    await bus.publish(orders, [order])  # refused
    await bus.publish(orders, order.model_dump())  # refused
    await bus.publish(work, order)  # refused
    await bus.publish("orders", order)  # refused
    await bus.publish(either, point)  # refused
    await bus.publish(counts, {"a": "b"})  # refused
    await bus.publish(rows, Row(x="1"))  # refused
    await bus.publish(orders, order, delay="soon")  # refused
    await bus.publish(orders, order, headers={"a": 1})  # refused
    await bus.publish(orders, order, retry=3)  # refused
    await bus.publish_many(orders, [order, 5])  # refused
    await bus.publish_many(orders, order)  # refused
    await bus.send(orders, order)  # refused
    await bus.send(blobs, "text")  # refused
    await bus.request(prices, 5)  # refused
    await bus.request(orders, order)  # refused
    text: str = await bus.request(prices, order)  # refused
    print(text)  # noqa: T201
    either.only(Point)
    wider: Topic[Base] = orders  # refused
    narrower: Topic[Order] = either  # refused
    queue: Queue[Order] = orders  # refused
    print(wider, narrower, queue)  # noqa: T201
    Topic("keyed", Order, key=lambda order: order.nope)  # refused
    Topic("keyed", Order, key=lambda order: 5.0)  # refused
    Topic("keyed", Refund, key=5)  # refused
    Topic(5, Order)  # refused
