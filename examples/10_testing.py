"""A service and its tests. TestBus runs the service's own bus on a private embedded broker with a clock of its own:
retries that take hours pass at once, and the test sees what was published, handled, retried and dead-lettered.

Run it as it is, or with `pytest examples/10_testing.py`.
"""

import asyncio
import logging
from typing import Annotated

from pydantic import BaseModel

from msgbus import Bus, Depends, Reject, Retry, Topic
from msgbus.testing import TestBus

# -- the service


class Order(BaseModel):
    order_id: str
    cents: int


class Paid(BaseModel):
    order_id: str


class Provider:
    async def charge(self, order_id: str, cents: int) -> None:
        raise NotImplementedError("a real one talks to a bank")


def provider() -> Provider:
    return Provider()


orders = Topic("orders", Order)
paid = Topic("paid", Paid)
bus = Bus()


@bus.subscriber(orders, group="billing", retry=Retry(attempts=4, first_delay=3600.0, max_delay=86400.0, jitter=0))
async def charge(order: Order, bank: Annotated[Provider, Depends(provider)]) -> None:
    if order.cents <= 0:
        raise Reject("nothing to charge")
    await bank.charge(order.order_id, order.cents)
    await bus.publish(paid, Paid(order_id=order.order_id))


# -- its tests


class FlakyProvider(Provider):
    """Fails twice, then works."""

    def __init__(self) -> None:
        self.calls = 0

    async def charge(self, order_id: str, cents: int) -> None:
        self.calls += 1
        if self.calls < 3:
            raise ConnectionError("no answer")


async def test_a_flaky_bank_is_asked_again() -> None:
    async with TestBus(bus) as test:
        bank = FlakyProvider()
        test.override(provider, lambda: bank)
        await test.publish(orders, Order(order_id="1", cents=990))
        await test.settled()

        assert test.published(paid) == [Paid(order_id="1")]
        assert [attempt.delay for attempt in test.retried(charge)] == [3600.0, 7200.0]
        print(f"charged after {bank.calls} calls and {test.clock.now() / 3600:.0f} hours on the test's clock")


async def test_an_empty_order_is_dead() -> None:
    async with TestBus(bus) as test:
        await test.publish(orders, Order(order_id="2", cents=0))
        await test.settled()

        (dead,) = test.dead(orders)
        assert dead.payload.order_id == "2"
        assert not test.published(paid)
        print(f"dead: {dead.reason}")


if __name__ == "__main__":
    logging.getLogger("msgbus").setLevel(logging.CRITICAL)  # the failures above are on purpose
    asyncio.run(test_a_flaky_bank_is_asked_again())
    asyncio.run(test_an_empty_order_is_dead())
