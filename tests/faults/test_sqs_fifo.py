"""The same on FIFO queues: order per group is kept. Trusted: fauxqs, which hands out a group as the service does."""

import pytest
from tests.effort import messages, pause
from tests.faults.sqs_run import Run, new_queue, some_items
from tests.faults.sqs_weather import Wire
from tests.faults.sqs_worker import Work
from tests.faults.test_sqs_server import LOSSES, REFUSALS
from tests.servers import Handle

pytestmark = pytest.mark.faults


def fifo(*, pause: float = 0.0, hold: float = 60.0) -> Work:
    return Work(queue=new_queue(), ordered=True, lease=3.0, pause=pause, hold=hold)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("chances", [REFUSALS, LOSSES], ids=["refusals and partial failures", "lost and late answers"])
async def test_order_through_bad_answers(fauxqs: Handle, chances: dict) -> None:  # type: ignore[type-arg]
    wire = Wire(chances)
    items = some_items(messages(10_000), keys=messages(500))
    async with Run(fauxqs.url, fifo(), items, wire, "&timeout=2") as run:
        await run.workers(2)
        await run.publish()
        await run.handled()
        await run.judge()
        assert run.ledger.disorder(items) == []
    assert {len(copies) for copies in wire.copies.values()} == {1}  # sent again, and swallowed
    assert wire.spared() == []


@pytest.mark.timeout(120)
async def test_order_through_kills(fauxqs: Handle) -> None:
    wire = Wire()
    items = some_items(messages(10_000), keys=messages(500))
    async with Run(fauxqs.url, fifo(pause=pause(0.002)), items, wire) as run:
        await run.workers(2)
        await run.publish()
        for number, share in enumerate((0.3, 0.6)):
            await run.handled(share)
            run.ledger.workers[number].kill()
            await run.workers(1)
        await run.handled()
        await run.judge()
        assert run.ledger.disorder(items) == []


@pytest.mark.timeout(60)
async def test_order_when_a_failed_head_goes_back_to_the_queue(fauxqs: Handle) -> None:
    """`hold=0`: every retry is a visibility of its own, and what waits behind the head goes back with it."""
    wire = Wire()
    items = some_items(600, keys=60, poison=53, flaky=7)
    async with Run(fauxqs.url, fifo(hold=0.0), items, wire) as run:
        await run.workers(2)
        await run.publish()
        await run.handled()
        await run.judge()
        assert run.ledger.disorder(items) == []
