"""Payloads, topics, queues and calls that many tests use."""

from __future__ import annotations

from pydantic import BaseModel

from msgbus import Queue, Rpc, Topic


class Order(BaseModel):
    """An event."""

    order_id: str
    customer_id: str = "c"


class Refund(BaseModel):
    """Another event."""

    order_id: str
    amount: int = 0


class Ask(BaseModel):
    """A request."""

    sku: str


class Price(BaseModel):
    """A reply."""

    sku: str
    cents: int


ORDERS = Topic("orders", Order, key="customer_id")
ORDERED = Topic("ordered", Order, key="customer_id", ordered=True)
WORK = Queue("work", Order)
LINE = Queue("line", Order, key="customer_id", ordered=True)
PRICES = Rpc("prices", Ask, Price)


def orders(*ids: str, customer: str = "c") -> list[Order]:
    """Some orders of one customer."""
    return [Order(order_id=order_id, customer_id=customer) for order_id in ids]
