"""The message of every side: a JSON body of 1 KiB, decoded into a typed object by the consumer."""

from __future__ import annotations

import time

from pydantic import BaseModel


class Order(BaseModel):
    """About 1 KiB of JSON. `sent`: when, on the machine's clock, for latencies."""

    number: int
    sent: float
    customer: str
    note: str


def order(number: int) -> Order:
    """One order, sent now."""
    return Order(number=number, sent=time.perf_counter(), customer=f"customer-{number % 100}", note="x" * 940)


def encode(order: Order) -> str:
    """As a hand-written loop would."""
    return order.model_dump_json()


def decode(body: str) -> Order:
    """As a hand-written loop would."""
    return Order.model_validate_json(body)


BATCH = 10  # messages of one call, the most that SQS takes
POLLS = 8  # long polls in flight
SENDERS = 8  # sends in flight
WAIT = 1  # seconds of one long poll
REGION = "eu-west-1"
