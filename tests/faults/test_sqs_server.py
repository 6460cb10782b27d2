"""SQS answers badly, by plan and at random. Trusted: fauxqs, as a store; the faults are the proxy's."""

import pytest
from tests.effort import messages
from tests.faults.sqs_run import Run, new_queue, some_items
from tests.faults.sqs_weather import Wire, broken, cut, down, half, lost, no_json, partly, slow, throttled
from tests.faults.sqs_worker import Work
from tests.servers import Handle

pytestmark = pytest.mark.faults

REFUSALS = {broken: 0.02, down: 0.02, throttled: 0.03, no_json: 0.02, partly: 0.2}
LOSSES = {cut: 0.01, lost: 0.008, half: 0.004, slow(0.1): 0.03, slow(2.5): 0.002}
"""Calls that take 2 s are given up: see the option `timeout`."""


@pytest.mark.timeout(120)
@pytest.mark.parametrize("chances", [REFUSALS, LOSSES], ids=["refusals and partial failures", "lost and late answers"])
async def test_nothing_is_lost(fauxqs: Handle, chances: dict) -> None:  # type: ignore[type-arg]
    wire = Wire(chances)
    work = Work(queue=new_queue(), lease=3.0)
    async with Run(fauxqs.url, work, some_items(messages(10_000)), wire, "&timeout=2") as run:
        await run.workers(2)
        await run.publish()
        await run.handled()
        await run.judge()
    assert wire.spared() == []
