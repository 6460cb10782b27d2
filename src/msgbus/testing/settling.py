"""Lets a bus come to rest: waits where something real is going on, turns the virtual clock where nothing is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence

from msgbus.brokers.memory.hub import Hub
from msgbus.brokers.memory.queue import MemoryQueue
from msgbus.clock import Clock
from msgbus.consuming.runner import Runner
from msgbus.errors import Timeout
from msgbus.testing.recorder import Recorder
from msgbus.testing.records import RUN, Run
from msgbus.testing.virtual import VirtualClock

_QUIET = 10  # turns of the loop without any change: what is ready has run
_LOOK = 0.001  # real seconds between two looks at something that waits for the world outside
_LONG = 60.0  # idle virtual seconds that are worth a jump
_BEFORE = 1.0  # virtual seconds before something is due that a jump ends: from there on, every timer rings on time


class NotSettled(Timeout):
    """The patience of a test is over; the text says what is still pending."""


class Pacer:
    """Watches the embedded broker and the handlers on it, and paces the clock.

    The virtual clock moves only while every running handler waits for the bus itself (a publish, a request, a sleep
    on the bus's clock): one that waits for something real would see its deadlines pass in no time.
    """

    def __init__(self, hub: Hub, runners: Sequence[Runner], recorder: Recorder, clock: Clock) -> None:
        self._hub = hub
        self._runners = runners
        self._recorder = recorder
        self._clock = clock
        self._lingered = -1  # the recorder's version when settlements had their time
        self._virtual = clock if isinstance(clock, VirtualClock) else None

    def pending(self) -> bool:
        """Whether anything that was published has not come to its end."""
        recorder = self._recorder
        if recorder.sending or recorder.hooks or recorder.running:
            return True
        return any(queue.depth or queue.in_flight for queue in self._queues())

    async def until(self, done: Callable[[], bool], patience: float) -> None:
        """Until `done()`. Raises NotSettled after `patience` seconds of real time."""
        give_up = time.monotonic() + patience
        while True:
            await self._calm(give_up)
            if done():
                return
            if time.monotonic() >= give_up:
                raise NotSettled(self.describe(patience))
            if not await self._move():
                await asyncio.sleep(_LOOK)

    async def advance(self, clock: VirtualClock, seconds: float) -> None:
        """Turn the clock by hand, however long handlers take; but what is decided at a time is settled at it."""
        target = clock.now() + max(0.0, seconds)
        await self._calm()
        await self._settle()
        while (due := clock.next_due) is not None and due <= target:
            await clock.step()
            await self._settle()
        await clock.advance(target - clock.now())

    async def _settle(self) -> None:
        while await self._linger():
            await self._calm()

    async def _linger(self) -> bool:
        """Settlements are gathered for a moment of real time: let it pass; False where nothing was decided since."""
        if self._lingered == self._recorder.version:
            return False
        self._lingered = self._recorder.version
        await asyncio.sleep(max((r.subscription.capabilities.settle_linger for r in self._runners), default=0.0))
        return True

    async def _calm(self, give_up: float = float("inf")) -> None:
        """Until nothing has happened for some turns of the loop."""
        before, quiet = self._state(), 0
        while quiet < _QUIET and time.monotonic() < give_up:
            await asyncio.sleep(0)
            now = self._state()
            quiet = quiet + 1 if now == before else 0
            before = now

    def _state(self) -> tuple[int, ...]:
        queues = list(self._queues())
        return (
            self._recorder.version,
            self._virtual.version if self._virtual is not None else 0,
            sum(queue.depth for queue in queues),
            sum(len(queue.in_flight) for queue in queues),
        )

    def _queues(self) -> Iterator[MemoryQueue]:
        """What somebody reads: the subscriptions and the reply inboxes, not the dead letters."""
        for runner in self._runners:
            queue = self._hub.queues.get(runner.subscription.source.address)
            if queue is not None:
                yield queue
        yield from (queue for address, queue in self._hub.queues.items() if address.kind == "reply")

    # -- the clock

    async def _move(self) -> bool:
        """Go on in time; False where nobody but the world outside can."""
        if self._virtual is None or self._waits_for_the_world(self._virtual):
            return False
        return await self._linger() or await self._turn(self._virtual)

    def _waits_for_the_world(self, clock: VirtualClock) -> bool:
        """A request whose deadline lies before the next timer is over: its handler goes on with something else."""
        next_timer = 0.0 if clock.next_due is None else clock.next_due - clock.now()
        waiting = {context.get(RUN) for context in clock.sleepers}.union(self._recorder.asking(next_timer))
        return any(not run.sending and run not in waiting for run in self._recorder.running)

    async def _turn(self, clock: VirtualClock) -> bool:
        """To the next timer, or near to the next message where only delayed ones are left; False without a timer."""
        due = self._next_message()
        if due is not None and (idle := due - clock.now()) > _LONG:
            await clock.jump(idle - _BEFORE)
            return True
        return await clock.step()

    def _next_message(self) -> float | None:
        """When the next delayed message is due, if until then there is nothing to do but to keep the bus open."""
        recorder = self._recorder
        if recorder.running or recorder.sending or recorder.hooks or recorder.asking():
            return None
        if any(queue.in_flight for queue in self._queues()) or any(self._is_slowed(r) for r in self._runners):
            return None
        return recorder.next_due()

    @staticmethod
    def _is_slowed(runner: Runner) -> bool:
        """By a breaker or a rate, so that a message may wait that is not delayed."""
        breaker = runner.policy.breaker
        is_limited = runner.subscription.options.limits.rate is not None
        return is_limited or (breaker is not None and not breaker.is_closed)

    # -- what to say

    def describe(self, patience: float) -> str:
        """What is still pending, for whoever reads the failed test."""
        clock = f"{self._clock.now():.3f} s on the virtual clock" if self._virtual is not None else "the real clock"
        lines = [f"not settled within {patience:g} s of real time, at {clock}. Still pending:"]
        lines += [f"  - {line}" for runner in self._runners for line in self._about(runner)]
        if self._recorder.sending:
            lines.append(
                f"  - {self._recorder.sending} calls of the broker's send that wait, for room or for their key"
            )
        if asking := self._recorder.asking():
            lines.append(f"  - {len(asking)} requests without a reply")
        if self._recorder.hooks:
            lines.append(f"  - {self._recorder.hooks} on_dead hooks that run")
        if self._virtual is not None and self._waits_for_the_world(self._virtual):
            lines.append(
                "A handler that waits for something other than the bus holds the virtual clock:"
                " let that happen, or turn the clock by hand with `await test.advance(seconds)`."
            )
        return "\n".join(lines)

    def _about(self, runner: Runner) -> Iterator[str]:
        source = runner.subscription.source
        queue = self._hub.queues.get(source.address)
        waiting, in_hand = (queue.depth, len(queue.in_flight)) if queue is not None else (0, 0)
        attempts = [a for a in self._recorder.attempts if a.delivery.source == source]
        retries = [a for a in attempts if a.outcome == "retried"]
        if waiting or in_hand:
            after = f", after {len(retries)} retries, the last for {retries[-1].error!r}" if retries else ""
            yield f"{source}: {waiting} waiting or delayed, {in_hand} in hand{after}"
        for run in self._recorder.running:
            if any(attempt in attempts for attempt in run.attempts):
                yield f"{source}: {_about_run(run)}"


def _about_run(run: Run) -> str:
    seconds = time.monotonic() - run.since
    attempt = max(attempt.number for attempt in run.attempts)
    return f"{run.name} has run for {seconds:.1f} s of real time (attempt {attempt})"
