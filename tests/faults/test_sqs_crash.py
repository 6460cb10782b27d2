"""Consumers are killed, frozen past their lease, or take longer than it. Trusted: fauxqs, with visibility timeouts."""

import pytest
from tests.faults.sqs_run import Run, new_queue, some_items
from tests.faults.sqs_weather import Wire
from tests.faults.sqs_worker import Work
from tests.servers import Handle


@pytest.mark.timeout(120)
async def test_killed_in_mid_batch(fauxqs: Handle) -> None:
    wire = Wire()
    async with Run(fauxqs.url, Work(queue=new_queue(), lease=3.0, pause=0.005), some_items(10_000), wire) as run:
        await run.workers(3)
        await run.publish()
        for number, share in enumerate((0.2, 0.45, 0.7)):
            await run.handled(share)
            run.ledger.workers[number].kill()
            await run.workers(1)
        await run.handled()
        await run.judge()
        again = [lines for lines in run.ledger.of.values() if len({line.worker for line in lines}) > 1]
        assert again, "nobody was killed with a message in hand"


@pytest.mark.timeout(120)
async def test_handed_out_again_while_the_first_is_still_at_work(fauxqs: Handle) -> None:
    wire = Wire()
    async with Run(fauxqs.url, Work(queue=new_queue(), lease=2.0, pause=0.02), some_items(10_000), wire) as run:
        await run.workers(2)
        await run.publish()
        await run.handled(0.3)
        frozen = run.ledger.workers[0]
        frozen.freeze()
        held = {line.n for line in run.ledger.lines if line.worker is frozen} - run.ledger.done
        await run.handled()  # by the other alone, what the first has in hand too
        frozen.thaw()
        await run.judge()
        assert any(line.n in held and line.worker is not frozen for line in run.ledger.lines)


@pytest.mark.timeout(120)
async def test_handlers_that_take_longer_than_the_visibility_timeout(fauxqs: Handle) -> None:
    wire = Wire()
    items = some_items(10_000)
    for item in items[::650]:
        item.slow, item.poison = 4.5, False
    async with Run(fauxqs.url, Work(queue=new_queue(), lease=2.0, concurrency=8), items, wire) as run:
        await run.workers(2)
        await run.publish()
        await run.handled()
        await run.judge()
        for item in items[::650]:
            begun = [line.attempt for line in run.ledger.of[item.n] if line.event == "begin"]
            assert begun == list(range(1, 2 + item.flaky))
    assert wire.operations["ChangeMessageVisibilityBatch"]
