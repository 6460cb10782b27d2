"""The typed surface as both checkers must see it: read by mypy and pyright (tests/test_types.py), never run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, assert_type

from pydantic import BaseModel
from typing_extensions import TypedDict

from msgbus import (
    Batch,
    Bus,
    BusStats,
    Delivery,
    Depends,
    Failed,
    Health,
    Message,
    Outgoing,
    Queue,
    Receipt,
    Retry,
    Router,
    Rpc,
    Topic,
    from_lifespan,
    from_thread,
)
from msgbus.handlers.middleware import Handle
from msgbus.message import Source
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
assert_type(bus.stats(), BusStats)


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
    assert_type(await router.publish(orders, order), Receipt)
    assert_type(await bus.idle(timeout=1.0), Sequence[Source])
    assert_type(await router.request(prices, order), int)
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


@bus.subscriber(orders, group="g", batch=Batch(size=5))
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


@bus.subscriber(orders, group="k")
def plain(order: Order) -> None:
    assert_type(from_thread(bus.publish(orders, order)), Receipt)
    assert_type(from_thread(bus.request(prices, order)), int)


@bus.subscriber(orders, group="l")
def plain_message(message: Message[Base], db: Connection, limit: int = 3) -> None: ...


@bus.subscriber(orders, group="m", batch=Batch(size=3))
def plain_batch(batch: list[Order]) -> None: ...


@bus.subscriber(orders, group="n")
def plain_failing_batch(batch: list[Message[Order]]) -> Sequence[Failed]:
    return [Failed(0)]


@bus.consumer(work)
def plain_work(order: Order) -> None: ...


@Router().responder(prices)
def plain_price(order: Order) -> int:
    return 1


@Router().responder(prices)
def plain_price_message(message: Message[Order], db: Connection) -> int:
    return 1


Shared = Annotated[Db, Depends(from_lifespan(Db))]


@bus.subscriber(orders, group="shared")
async def shared(order: Order, db: Shared) -> None:
    assert_type(db, Db)
    assert_type(await from_lifespan(Db)(), Db)


class Service:
    """Bound methods are handlers."""

    async def handle(self, order: Order) -> None: ...


bus.consumer(work)(Service().handle)
bus.include(router)


async def after(order: Order, db: Db, delivery: Delivery) -> None:
    """Decorated functions stay what they were."""
    await payload(order)
    await injected(order, db)
    await injected(order, db, limit=5)
    assert_type(await price(order), int)
    assert_type(await failing_batch([]), Sequence[Failed] | None)
    plain(order)
    plain_message(Message(order, delivery), db, limit=5)
    assert_type(plain_price(order), int)
    assert_type(plain_failing_batch([]), Sequence[Failed])


async def middleware(delivery: Delivery, handle: Handle) -> None:
    """Of the consuming side."""
    await handle(delivery)


@Router(middlewares=[middleware]).subscriber(orders, group="around").around(middleware, middleware)
async def surrounded(order: Order) -> None: ...


@Router().consumer(work, batch=Batch(size=3)).around(middleware)
async def surrounded_batch(batch: list[Order]) -> None: ...


@Router().responder(prices).around(middleware)
async def surrounded_price(order: Order) -> int:
    assert_type(await surrounded(order), None)
    return 1


async def publishing(batch: Sequence[Outgoing], send: SendNext) -> Sequence[Any]:
    """Of the publishing side."""
    return await send(batch)


async def on_dead(delivery: Delivery, error: Exception) -> None:
    """A hook."""


Bus("memory://", middlewares=[middleware], publish_middlewares=[publishing], on_dead=[on_dead])
