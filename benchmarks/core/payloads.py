"""The two payloads of the core benchmark: about 50 and about 400 bytes of JSON."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Literal
from uuid import UUID

from pydantic import BaseModel


class Small(BaseModel):
    """Two fields, 50 bytes."""

    order_id: str
    customer_id: str


class Line(BaseModel):
    sku: str
    quantity: int
    price: Decimal


class Big(BaseModel):
    """An order with its lines, about 400 bytes."""

    order_id: UUID
    customer_id: str
    placed_at: datetime
    currency: Literal["EUR", "USD"]
    lines: list[Line]
    note: str | None = None


SMALL = Small(order_id="0195-8a4e", customer_id="c-204178")
BIG = Big(
    order_id=UUID("01958a4e-7a5c-7b1e-8000-2b1d5f3a9c11"),
    customer_id="customer-2041",
    placed_at=datetime(2026, 11, 24, 9, 30, tzinfo=UTC),
    currency="EUR",
    lines=[Line(sku=f"sku-{n:05}", quantity=n + 1, price=Decimal("19.90")) for n in range(5)],
    note="leave it at the door, please",
)
