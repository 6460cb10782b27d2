"""The typed surface as both checkers must see it: read by mypy and pyright (tests/test_types.py), never run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, assert_type

from pydantic import BaseModel
from typing_extensions import TypedDict

from msgbus import Bus, Delivery, Depends, Failed, Health, Message, Outgoing, Queue, Receipt, Retry, Router, Rpc, Topic
from msgbus.handlers.middleware import Handle
from msgbus.publishing.middleware import SendNext


class Base(BaseModel):
    """A base class of payloads."""

    id: str


class Order(Base):
    """A model."""


class Refund(Base):
    """Another one."""


@dataclass
class Point:
    """A dataclass."""

    x: int


class Row(TypedDict):
    """A TypedDict."""

    x: int


class Db:
    """A dependency."""


def get_db() -> Db:
    """Its maker."""
    return Db()


Connection = Annotated[Db, Depends(get_db)]

orders = Topic("orders", Order, key="id")
points = Topic("points", Point, key=lambda point: str(point.x))
rows = Topic("rows", Row)
either = Topic("either", Order | Refund)
counts = Topic("counts", dict[str, int])
blobs = Queue("blobs", bytes)
work = Queue("work", Order)
lists = Queue("lists", list[Order])
prices = Rpc("prices", Order, int)
bus = Bus()
router = Router()

assert_type(orders, Topic[Order])
assert_type(points, Topic[Point])
assert_type(rows, Topic[Row])
assert_type(either, Topic[Order | Refund])
assert_type(counts, Topic[dict[str, int]])
assert_type(blobs, Queue[bytes])
assert_type(prices, Rpc[Order, int])
assert_type(either.only(Refund), Topic[Refund])
assert_type(bus.health(), Health)


async def calls(order: Order, refund: Refund) -> None:
    """Publishing, sending, asking."""
    assert_type(await bus.publish(orders, order), Receipt)
    assert_type(await bus.publish_many(orders, [order, order]), Sequence[Receipt])
    assert_type(await bus.publish_many(work, (order for _ in range(3))), Sequence[Receipt])
    await bus.publish(points, Point(1), headers={"a": "b"}, delay=1.0, key="k", timeout=3.0)
    await bus.publish(rows, Row(x=1))
    await bus.publish(either, order)
    await bus.publish(either, refund)
    await bus.publish(counts, {"a": 1})
    assert_type(await bus.send(blobs, b"x"), Receipt)
    assert_type(await bus.request(prices, order, timeout=2.0), int)
    async with bus as opened:
        assert_type(opened, Bus)
    async with bus.consuming() as consuming:
        assert_type(consuming, Bus)


@bus.subscriber(orders, group="a", retry=Retry(attempts=2))
async def payload(order: Order) -> None: ...


@bus.subscriber(orders, group="b")
async def base(order: Base) -> None: ...


@bus.subscriber(orders, group="c")
async def message(message: Message[Order]) -> None:
    assert_type(message.payload, Order)
    assert_type(message.id, str)
    assert_type(message.key, str | None)
    assert_type(message.attempt, int)


@bus.subscriber(orders, group="d")
async def base_message(message: Message[Base]) -> None: ...


@bus.subscriber(orders, group="e")
async def injected(order: Order, db: Connection, limit: int = 3) -> None: ...


@bus.subscriber(orders, group="f")
async def batch(batch: list[Order]) -> None: ...


@bus.subscriber(orders, group="g")
async def failing_batch(batch: list[Message[Order]]) -> Sequence[Failed] | None:
    return [Failed(0), Failed(1, ValueError("odd"))]


@bus.subscriber(either, group="h")
async def union(either: Order | Refund) -> None: ...


@bus.subscriber(either.only(Refund), group="i")
async def member(refund: Refund) -> None: ...


@bus.subscriber(rows, group="j")
async def typed_dict(row: Row) -> None: ...


@bus.consumer(lists)
async def a_list(order: list[Order]) -> None: ...


@bus.consumer(blobs)
async def raw(body: bytes) -> None: ...


@router.responder(prices)
async def price(order: Order) -> int:
    return 1


@Router().responder(prices)
async def price_message(message: Message[Order], db: Connection) -> int:
    assert_type(message.payload, Order)
    return 1


class Service:
    """Bound methods are handlers."""

    async def handle(self, order: Order) -> None: ...


bus.consumer(work)(Service().handle)
bus.include(router)


async def after(order: Order, db: Db) -> None:
    """Decorated functions stay what they were."""
    await payload(order)
    await injected(order, db)
    await injected(order, db, limit=5)
    assert_type(await price(order), int)
    assert_type(await failing_batch([]), Sequence[Failed] | None)


async def middleware(delivery: Delivery, handle: Handle) -> None:
    """Of the consuming side."""
    await handle(delivery)


async def publishing(batch: Sequence[Outgoing], send: SendNext) -> Sequence[Any]:
    """Of the publishing side."""
    return await send(batch)


async def on_dead(delivery: Delivery, error: Exception) -> None:
    """A hook."""


Bus("memory://", middlewares=[middleware], publish_middlewares=[publishing], on_dead=[on_dead])
