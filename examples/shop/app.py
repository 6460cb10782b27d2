"""The shop as one process: `msgbus run examples.shop.app:bus`. Four processes would each include one router."""

from examples.shop import billing, bookkeeping, quotes, shipping
from examples.shop.bus import bus

__all__ = ["bus"]

bus.include(billing.router, shipping.router, bookkeeping.router, quotes.router)
