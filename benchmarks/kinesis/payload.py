"""The record of every side: a JSON body of 1 KiB, decoded into a typed object by the consumer."""

from __future__ import annotations

from pydantic import BaseModel

REGION = "us-east-1"
SHARDS = 4
BATCH = 500
KEYS = 1000
PAUSE = 0.05  # seconds after a read that brought nothing


class Order(BaseModel):
    """About 1 KiB of JSON."""

    number: int
    customer: str
    note: str


def order(number: int) -> Order:
    """One order."""
    return Order(number=number, customer=f"customer-{number % KEYS}", note="x" * 940)


BODY = order(1).model_dump_json().encode()
"""The same as bytes that are ready."""


async def handle(order: Order) -> None:
    """What is done with an order: nothing."""
