"""The demo's script: the shop opens, is restarted in the middle of a rush, redrives its dead letters and finishes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from examples.shop import shipping
from examples.shop.app import bus
from examples.shop.demo.story import Stop, Story
from examples.shop.demo.tally import Row, Tally
from examples.shop.demo.traffic import Customers

from msgbus.dead import DeadLetters

_ASKING = 8  # customers that ask for prices at the same time
_PATIENCE = 20.0  # seconds without any progress, after which what is open counts as lost
_LOOK_EVERY = 0.02


class Script:
    """Plays the story once, in about `seconds`, with `rate * seconds` orders; a quarter of them come in the rush.

    The customers' bus is open all the time, the shop's is not.
    """

    def __init__(self, story: Story, tally: Tally, customers: Customers, seconds: float, rate: float) -> None:
        self._story = story
        self._tally = tally
        self._customers = customers
        self._rush = int(rate * seconds / 4)
        self._steady = int(rate * seconds) - self._rush
        self._traffic: list[asyncio.Task[None]] = []

    async def play(self) -> None:
        """From the first order to the last."""
        async with asyncio.TaskGroup() as group:
            async with bus.consuming():
                self._story.enter("open", "the shop opens")
                self._begin_traffic(group)
                await self._placed(0.45)
                await self._until_the_bug_shows()
                await self._rush_hour()
                stopping, running = time.monotonic(), self._running()
            self._stopped(running, time.monotonic() - stopping)
            await self._placed(0.6)
            shipping.fix_the_bug()
            async with bus.consuming():
                await self._catch_up()
                await self._redrive()
                await self._placed(1.0)
                await self._finish()

    def _begin_traffic(self, group: asyncio.TaskGroup) -> None:
        customers = self._customers
        self._traffic = [group.create_task(customers.order(self._steady))]
        self._traffic += [group.create_task(customers.ask()) for _ in range(_ASKING)]

    async def _until_the_bug_shows(self) -> None:
        """A dead letter for the redrive, however slow the machine: an order without a rate comes early."""
        rows = self._tally.rows.values()
        await _none_of(lambda: 0 if any(row.dead for row in rows) else 1 + self._tally.started())

    async def _rush_hour(self) -> None:
        self._story.enter("rush", f"a rush: {self._rush:,} orders at once")
        await self._customers.order_at_once(self._rush)
        await asyncio.sleep(_LOOK_EVERY)

    def _stopped(self, running: int, seconds: float) -> None:
        stats = [consumer.subscription.stats for consumer in bus.runners]
        stop = Stop(running, sum(s.released for s in stats), seconds)
        self._story.stop = stop
        self._story.enter(
            "stop",
            f"stopped in {seconds:.2f} s: {running} handlers ended, {stop.released:,} unstarted messages went back",
        )

    async def _catch_up(self) -> None:
        """The work that the stop left, and what came since."""
        left = {row: row.missing() for row in self._tally.rows.values()}
        story = self._story
        story.waiting_at_restart = sum(map(len, left.values()))
        story.enter("restart", f"started again, with shipping's bug fixed: {story.waiting_at_restart:,} wait")

        def remaining() -> int:
            for row, ids in left.items():
                left[row] = {one for one in ids if not row.is_done(one)}
            return sum(map(len, left.values()))

        began = time.monotonic()
        if await _none_of(remaining):
            story.caught_up_in = time.monotonic() - began
            story.say(f"caught up after {story.caught_up_in:.2f} s")
        else:
            story.say(f"{remaining()} of them don't come")
        await self._placed(0.8)

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
        await _none_of(lambda: self._tally.open() + self._running())
        for row in self._tally.rows.values():
            row.letters = await _letters(row).count() or 0
        self._story.end()

    def _running(self) -> int:
        return sum(row.running for row in self._tally.rows.values())

    async def _placed(self, share: float) -> None:
        """Until that share of the steady orders was placed."""
        while self._customers.placed < share * self._steady:  # noqa: ASYNC110 - customers ring no bell either
            await asyncio.sleep(_LOOK_EVERY)


def _letters(row: Row) -> DeadLetters:
    return DeadLetters(bus, f"{row.topic}/{row.source.group}", wait=0.1)


async def _none_of(remaining: Callable[[], int]) -> bool:
    """Look again and again, for the tally rings no bell. False when the number has stood still for too long."""
    before, moved = remaining(), time.monotonic()
    while before and time.monotonic() - moved < _PATIENCE:
        await asyncio.sleep(_LOOK_EVERY)
        now = remaining()
        if now != before:
            before, moved = now, time.monotonic()
    return not before
