"""The shop's customers: place orders at a steady rate, and ask for prices."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal

from examples.shop.models import OrderPlaced, QuoteRequest
from examples.shop.quotes import PRICES, SLOW
from examples.shop.shipping import FORGOTTEN
from examples.shop.topics import orders, quotes

from msgbus import Bus, RemoteError, Timeout

_TICK = 0.02  # seconds between two batches of orders
_PATIENCE = 0.3  # seconds that a customer waits for a price
_ASK = (*[sku for sku in PRICES if sku != SLOW] * 8, SLOW, "gold")  # one of them slow, one not sold
_COUNTRIES = ("DE", "FR", "IT", "PL")
_POISON_EVERY = 40  # orders


@dataclass(slots=True)
class Asked:
    """What became of the requests for a price."""

    asked: int = 0
    answered: int = 0
    failed: int = 0
    late: int = 0
    seconds: list[float] = field(default_factory=list)

    @property
    def open(self) -> int:
        """Who waits now."""
        return self.asked - self.answered - self.failed - self.late


class Customers:
    """Publishes and requests over a bus of its own, as a web process would.

    How many orders there are is known from the start: a slow machine takes longer, and never has more to do.
    """

    def __init__(self, bus: Bus, rate: float) -> None:
        self.quotes = Asked()
        self.placed = 0  # orders, at the steady rate
        self.shopping = True  # for prices
        self._bus = bus
        self._rate = rate
        self._numbers = itertools.count(1)
        self._names = [f"c{n:03}" for n in range(max(20, int(rate / 4)))]

    async def order(self, count: int) -> None:
        """Place so many orders at the rate: in one task, so that a customer's orders have an order."""
        began = time.monotonic()
        while self.placed < count:
            await asyncio.sleep(_TICK)
            due = min(count, int((time.monotonic() - began) * self._rate))
            await self.order_at_once(due - self.placed)
            self.placed = due

    async def order_at_once(self, count: int) -> None:
        """So many orders in one call."""
        await self._bus.publish_many(orders, self._orders(count))

    async def ask(self) -> None:
        """Ask for prices, one after the other, while `shopping`."""
        while self.shopping:
            await self._ask(random.choice(_ASK))
            await asyncio.sleep(random.uniform(0.0, 0.1))

    async def _ask(self, sku: str) -> None:
        asked, began = self.quotes, time.monotonic()
        asked.asked += 1
        try:
            await self._bus.request(quotes, QuoteRequest(sku=sku, pieces=random.randint(1, 9)), timeout=_PATIENCE)
            asked.answered += 1
            asked.seconds.append(time.monotonic() - began)
        except RemoteError:
            asked.failed += 1
        except Timeout:
            asked.late += 1

    def _orders(self, count: int) -> Iterator[OrderPlaced]:
        for number in itertools.islice(self._numbers, count):
            pieces = random.randint(1, 5)
            yield OrderPlaced(
                order_id=f"o{number:05}",
                customer_id=random.choice(self._names),
                sku="tea",
                pieces=pieces,
                country=random.choice(_COUNTRIES) if number % _POISON_EVERY else FORGOTTEN,
                total=pieces * Decimal("4.50"),
            )
