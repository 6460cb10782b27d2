"""The demo's script: the shop opens, is restarted in the middle of a rush, redrives its dead letters and finishes."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable

from examples.shop import shipping
from examples.shop.app import bus
from examples.shop.demo.story import Stop, Story
from examples.shop.demo.tally import Row, Tally
from examples.shop.demo.traffic import Customers

from msgbus.dead import DeadLetters

_ASKING = 8  # customers that ask for prices at the same time
_PATIENCE = 10.0  # seconds without any progress, after which what is open counts as lost
_LOOK_EVERY = 0.02


class Script:
    """Plays the story once, in about `seconds`. The customers' bus is open all the time, the shop's is not."""

    def __init__(self, story: Story, tally: Tally, customers: Customers, seconds: float, rate: float) -> None:
        self._story = story
        self._tally = tally
        self._customers = customers
        self._seconds = seconds
        self._rush = int(rate * seconds / 4)
        self._traffic: list[asyncio.Task[None]] = []

    async def play(self) -> None:
        """From the first order to the last."""
        async with asyncio.TaskGroup() as group:
            async with bus.consuming():
                self._story.enter("open", "the shop opens")
                self._begin_traffic(group)
                await self._share(0.35)
                await self._rush_hour()
                stopping, running = time.monotonic(), self._running()
            self._stopped(running, time.monotonic() - stopping)
            await self._share(0.1)
            shipping.fix_the_bug()
            async with bus.consuming():
                await self._catch_up()
                await self._redrive()
                await self._share(0.2)
                await self._finish()

    def _begin_traffic(self, group: asyncio.TaskGroup) -> None:
        customers = self._customers
        self._traffic = [group.create_task(customers.order())]
        self._traffic += [group.create_task(customers.ask()) for _ in range(_ASKING)]

    async def _rush_hour(self) -> None:
        self._story.enter("rush", f"a rush: {self._rush:,} orders at once")
        await self._customers.order_at_once(self._rush)
        await self._share(0.02)

    def _stopped(self, running: int, seconds: float) -> None:
        stats = [consumer.plan.stats for consumer in bus.consumers]
        stop = Stop(running, sum(s.released for s in stats), seconds)
        self._story.stop = stop
        self._story.enter(
            "stop",
            f"stopped in {seconds:.2f} s: {running} handlers ended, {stop.released:,} unstarted messages went back",
        )

    async def _catch_up(self) -> None:
        """The work that the stop left, and what came since."""
        left = {row: row.missing() for row in self._tally.rows.values()}
        self._story.waiting_at_restart = sum(map(len, left.values()))
        self._story.enter(
            "restart", f"started again, with shipping's bug fixed: {self._story.waiting_at_restart:,} wait"
        )
        began, enough = time.monotonic(), 0.2 * self._seconds
        await self._until(lambda: all(row.is_done(one) for row, ids in left.items() for one in ids))
        self._story.caught_up_in = time.monotonic() - began
        self._story.say(f"caught up after {self._story.caught_up_in:.2f} s")
        await asyncio.sleep(enough - self._story.caught_up_in)

    async def _redrive(self) -> None:
        self._story.enter("redrive", "the dead letters go back to where they came from")
        for row in self._tally.rows.values():
            letters = _letters(row)
            for letter in await letters.peek(1):
                self._story.say(
                    f"{row.name}: dead after {letter.attempts} attempts, {letter.error_type}: {letter.reason}"
                )
            done = await letters.redrive()
            if done.moved or done.failed:
                self._story.say(f"{row.name}: {done.moved} sent back, {len(done.failed)} could not be")

    async def _finish(self) -> None:
        """No more orders. Everything that is in the shop is worked off, and counted."""
        self._story.enter("finish", "the customers go home")
        self._customers.shopping = False  # not cancelled: what becomes of a publish in mid-air would be unknown
        await asyncio.wait(self._traffic)
        await self._until(lambda: not self._tally.open() and not self._running())
        for row in self._tally.rows.values():
            row.letters = await _letters(row).count() or 0
        self._story.end()

    def _running(self) -> int:
        return sum(row.running for row in self._tally.rows.values())

    async def _until(self, done: Callable[[], bool]) -> None:
        """Look again and again, for the tally rings no bell; give up when nothing has moved for a while."""
        progress, seen = self._progress(), time.monotonic()
        for _ in itertools.takewhile(lambda _: not done(), itertools.count()):
            await asyncio.sleep(_LOOK_EVERY)
            if (now := self._progress()) != progress:
                progress, seen = now, time.monotonic()
            elif time.monotonic() - seen > _PATIENCE:
                break

    def _progress(self) -> int:
        return sum(row.started + len(row.handled) for row in self._tally.rows.values())

    async def _share(self, share: float) -> None:
        await asyncio.sleep(share * self._seconds)


def _letters(row: Row) -> DeadLetters:
    return DeadLetters(bus, f"{row.topic}/{row.source.group}", wait=0.1)
