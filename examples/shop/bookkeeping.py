"""Books payments, many at a time."""

import asyncio
from decimal import Decimal

from examples.shop.models import PaymentTaken
from examples.shop.topics import payments

from msgbus import Batch, Router

router = Router()
booked: dict[str, Decimal] = {}


@router.subscriber(payments, group="bookkeeping", batch=Batch(size=50, wait=0.05))
async def book(batch: list[PaymentTaken]) -> None:
    """By order id, so a payment that comes twice is booked once."""
    await asyncio.sleep(0.01)  # one bulk insert
    booked.update((payment.order_id, payment.amount) for payment in batch)
