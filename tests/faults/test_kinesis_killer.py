"""A record whose handler ends its process, every time: it is dead in the end, and nothing else is."""

from __future__ import annotations

import asyncio

import pytest
from tests.effort import SHARE, clients
from tests.faults.kinesis_run import LEASE, Run, eventually, new_topic, some_items
from tests.faults.kinesis_worker import Item, Work
from tests.servers import Handle
from tests.slowness import slowness

pytestmark = pytest.mark.faults

MOST = 4
"""Deliveries after which it is dead."""

COUNT = 200 if SHARE >= 1.0 else 60
"""Records before and after it; the more there are before it, the more often it kills as no suspect yet."""


async def keep_running(run: Run, dead: int) -> int:
    """Start a worker again whenever it ends by itself, until so many letters are there; how often."""
    starts = 0
    done = asyncio.create_task(eventually(lambda: _has_letters(run, dead), 0.5))
    while not done.done():
        (worker,) = await run.start()
        starts += 1
        ended = asyncio.create_task(worker.process.wait())
        await asyncio.wait([done, ended], return_when=asyncio.FIRST_COMPLETED)
        if ended.done():
            worker.broken = True
            assert ended.result() == 9
        else:
            ended.cancel()
    return starts


async def _has_letters(run: Run, count: int) -> bool:
    return len(await run.dead()) >= count


@pytest.mark.timeout(240)
@pytest.mark.parametrize(("shards", "pause"), clients((2, 0.05), (1, 0.002)))
async def test_a_record_that_kills_its_process_is_dead_in_the_end(ministack: Handle, shards: int, pause: float) -> None:
    """Restarted over and over; slow neighbours are in hand too when it dies."""
    killer = COUNT * 3 // 4
    items = [Item(n=item.n, key=item.key, kills=item.n == killer) for item in some_items(COUNT, keys=40)]
    work = Work(topic=new_topic(), pause=pause, deliveries=MOST)
    lease = f"&lease={LEASE / 2}"  # each death is waited for
    run = Run(ministack.url, ministack.url, work, shards=shards, options=lease)
    async with run, asyncio.timeout(220 * slowness()):
        (first,) = await run.start()  # its group begins before anything is sent
        await run.publish(items)
        first.broken = True
        assert await first.process.wait() == 9
        await keep_running(run, 1)
        assert await run.dead() == [killer]
        await run.handled(len(items) - 1)
        await eventually(run.drained)
        more = [Item(n=COUNT + n, key=f"k{n % 40}") for n in range(COUNT)]
        await run.publish(more)  # the shard goes on, at its usual speed
        await run.handled(len(items) + len(more) - 1)
        await eventually(run.drained)
        await run.stop()
        kills = [line for line in run.of[killer] if line.event == "begin"]
        assert MOST <= len(kills) <= MOST + 6  # those before it was a suspect don't count
        sound = [item for item in [*items, *more] if item.n != killer]
        assert run.done == {item.n for item in sound}
        assert run.disorder(sound) == []
        assert run.unexplained() == []
        assert run.books.went_back() == []
        assert await run.dead() == [killer]
