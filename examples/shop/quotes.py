"""Says what things cost. Some prices take a while to find out, and some things are not sold here."""

import asyncio
from decimal import Decimal

from examples.shop.models import Quote, QuoteRequest
from examples.shop.topics import quotes

from msgbus import Router

PRICES = {"tea": Decimal("4.50"), "coffee": Decimal("6.20"), "cocoa": Decimal("5.80"), "saffron": Decimal("39.00")}
SLOW = "saffron"  # its price is looked up at an exchange

router = Router()


class UnknownSku(Exception):
    """The requester gets it as a RemoteError."""


@router.responder(quotes)
async def quote(request: QuoteRequest) -> Quote:
    if request.sku not in PRICES:
        raise UnknownSku(f"{request.sku} is not sold here")
    await asyncio.sleep(0.4 if request.sku == SLOW else 0.002)
    return Quote(sku=request.sku, price=PRICES[request.sku] * request.pieces)
