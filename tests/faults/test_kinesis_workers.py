"""Kinesis consumers are killed, frozen past their lease, throttled, join and leave; their clocks disagree.

Trusted: ministack, for streams and for conditional writes of DynamoDB. Every write of a lease is on the books.
"""

import asyncio
import signal

import pytest
from tests.effort import messages, pause
from tests.faults.kinesis_run import LEASE, Run, eventually, new_topic, some_items
from tests.faults.kinesis_worker import Work
from tests.servers import Handle

pytestmark = pytest.mark.faults

COUNT = messages(3000)
"""Records of a run."""

CONCURRENCY = Work(topic="").concurrency

SLOW = pytest.mark.timeout(max(120, COUNT // 100))


@SLOW
async def test_one_of_three_is_killed(ministack: Handle) -> None:
    items = some_items(COUNT, poison=97)
    async with Run(ministack.url, ministack.url, Work(topic=new_topic(), pause=pause(0.01)), shards=4) as run:
        await run.start(3)
        publishing = asyncio.create_task(run.publish(items))
        await run.handled(COUNT // 3)
        victim = run.workers[0]
        victim.broken = True
        victim.process.kill()
        await publishing
        await run.handled(sum(not item.poison for item in items))
        dead = [item.n for item in items if item.poison]
        await eventually(run.drained)  # the last one may be retried still
        await run.stop()
        assert sorted(set(await run.dead())) == dead  # one may be twice: written, and its writer killed
        assert await run.waiting() == 0
        run.judge(items)


@SLOW
async def test_one_is_frozen_past_its_lease_and_wakes(ministack: Handle) -> None:
    items = some_items(COUNT)
    async with Run(ministack.url, ministack.url, Work(topic=new_topic(), pause=pause(0.01)), shards=2) as run:
        (frozen,) = await run.start()
        await run.publish(items[: COUNT // 30])
        await run.handled(COUNT // 30)
        await run.start()
        publishing = asyncio.create_task(run.publish(items[COUNT // 30 :]))
        await run.handled(COUNT // 3)
        frozen.broken = True
        frozen.process.send_signal(signal.SIGSTOP)
        await publishing
        await run.handled(COUNT - 1)  # by the other alone: it takes what was not renewed
        frozen.process.send_signal(signal.SIGCONT)
        await run.handled(COUNT)
        more = [item.model_copy(update={"n": COUNT + item.n}) for item in items[: COUNT // 6]]
        await run.publish(more)
        await run.handled(COUNT + COUNT // 6)
        await run.stop()
        assert await run.waiting() == 0
        run.judge([*items, *more])


@SLOW
async def test_workers_join_and_leave_without_a_duplicate(ministack: Handle) -> None:
    items = some_items(COUNT)
    work = Work(topic=new_topic(), pause=pause(0.05))
    async with Run(ministack.url, ministack.url, work, shards=4, options=f"&lease={3 * LEASE}") as run:
        await run.start()
        publishing = asyncio.create_task(run.publish(items))
        await run.handled(COUNT // 6)
        await run.start(2)
        await run.handled(COUNT // 2)
        leaving = run.workers[0]
        leaving.process.terminate()
        assert await leaving.process.wait() == 0
        await publishing
        await run.handled(COUNT)
        await run.stop()
        assert await run.waiting() == 0
        run.judge(items)
        assert sorted(line.n for line in run.lines if line.event == "end") == list(range(COUNT))


@SLOW
async def test_dynamodb_throttles_for_longer_than_a_lease(ministack: Handle) -> None:
    """Renewals fail until the lease is over: handlers are cancelled, nothing is written, then it goes on."""
    count = 6 * 2 * CONCURRENCY  # six times what both have in hand, each half a lease: more than is throttled
    items = some_items(count)
    async with Run(ministack.url, ministack.url, Work(topic=new_topic(), pause=LEASE / 2), shards=2) as run:
        await run.start(2)
        await run.publish(items)  # all of it: while the leases end there is always something in hand
        await run.handled(1)
        run.books.throttle = True
        await asyncio.sleep(1.5 * LEASE)  # time itself is what is tested
        run.books.throttle = False
        await run.handled(count)
        for worker in run.workers:  # both lost their leases, and what was settled since the last write
            worker.broken = True
        await eventually(run.drained)  # what they handled and could not write is handled again
        await run.stop()
        assert run.books.throttled > 5
        assert any(line.event == "lost" for line in run.lines), "no handler was cancelled"
        run.judge(items)


@SLOW
async def test_clocks_that_disagree_change_nothing(ministack: Handle) -> None:
    items = some_items(COUNT)
    async with Run(ministack.url, ministack.url, Work(topic=new_topic(), pause=pause(0.01)), shards=4) as run:
        await run.start()
        await run.start(skew=-200.0)
        await run.start(skew=200.0)
        publishing = asyncio.create_task(run.publish(items))
        await run.handled(COUNT // 3)
        victim = run.workers[1]
        victim.broken = True
        victim.process.kill()
        await publishing
        await run.handled(COUNT)
        await run.stop()
        run.judge(items)


@SLOW
@pytest.mark.parametrize("workers", [2, 4])
async def test_the_balance_settles_within_three_leases(ministack: Handle, workers: int) -> None:
    async with Run(ministack.url, ministack.url, Work(topic=new_topic()), shards=4) as run:
        await run.start()
        items = some_items(200)
        await run.publish(items)
        await run.handled(200)
        assert list(run.shares().values()) == [4]
        await run.start(workers - 1)
        before = len(run.books.writes)
        await eventually(run.balanced(4 // workers, workers))
        rounds = sum(write.owner != "" for write in run.books.writes[before:])
        assert rounds <= 4 * 3 * 3 * 2, "each lease is written three times a period, and at each hand-over"
        await run.stop()
        run.judge(items)
