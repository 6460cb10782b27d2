"""Sends each order on its way. It has a bug: nobody thought of Iceland."""

import asyncio
import random

from examples.shop.models import OrderPlaced
from examples.shop.topics import orders

from msgbus import Retry, Router

RATES = {"DE": 490, "FR": 590, "IT": 640, "PL": 540}
FORGOTTEN = "IS"

router = Router()


@router.subscriber(orders, group="shipping", retry=Retry(attempts=3, first_delay=0.05))
async def ship(order: OrderPlaced) -> None:
    """A KeyError here is nothing that trying again could heal: after three attempts the message is dead."""
    await asyncio.sleep(random.uniform(0.002, 0.008))
    _print_label(order, RATES[order.country])


def fix_the_bug() -> None:
    """What the next release brings."""
    RATES[FORGOTTEN] = 1990


def _print_label(order: OrderPlaced, cents: int) -> str:
    return f"{order.order_id} to {order.country}, {order.pieces} pieces, {cents / 100:.2f}"
