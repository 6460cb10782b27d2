"""Wrong handlers: both checkers must report an error on each marked line, and on no other."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence

from tests.types.accepted import Order, Point, Refund, bus, either, orders, prices, work

from msgbus import Batch, Bus, Delivery, Failed, Message, Retry, Router


async def another(point: Point) -> None: ...
async def narrower(order: Order) -> None: ...
async def another_message(message: Message[Point]) -> None: ...
async def another_list(batch: list[Point]) -> None: ...
async def another_messages(batch: list[Message[Point]]) -> None: ...
async def nothing() -> None: ...
async def an_int(order: Order) -> int:
    return 1


def plain_another(point: Point) -> None: ...
def plain_another_list(batch: list[Point]) -> None: ...
def plain_int(order: Order) -> int:
    return 1


def plain_batch_of_ints(batch: list[Order]) -> Sequence[int]:
    return [1]


def plain_generator(order: Order) -> Iterator[Order]:
    yield order


async def a_batch_of_ints(batch: list[Order]) -> Sequence[int]:
    return [1]


async def a_generator(order: Order) -> AsyncIterator[Order]:
    yield order


async def fine(order: Order) -> None: ...
async def price(order: Order) -> int:
    return 1


async def price_of_another(point: Point) -> int:
    return 1


async def wrong_price(order: Order) -> str:
    return ""


async def no_price(order: Order) -> None: ...
async def price_of_many(batch: list[Order]) -> int:
    return 1


def plain_wrong_price(order: Order) -> str:
    return ""


def plain_price_of_another(point: Point) -> int:
    return 1


bus.subscriber(orders, group="a")(another)  # refused
bus.subscriber(either, group="b")(narrower)  # refused
bus.subscriber(orders, group="c")(another_message)  # refused
bus.subscriber(orders, group="d")(another_list)  # refused
bus.subscriber(orders, group="e")(another_messages)  # refused
bus.subscriber(orders, group="f")(nothing)  # refused
bus.subscriber(orders, group="g")(an_int)  # refused
bus.subscriber(orders, group="h")(plain_another)  # refused
bus.subscriber(orders, group="p")(plain_another_list)  # refused
bus.subscriber(orders, group="q")(plain_int)  # refused
bus.subscriber(orders, group="r")(plain_batch_of_ints)  # refused
bus.subscriber(orders, group="s")(plain_generator)  # refused
bus.consumer(work)(plain_another)  # refused
bus.subscriber(orders, group="i")(a_batch_of_ints)  # refused
bus.subscriber(orders, group="j")(a_generator)  # refused
bus.subscriber(orders)(fine)  # refused
bus.subscriber(work, group="k")(fine)  # refused
bus.subscriber(orders, group="l", retry=3)(fine)  # refused
bus.subscriber(orders, group="m", attempts=3)(fine)  # refused
bus.consumer(orders)(fine)  # refused
bus.consumer(work)(another)  # refused
bus.consumer(work, group="n")(fine)  # refused
bus.subscriber(orders, group="o", batch=Batch())(fine)  # refused
bus.consumer(work, batch=Batch())(fine)  # refused
bus.responder(prices)(price_of_another)  # refused
bus.responder(prices)(wrong_price)  # refused
bus.responder(prices)(no_price)  # refused
bus.responder(prices)(plain_wrong_price)  # refused
bus.responder(prices)(plain_price_of_another)  # refused
bus.responder(prices)(price_of_many)  # refused
bus.responder(orders)(price)  # refused


async def middleware(delivery: Delivery) -> None: ...
async def hook(delivery: Delivery) -> None: ...


Bus(middlewares=[middleware])  # refused
Bus(on_dead=[hook])  # refused
Router(middlewares=[middleware])  # refused
bus.subscriber(orders, group="u").around(middleware)(fine)  # refused
bus.subscriber(orders, group="v").around()(another)  # refused
Retry(attempts="many")  # refused
Retry(5)  # refused
Failed("0")  # refused
print(Refund)  # noqa: T201


@bus.subscriber(orders, group="o")  # refused
async def decorated(point: Point) -> None: ...
