"""One open receiver at work: intake, workers, heartbeat, settler. It lives and dies with its receiver."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from msgbus.broker import KeepsLeases, Receiver, TellsItsEnd
from msgbus.clock import Alarms, Clock
from msgbus.consuming.fate import Fate
from msgbus.consuming.heartbeat import Heartbeat
from msgbus.consuming.intake import Intake
from msgbus.consuming.life import Life
from msgbus.consuming.policy import Policy, Stopped
from msgbus.consuming.results import Results
from msgbus.consuming.settler import Settler
from msgbus.consuming.workers import Workers
from msgbus.errors import ReceiverClosed
from msgbus.handlers.subscription import Subscription

log = logging.getLogger("msgbus.session")

_HARD_STOP = 5.0  # seconds that cancelled handlers may take to end
_HOUR = 3600.0  # for handlers that run when one message at a time is to be taken: nothing is wrong with them
_FLUSH = 10.0  # seconds that the last settlements may take


class Session:
    """Runs one receiver until it dies or is stopped.

    A delivery is in `in_hand` from its receipt until its settlement has a result: room is counted there and
    nowhere else, and the heartbeat keeps the lease of all of it.
    """

    def __init__(
        self,
        subscription: Subscription,
        policy: Policy,
        receiver: Receiver,
        clock: Clock,
        alarms: Alarms,
        life: Life,
    ) -> None:
        self._subscription = subscription
        self._receiver = receiver
        self._clock = clock
        self._alarms = alarms
        self._tasks: set[asyncio.Task[None]] = set()
        self._hooks: set[asyncio.Task[None]] = set()
        self._polling: asyncio.Task[None] | None = None
        self._turning: asyncio.Task[None] | None = None
        self._over: asyncio.Future[None] = alarms.loop.create_future()
        self._fate = fate = Fate(subscription, policy, alarms)
        self.in_hand = fate.in_hand
        self._workers = Workers(subscription, policy, alarms, fate, self._spawn)
        self._intake = Intake(subscription, policy, receiver, clock, alarms, fate, self._hurry, life)
        results = Results(subscription, policy.breaker, fate.in_hand, self._intake.settled, self._afterwards)
        self._settler = Settler(receiver, subscription.capabilities, clock, results, policy.after_refusal, alarms.loop)
        fate.join(
            wake=self._workers.wake,
            interrupt=self._workers.interrupt,
            settle=self._settler.add,
            look_again=self._intake.look_again,
            unsettled=lambda: self._settler.waiting,
            drop=self._settler.drop,
        )

    @property
    def running(self) -> int:
        """Handlers (or batches) that run now."""
        return self._workers.running

    @property
    def hooks(self) -> int:
        """What is done after settlements, now."""
        return len(self._hooks)

    async def run(self) -> None:
        """Until `stop` has drained it. Raises Disconnected or ReceiverClosed when the receiver died, else a bug."""
        capabilities = self._subscription.capabilities
        self._polling = self._spawn(self._intake.run())
        for slot in range(capabilities.settle_slots):
            self._spawn(self._settler.run(copies=slot > 0 or capabilities.settle_slots == 1))
        if capabilities.lease is not None and capabilities.lease_extends:
            self._spawn(Heartbeat(self._subscription, self._receiver, self._clock, self.in_hand, self._fate.lost).run())
        if isinstance(self._receiver, KeepsLeases):
            self._receiver.on_lost = self._fate.lost
        if isinstance(self._receiver, TellsItsEnd):
            self._receiver.on_end = self._died
        self._intake.turning.add_done_callback(self._turn)
        try:
            await self._over
        finally:
            await self._cancel_all()

    async def stop(self, grace: float) -> None:
        """Soft: take nothing new, release what is unstarted, let running handlers end. After `grace`: cancel them."""
        if self._over.done():  # it ends already: nobody would end what is begun now
            return
        give_up = self._alarms.now() + grace
        self._fate.stop()
        await self._within(max(_HARD_STOP, grace), self._spawn(self._intake.stop()))
        self._fate.release_unstarted()
        if not await self._idle_within(grace) and not self._over.done():  # else they are cancelled already
            self._workers.interrupt(Stopped(f"stopped while running, after {grace:g} s of grace"))
            await self._idle_within(_HARD_STOP)
        if self._polling is not None:  # what it brings must be given back
            await self._within(max(_HARD_STOP, give_up - self._alarms.now()), self._polling)
        flush = asyncio.ensure_future(self._settler.flush())
        await self._within(_FLUSH, flush)
        flush.cancel()
        if self._hooks:
            await asyncio.wait(self._hooks, timeout=_HARD_STOP)
        if not self._over.done():
            self._over.set_result(None)

    def _turn(self, turning: asyncio.Future[None]) -> None:
        if not turning.cancelled():
            self._turning = self._alarms.loop.create_task(self.stop(_HOUR))

    def _hurry(self, starving: bool) -> None:
        self._settler.hurry = starving

    def _afterwards(self, hook: Callable[[], Awaitable[None]]) -> None:
        """Something to do after a settlement; a stop waits for it."""
        task = self._spawn(_quietly(hook))
        self._hooks.add(task)
        task.add_done_callback(self._hooks.discard)

    # -- tasks and the end

    async def _idle_within(self, seconds: float) -> bool:
        """Whether every handler ends within so many seconds."""
        if self._workers.running:
            idle: asyncio.Future[None] = self._alarms.loop.create_future()
            self._workers.on_idle = lambda: None if self._workers.running or idle.done() else idle.set_result(None)
            await self._within(seconds, idle)
            self._workers.on_idle = None
        return self._workers.running == 0

    async def _within(self, seconds: float, *ends: asyncio.Future[None]) -> None:
        """Wait for any of them, or for the end of this session, or for so many seconds of the bus's clock."""
        late: asyncio.Future[None] = self._alarms.loop.create_future()
        alarm = self._alarms.call(seconds, lambda: None if late.done() else late.set_result(None))
        try:
            await asyncio.wait([*ends, self._over, late], return_when=asyncio.FIRST_COMPLETED)
        finally:
            alarm.cancel()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._alarms.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _died(self, error: Exception) -> None:
        """The receiver is dead, and intake may not ask it for long."""
        if not self._over.done():
            self._over.set_exception(error)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Nothing that a session needs ends without it: what is cancelled from within leaves no half of it behind."""
        self._tasks.discard(task)
        error = ReceiverClosed("a task of it was cancelled from within") if task.cancelled() else task.exception()
        if error is not None and not self._over.done() and task not in self._hooks:
            self._over.set_exception(error)

    async def _cancel_all(self) -> None:
        """The receiver is gone, and with it every lease: a handler that goes on would work on another's message."""
        self._fate.let_go()
        source = self._subscription.source
        if self.in_hand:
            self._subscription.stats.lost += len(self.in_hand)
            log.warning("%s: %d deliveries in hand are lost with their receiver", source, len(self.in_hand))
        self._workers.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            _, stuck = await asyncio.wait(self._tasks, timeout=_HARD_STOP)
            if stuck:
                log.error("%s: %d handlers don't end when cancelled", source, len(stuck))


async def _quietly(hook: Callable[[], Awaitable[None]]) -> None:
    try:
        await hook()
    except Exception:
        log.exception("an on_dead hook, or deleting a stored body, failed")
