"""Consumers are killed, frozen past their lease, or take longer than it. Trusted: fauxqs, with visibility timeouts."""

import asyncio

import pytest
from tests.effort import messages, pause
from tests.faults.ledger import Worker
from tests.faults.sqs_run import Run, new_queue, some_items
from tests.faults.sqs_weather import Wire
from tests.faults.sqs_worker import Item, Work
from tests.servers import Handle
from tests.slowness import slowness

pytestmark = pytest.mark.faults


def slow_ones(items: list[Item], *shares: float) -> list[int]:
    """Items whose handler takes so long that whoever has begun one surely has it in hand."""
    numbers = [int(share * len(items)) for share in shares]
    for number in numbers:
        items[number] = items[number].model_copy(update={"slow": 3.0 * slowness(), "poison": False, "flaky": 0})
    return numbers


@pytest.mark.timeout(120)
async def test_killed_in_mid_batch(fauxqs: Handle) -> None:
    items = some_items(messages(10_000))
    killers = slow_ones(items, 0.2, 0.45, 0.7)
    async with Run(fauxqs.url, Work(queue=new_queue(), lease=3.0, pause=pause(0.005)), items, Wire()) as run:
        await run.workers(3)

        async def kill(number: int) -> None:
            (await run.ledger.holder(number)).kill()
            await run.workers(1)

        await asyncio.gather(run.publish(), *map(kill, killers))  # one may be handled while others are published
        await run.handled()
        await run.judge()
        assert all(len({line.worker for line in run.ledger.of[number]}) > 1 for number in killers)


@pytest.mark.timeout(120)
async def test_handed_out_again_while_the_first_is_still_at_work(fauxqs: Handle) -> None:
    items = some_items(messages(10_000))
    (held,) = slow_ones(items, 0.3)
    async with Run(fauxqs.url, Work(queue=new_queue(), lease=2.0, pause=pause(0.02)), items, Wire()) as run:
        await run.workers(2)

        async def freeze() -> Worker:
            holder = await run.ledger.holder(held)
            holder.freeze()
            return holder

        frozen, _ = await asyncio.gather(freeze(), run.publish())
        await run.handled()  # by the other alone, what the first has in hand too
        frozen.thaw()
        await run.judge()
        assert any(line.worker is not frozen for line in run.ledger.of[held])


@pytest.mark.timeout(120)
async def test_handlers_that_take_longer_than_the_visibility_timeout(fauxqs: Handle) -> None:
    wire = Wire()
    items = some_items(messages(10_000))
    for item in items[::650]:
        item.slow, item.poison = 4.5 * slowness(), False
    async with Run(fauxqs.url, Work(queue=new_queue(), lease=2.0, concurrency=8), items, wire) as run:
        await run.workers(2)
        await run.publish()
        await run.handled()
        await run.judge()
        for item in items[::650]:
            begun = [line.attempt for line in run.ledger.of[item.n] if line.event == "begin"]
            assert begun == list(range(1, 2 + item.flaky)) or run.ledger.was_late(item.n)
    assert wire.operations["ChangeMessageVisibilityBatch"]
