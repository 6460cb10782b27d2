"""The message of every side: a JSON body of 1 KiB, decoded into a typed object by the consumer."""

from __future__ import annotations

import json

from pydantic import BaseModel


class Order(BaseModel):
    """About 1 KiB of JSON."""

    number: int
    sent: float
    customer: str
    note: str


def order(number: int, sent: float = 0.0) -> Order:
    """One order; `sent`: when, on the monotonic clock, for latencies."""
    return Order(number=number, sent=sent, customer=f"customer-{number % 100}", note="x" * 940)


def encode(number: int, sent: float = 0.0) -> str:
    """As a hand-written loop would."""
    return order(number, sent).model_dump_json()


def decode(body: str) -> Order:
    """As a hand-written loop would."""
    return Order.model_validate_json(body)


SIZE = len(json.dumps(order(1).model_dump(), separators=(",", ":")))
