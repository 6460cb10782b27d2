"""Takes the money for each order, through a payment provider that does not always answer."""

import asyncio
import random
from decimal import Decimal
from typing import Annotated

from examples.shop.bus import bus
from examples.shop.models import OrderPlaced, PaymentTaken
from examples.shop.topics import orders, payments

from msgbus import Depends, Retry, Router


class ProviderDown(Exception):
    """No answer. Asking again is safe: the provider knows the order's id."""


class Provider:
    """Stands for a payment provider's client."""

    def __init__(self, failing: float = 0.08) -> None:
        self.failing = failing
        self.charged: dict[str, Decimal] = {}

    async def charge(self, order_id: str, amount: Decimal) -> None:
        """Charge once per order, however often it is asked."""
        await asyncio.sleep(random.uniform(0.004, 0.02))
        if random.random() < self.failing:
            raise ProviderDown("no answer")
        self.charged[order_id] = amount


_provider = Provider()


def provider() -> Provider:
    """The one client of this process; tests override it."""
    return _provider


router = Router()


@router.subscriber(orders, group="billing", retry=Retry(attempts=8, first_delay=0.05, max_delay=1.0))
async def charge(order: OrderPlaced, bank: Annotated[Provider, Depends(provider)]) -> None:
    """Ordered: while an order is tried again, the customer's later orders wait, and nobody else's."""
    await bank.charge(order.order_id, order.total)
    await bus.publish(
        payments, PaymentTaken(order_id=order.order_id, customer_id=order.customer_id, amount=order.total)
    )
