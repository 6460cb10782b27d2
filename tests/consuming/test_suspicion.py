"""What may have killed its process is taken alone, so that its neighbours are not blamed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.conftest import OpenScripted
from tests.models import WORK, Order
from tests.scripted import PLAIN, HandClock, consuming, delivery

from msgbus import Bus, Limits, Retry
from msgbus.message import Act, Delivery, Source

SOURCE = Source("queue", "work")
COUNTING = replace(PLAIN, counts_deliveries=True)


def came(number: int, deliveries: int, attempt: int = 1) -> Delivery:
    """A message that was handed out so often."""
    each = delivery(SOURCE, str(number), b'{"order_id": "%d"}' % number)
    each.deliveries, each.attempt = deliveries, attempt
    return each


async def test_suspects_are_given_back_and_taken_one_by_one(clock: HandClock, scripted: OpenScripted) -> None:
    broker = scripted(COUNTING)
    bus = Bus("scripted://one", clock=clock)
    running: list[str] = []
    most: list[int] = []

    @bus.consumer(WORK, limits=Limits(concurrency=4, prefetch=10))
    async def work(order: Order) -> None:
        running.append(order.order_id)
        await clock.sleep(1.0)
        most.append(len(running))
        running.remove(order.order_id)

    async with consuming(bus, clock):
        broker.feed("work", *(came(number, 3) for number in range(3)))
        await clock.until(lambda: len(broker.settled) == 3)
        assert [act for act, _ in broker.acts()] == [Act.RELEASE] * 3
        broker.feed("work", *(came(number, 4) for number in range(3)))
        await clock.until(lambda: len(broker.settled) == 6)
        assert most == [1, 1, 1]
        broker.feed("work", *(came(number, 1) for number in range(20, 22)))
        await clock.until(lambda: len(broker.settled) == 8)
        assert most == [1] * 5, "what comes next is handled, one at a time still"
        await clock.advance(10.0)
        broker.feed("work", came(3, 1))
        await clock.until(lambda: len(broker.settled) == 9)
        broker.feed("work", *(came(number, 1) for number in range(4, 7)))
        await clock.until(lambda: len(broker.settled) == 12)
        assert max(most[5:]) > 1, "as many as before again"
        assert bus.health().ready


@pytest.mark.parametrize(
    ("deliveries", "attempt", "suspect"),
    [
        (1, 1, False),
        (2, 1, False),
        (3, 1, True),
        (3, 3, False),
        (5, 4, False),
        (6, 3, True),
        (7, 7, False),
        (8, 8, True),
    ],
)
async def test_what_retries_explain_is_no_suspicion(
    clock: HandClock, scripted: OpenScripted, deliveries: int, attempt: int, suspect: bool
) -> None:
    broker = scripted(COUNTING)
    bus = Bus("scripted://one", clock=clock)

    @bus.consumer(WORK, retry=Retry(attempts=5))
    async def work(order: Order) -> None: ...

    async with consuming(bus, clock):
        broker.feed("work", came(1, deliveries, attempt))
        await clock.until(lambda: broker.settled)
    assert broker.acts()[0][0] is (Act.RELEASE if suspect else Act.ACK)


@pytest.mark.parametrize("capabilities", [PLAIN, replace(COUNTING, isolates=True)])
async def test_it_is_left_to_brokers_that_see_to_it(
    clock: HandClock, scripted: OpenScripted, capabilities: object
) -> None:
    broker = scripted(capabilities)
    bus = Bus("scripted://one", clock=clock)

    @bus.consumer(WORK)
    async def work(order: Order) -> None: ...

    async with consuming(bus, clock):
        broker.feed("work", came(1, 4))
        await clock.until(lambda: broker.settled)
    assert broker.acts() == [(Act.ACK, "1")]
