"""A service that handles one topic, works on a queue, and publishes, sends and requests."""

from __future__ import annotations

from dataclasses import dataclass

from msgbus import Bus, Queue, Rpc, Select, Topic


@dataclass
class Order:
    """An order."""

    number: int
    region: str = "eu"


orders = Topic("orders", Order, key="number", filter_on=["region"])
paid = Topic("paid", Order)
emails = Queue("emails", Order)
stock = Rpc("stock", Order, Order)
quotes = Rpc("quotes", Order, Order)
line = Queue("line", Order, key="number", ordered=True)

bus = Bus()
bus.publishes(paid, emails, stock)

reporter = Bus()
reporter.publishes(orders)


@bus.subscriber(orders, group="billing", select=Select(where={"region": ["eu", "${x}"]}))
async def charge(order: Order) -> None:
    """Nothing."""


@bus.consumer(line)
async def pack(order: Order) -> None:
    """Nothing."""


@bus.responder(quotes)
async def quote(order: Order) -> Order:
    """The order itself."""
    return order
