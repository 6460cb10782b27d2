"""Payloads, targets and little helpers of the tests of TestBus."""

from collections.abc import Callable, Sequence
from typing import Any

from pydantic import BaseModel

from msgbus import Queue, Retry, Rpc, Topic

DAY = 86400.0


class Order(BaseModel):
    id: str
    customer: str = "c"


class Refund(BaseModel):
    cents: int


class Ask(BaseModel):
    sku: str


class Price(BaseModel):
    cents: int


ORDERS = Topic("orders", Order, key="customer")
ORDERED = Topic("ordered", Order, key="customer", ordered=True)
EVENTS = Topic("events", Order | Refund)
INVOICES = Queue("invoices", Order)
PRICES = Rpc("prices", Ask, Price)
ONCE = Retry(attempts=1)


def ids(orders: Sequence[Order]) -> list[str]:
    return [order.id for order in orders]


def exact(**options: Any) -> Retry:
    return Retry(jitter=0, **options)


def failing(times: int, error: Callable[[], Exception] = lambda: ValueError("not yet")) -> Callable[[], None]:
    """A function that raises so often, and then no more."""
    left = [times]

    def fail() -> None:
        if left[0]:
            left[0] -= 1
            raise error()

    return fail
