"""What every case carries: an order of 1 KiB of JSON, persistent, with two headers."""

from __future__ import annotations

from pydantic import BaseModel


class Order(BaseModel):
    """A few fields and a note that fills it up to 1 KiB of JSON."""

    order_id: str
    customer_id: str
    total: float
    lines: list[int]
    note: str


ORDER = Order(order_id="0195-8a4e", customer_id="c-204178", total=99.9, lines=list(range(20)), note="x" * 885)
BODY = ORDER.model_dump_json().encode()
HEADERS = {"source": "shop", "schema": "7"}
PREFETCH = 200
BATCH = 100  # messages of one pipelined publish
