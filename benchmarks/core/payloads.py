"""The two payloads of the core benchmark: about 50 and about 400 bytes of JSON."""

from __future__ import annotations

from pydantic import BaseModel


class Small(BaseModel):
    """Two fields, 50 bytes."""

    order_id: str
    customer_id: str


class Line(BaseModel):
    sku: str
    quantity: int
    price: str


class Big(BaseModel):
    """An order with five lines, about 400 bytes."""

    order_id: str
    customer_id: str
    currency: str
    lines: list[Line]
    note: str | None = None


SMALL = Small(order_id="0195-8a", customer_id="c-2041")
BIG = Big(
    order_id="01958a4e-7a5c-7b1e",
    customer_id="customer-2041",
    currency="EUR",
    lines=[Line(sku=f"sku-{n:05}", quantity=n + 1, price="19.90") for n in range(6)],
    note="leave it at the door, please",
)
