"""Waits until a bus is at rest: nothing in hand, nothing on its way out, and nothing ready as far as brokers tell."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from msgbus.clock import Alarms, Clock
from msgbus.consuming.counts import stats_of
from msgbus.consuming.runner import Runner
from msgbus.errors import RETRYABLE, BusError, shown
from msgbus.message import Source
from msgbus.publishing.deadline import Deadline
from msgbus.publishing.link import Link

_PAUSE = 0.05  # seconds between two looks, at first
_LONGEST_PAUSE = 2.0  # a look may cost calls that a service pays for, and that its consumers need


class Rest:
    """Looks at a bus until it is at rest; printed, it is what the last look found."""

    def __init__(self, links: Sequence[Link], runners: Sequence[Runner], clock: Clock) -> None:
        self._links = links
        self._runners = [runner for runner in runners if runner.life.now.state != "stopped"]
        self._clock = clock
        self._found: list[str] = []
        self._unknown: list[Source] = []

    def __str__(self) -> str:
        return f"idle ({', '.join(self._found) or 'nothing found'})"

    async def reached(self) -> Sequence[Source]:
        """After two looks in a row that found nothing, and nothing came in between.

        What a broker has handed to its client is neither ready nor in hand for a moment.
        """
        pause, came = _PAUSE, -1
        while True:
            before, came = came, self._came()
            if not await self._look():
                if before == came == self._came():
                    return self._unknown
                await self._clock.sleep(_PAUSE)
                continue
            came = -1
            await self._clock.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _came(self) -> int:
        return sum(runner.subscription.stats.received for runner in self._runners)

    async def _look(self) -> list[str]:
        self._found = self._here()
        if not self._found:  # else there is no need to ask anybody
            answers = await asyncio.gather(*(self._there(runner) for runner in self._runners))
            self._found = [said for said in answers if said] or self._here()
        return self._found

    def _here(self) -> list[str]:
        """What this process has."""
        stats = stats_of(self._links, self._runners)
        held = [f"{each.source}: {each.in_hand} in hand" for each in stats.subscriptions if each.in_hand]
        busy = [each.subscription.source for each in self._runners if each.session and each.session.hooks]
        hooks = [f"{source}: hooks run" for source in busy]
        return [*held, *hooks, *(f"{each.broker}: sending" for each in stats.brokers if each.calls or each.waiting)]

    async def _there(self, runner: Runner) -> str:
        """What its broker has for a subscription; "" where that is nothing, or it can't tell."""
        source = runner.subscription.source
        if runner.life.now.state == "stopped":
            raise BusError(f"{source}: it was stopped while idle() waited")
        try:
            backlog = await runner.link.broker.admin.backlog(source)
        except RETRYABLE as error:
            return f"{source}: {shown(error)}"
        if backlog is None:
            self._unknown += [] if source in self._unknown else [source]
            return ""
        count = backlog.depth + (backlog.in_flight or 0)
        return f"{source}: {count} not handled yet" if count else ""


async def at_rest(
    links: Sequence[Link], runners: Sequence[Runner], clock: Clock, alarms: Alarms, timeout: float | None
) -> Sequence[Source]:
    """Wait for it. Raises Timeout with what is left after `timeout` seconds, and what a broker refuses to tell."""
    rest = Rest(links, runners, clock)
    if timeout is None:
        return await rest.reached()
    with Deadline(alarms, timeout, rest):
        return await rest.reached()
