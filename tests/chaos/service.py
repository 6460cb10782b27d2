"""What the processes of the rig share: the message, its queue, and the bus that writers and relays declare it in."""

from __future__ import annotations

import os

from pydantic import BaseModel

from msgbus import Bus, Queue

LEASE = 2.0
"""Seconds of a relay's lease: short, so that others take over while the rig looks on."""

TABLES = (
    "CREATE TABLE counters (key text PRIMARY KEY, n bigint NOT NULL)",
    "CREATE TABLE orders (key text, n bigint, PRIMARY KEY (key, n))",
)
KEYS = 20


class Order(BaseModel):
    """The `n`th of its key."""

    key: str
    n: int


def orders_of(name: str) -> Queue[Order]:
    """In order per key: RabbitMQ hands it to one consumer at a time."""
    return Queue(name, Order, key="key", ordered=True)


orders = orders_of(os.environ.get("CHAOS_QUEUE", "orders"))
bus = Bus()
bus.publishes(orders)
