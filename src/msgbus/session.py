"""One open receiver at work: intake, lanes, workers, lease, settler. It lives and dies with its receiver."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Coroutine, Sequence
from typing import Any

from msgbus import headers as h
from msgbus.broker import KeepsLeases, Receiver
from msgbus.claim import BodyStore
from msgbus.clock import Alarms, Call, Clock
from msgbus.errors import BusError, LeaseLost, Reject, Unavailable
from msgbus.intake import Intake
from msgbus.lanes import Lanes
from msgbus.lease import Heartbeat
from msgbus.message import Act, Delivery, Settlement
from msgbus.plan import Plan
from msgbus.policy import Stopped
from msgbus.settle import Settler
from msgbus.worker import Workers

log = logging.getLogger("msgbus.session")

_ACK, _RETRY = Act.ACK, Act.RETRY
_HARD_STOP = 5.0  # seconds that cancelled handlers may take to end
_FLUSH = 10.0  # seconds that the last settlements may take


class Session:
    """Runs one receiver until it dies or is stopped.

    A delivery is in `in_hand` from its receipt until its settlement has a result: room is counted there and
    nowhere else, and the heartbeat keeps the lease of all of it.
    """

    def __init__(self, plan: Plan, receiver: Receiver, clock: Clock, alarms: Alarms) -> None:
        self.in_hand: dict[Delivery, float] = {}  # and when each came
        self._plan = plan
        self._receiver = receiver
        self._clock = clock
        self._alarms = alarms
        self._lanes: Lanes[Delivery] = Lanes()
        self._held: dict[Delivery, Call] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._hooks: set[asyncio.Task[None]] = set()
        self._workers = Workers(plan, alarms, self.in_hand, self._finish, self._spawn)
        self._intake = Intake(plan, receiver, clock, alarms, self.in_hand, self._workers.ready, self._hurry)
        self._settler = Settler(receiver, plan.capabilities, clock, self._settled, alarms.loop)
        self._settle = self._settler.add
        self._polling: asyncio.Task[None] | None = None
        self._stopping = False
        self._over: asyncio.Future[None] = alarms.loop.create_future()

    @property
    def running(self) -> int:
        """Handlers that run now."""
        return self._workers.running

    async def run(self) -> None:
        """Until `stop` has drained it. Raises Disconnected or ReceiverClosed when the receiver died, else a bug."""
        capabilities = self._plan.capabilities
        self._polling = self._spawn(self._intake.run(self._take, self._release_late))
        for slot in range(capabilities.settle_slots):
            self._spawn(self._settler.run(copies=slot > 0 or capabilities.settle_slots == 1))
        if capabilities.lease is not None and capabilities.lease_extends:
            self._spawn(Heartbeat(self._plan, self._receiver, self._clock, self.in_hand, self._lost).run())
        if isinstance(self._receiver, KeepsLeases):
            self._receiver.on_lost = self._lost
        try:
            await self._over
        finally:
            await self._cancel_all()

    async def stop(self, grace: float) -> None:
        """Soft: take nothing new, release what is unstarted, let running handlers end. After `grace`: cancel them."""
        self._stopping = True
        await self._intake.stop()
        self._release_unstarted()
        give_up = self._alarms.now() + grace
        if not await self._idle_within(grace):
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

    # -- what comes in

    def _take(self, batch: Sequence[Delivery]) -> None:
        self.in_hand.update(dict.fromkeys(batch, self._alarms.now()))
        self._plan.stats.received += len(batch)
        ready = self._workers.ready
        if self._plan.source.ordered:
            ready.extend(d for d in batch if d.lane is None or self._lanes.enter(d.lane, d))
        else:
            ready.extend(batch)
        self._workers.wake()

    def _release_late(self, batch: Sequence[Delivery]) -> None:
        """What came after the stop goes straight back."""
        self._plan.stats.received += len(batch)
        self._release(batch)

    def _hurry(self, starving: bool) -> None:
        self._settler.hurry = starving

    # -- what becomes of it

    def _finish(self, delivery: Delivery, settlement: Settlement | None) -> None:
        if settlement is None:
            self._forget(delivery, is_head=True)
            return
        if settlement.act is _RETRY:
            self._retry(settlement)
            return
        self._settle(settlement)
        if delivery.lane is not None and (following := self._lanes.leave(delivery.lane)) is not None:
            self._workers.ready.append(following)  # for the worker that has just finished

    def _forget(self, delivery: Delivery, *, is_head: bool) -> None:
        """Its lease is lost: nothing to settle. It comes again, and what waits behind it must wait for it."""
        if self.in_hand.pop(delivery, None) is not None:
            self._plan.stats.lost += 1
        if is_head and delivery.lane is not None:
            self._release(self._lanes.clear(delivery.lane))
        self._intake.look_again()

    def _retry(self, settlement: Settlement) -> None:
        """In place, held in hand, or given back: whichever keeps the order and the broker can."""
        delivery, delay = settlement.delivery, settlement.delay
        if not self._stopping and (delay <= 0 or self._must_hold(settlement)):
            delivery.attempt += 1
            delivery.headers = {**delivery.headers, **(settlement.headers or {})}
            self._held[delivery] = self._alarms.call(delay, lambda: self._resume_held(delivery))
            self._plan.stats.retried += 1
        else:
            self._give_back(settlement)

    def _must_hold(self, settlement: Settlement) -> bool:
        """Whether a retry waits in hand: where nothing else keeps the order, or would count as another delivery."""
        capabilities = self._plan.capabilities
        if capabilities.retry_delay is None:
            return True
        if isinstance(settlement.error, Unavailable):  # retried without a cap, which `max_deliveries` would be
            return capabilities.lease is None or capabilities.lease_extends
        if not self._plan.source.ordered:
            return False
        return not capabilities.retry_keeps_order or settlement.delay <= self._plan.options.lease.hold

    def _resume_held(self, delivery: Delivery) -> None:
        self._held.pop(delivery, None)
        self._workers.ready.append(delivery)
        self._workers.wake()

    def _give_back(self, settlement: Settlement) -> None:
        """To the broker, and with it all that waits behind it: order is kept only if they go together."""
        if self._plan.capabilities.retry_delay is None:
            settlement = Settlement(settlement.delivery, Act.RELEASE)
        self._settle(settlement)
        lane = settlement.delivery.lane
        if lane is not None:
            self._release(self._lanes.clear(lane))

    def _release(self, deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            self._settle(Settlement(delivery, Act.RELEASE))

    def _release_unstarted(self) -> None:
        """In the order they came, so that a broker that puts them back one by one keeps it."""
        for alarm in self._held.values():
            alarm.cancel()
        unstarted = {*self._held, *self._workers.ready, *self._lanes.clear_all()}
        self._held.clear()
        self._workers.ready.clear()
        self._release([delivery for delivery in self.in_hand if delivery in unstarted])

    def _settled(self, batch: Sequence[Settlement], results: Sequence[BusError | None] | None) -> None:
        in_hand, acknowledged = self.in_hand, 0
        for place, settlement in enumerate(batch):
            in_hand.pop(settlement.delivery, None)
            if settlement.act is _ACK and results is None:
                acknowledged += 1
            else:
                self._count(settlement, None if results is None else results[place])
        self._plan.stats.handled += acknowledged
        if self._plan.store is not None and self._plan.source.kind == "queue":
            self._forget_bodies(self._plan.store, batch, results)
        if acknowledged and self._plan.breaker is not None:
            self._plan.breaker.succeeded()
        self._intake.settled(len(batch))

    def _count(self, settlement: Settlement, result: BusError | None) -> None:
        stats = self._plan.stats
        if result is not None:
            stats.lost += isinstance(result, LeaseLost)
        elif settlement.act is Act.ACK:
            stats.handled += 1
        elif settlement.act is Act.RETRY:
            stats.retried += 1
        elif settlement.act is Act.RELEASE:
            stats.released += 1
        else:
            stats.dead += 1
            for hook in self._plan.on_dead:
                self._afterwards(hook(settlement.delivery, settlement.error or Reject(settlement.reason)))

    def _forget_bodies(
        self, store: BodyStore, batch: Sequence[Settlement], results: Sequence[BusError | None] | None
    ) -> None:
        """Only after the broker has the acknowledgement: a message that comes again needs its body."""
        for place, settlement in enumerate(batch):
            accepted = results is None or results[place] is None
            if accepted and settlement.act is _ACK and h.CLAIM in settlement.delivery.headers:
                self._afterwards(store.forget(settlement.delivery))

    def _afterwards(self, hook: Awaitable[None]) -> None:
        """Something to do after a settlement; a stop waits for it."""
        task = self._spawn(_quietly(hook))
        self._hooks.add(task)
        task.add_done_callback(self._hooks.discard)

    def _lost(self, delivery: Delivery, error: Exception) -> None:
        """Its lease can't be kept: cancel its handler, or forget it where it waits."""
        if self._workers.interrupt(error, delivery):
            return  # `_finish` is told when the handler has ended
        alarm = self._held.pop(delivery, None)
        is_head = alarm is not None or delivery in self._workers.ready
        if alarm is not None:
            alarm.cancel()
        elif is_head:
            self._workers.ready.remove(delivery)
        if isinstance(error, LeaseLost):
            self._forget(delivery, is_head=is_head)
        elif is_head:  # held for too long, unstarted
            self._give_back(Settlement(delivery, Act.RELEASE))

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

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and not self._over.done():
            self._over.set_exception(error)

    async def _cancel_all(self) -> None:
        """The receiver is gone, and with it every lease: a handler that goes on would work on another's message."""
        for alarm in self._held.values():
            alarm.cancel()
        if self.in_hand:
            self._plan.stats.lost += len(self.in_hand)
            log.warning("%s: %d deliveries in hand are lost with their receiver", self._plan.source, len(self.in_hand))
        self._workers.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            _, stuck = await asyncio.wait(self._tasks, timeout=_HARD_STOP)
            if stuck:
                log.error("%s: %d handlers don't end when cancelled", self._plan.source, len(stuck))


async def _quietly(hook: Awaitable[None]) -> None:
    try:
        await hook
    except Exception:
        log.exception("an on_dead hook, or deleting a stored body, failed")
