"""One open receiver at work: poller, lanes, workers, lease, settler. It lives and dies with its receiver."""

from __future__ import annotations

import asyncio
import contextvars
import types
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

from msgbus import backoff
from msgbus.broker import Capabilities, Receiver
from msgbus.clock import Alarms, Call, Clock
from msgbus.context import CURRENT
from msgbus.envelope import Open
from msgbus.errors import BusError, Disconnected, LeaseLost, ReceiverClosed, Reject, Timeout
from msgbus.flow import BreakerState, Rate, Window
from msgbus.lanes import Lanes
from msgbus.lease import Heartbeat
from msgbus.message import Act, Delivery, Settlement, Source
from msgbus.middleware import Handle, HandleBatch
from msgbus.options import Options
from msgbus.policy import Policy
from msgbus.settle import Settler

_WAIT = 20.0  # seconds of one `receive`; stop() ends it earlier


@dataclass(slots=True)
class Stats:
    """Counts of one subscription since the start, for health, tests and metrics."""

    received: int = 0
    handled: int = 0
    retried: int = 0
    dead: int = 0
    released: int = 0
    lost: int = 0
    skipped: int = 0


@dataclass(slots=True, kw_only=True)
class Plan:
    """All that a session must know about a subscription."""

    source: Source
    capabilities: Capabilities
    handle: Handle
    policy: Policy
    options: Options
    concurrency: int
    prefetch: int
    open: Open | None = None
    last_word: Callable[[Delivery, Exception], Awaitable[bool]] | None = None  # True: told the requester, so ACK
    handle_batch: HandleBatch | None = None
    breaker: BreakerState | None = None
    on_dead: Sequence[Callable[[Delivery, Exception], Awaitable[None]]] = ()
    stats: Stats = field(default_factory=Stats)


class Worker:
    """A long-lived task that handles one delivery (or batch) after the other."""

    __slots__ = ("deliveries", "interruption", "task", "wake")

    def __init__(self) -> None:
        self.deliveries: Sequence[Delivery] = ()
        self.interruption: Exception | None = None
        self.task: asyncio.Task[None]
        self.wake: asyncio.Future[None] | None = None

    def interrupt(self, error: Exception) -> None:
        """Cancel the handler that runs now, and it alone; it counts as having raised `error`."""
        if self.deliveries and self.interruption is None:
            self.interruption = error
            self.task.cancel()

    def take_interruption(self) -> Exception | None:
        """The error that the cancellation of this task stands for; the task is no longer being cancelled."""
        error, self.interruption = self.interruption, None
        if error is not None:
            self.task.uncancel()
        return error


class Session:
    """Runs one receiver until it dies or is stopped."""

    def __init__(self, plan: Plan, receiver: Receiver, clock: Clock, alarms: Alarms) -> None:
        self.in_hand: dict[Delivery, float] = {}  # every unsettled delivery, and when it came: room is counted here
        self._plan = plan
        self._receiver = receiver
        self._clock = clock
        self._alarms = alarms
        self._ready: deque[Delivery] = deque()
        self._lanes: Lanes[Delivery] = Lanes()
        self._held: dict[Delivery, Call] = {}
        self._workers: list[Worker] = []
        self._idle: list[Worker] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._settler = Settler(receiver, plan.capabilities, clock, self._settled, alarms.loop)
        self._window = Window(plan.concurrency, plan.prefetch)
        limits = plan.options.limits
        self._rate = Rate(limits.rate) if limits.rate is not None else None
        self._timeout = limits.timeout
        self._open, self._handle, self._max_deliveries = plan.open, plan.handle, plan.policy.max_deliveries
        self._context = contextvars.copy_context()
        self._stopping = False
        self._poll_again: asyncio.Future[None] | None = None
        self._batch_wait: asyncio.Future[None] | None = None
        self._drained: asyncio.Future[None] | None = None
        self._over: asyncio.Future[None] = alarms.loop.create_future()

    @property
    def running(self) -> int:
        """Handlers that run now."""
        return sum(1 for worker in self._workers if worker.deliveries)

    async def run(self) -> None:
        """Until `stop` has drained it. Raises Disconnected or ReceiverClosed when the receiver died, else a bug."""
        self._spawn(self._poll())
        for _ in range(self._plan.capabilities.settle_slots):
            self._spawn(self._settler.run())
        if self._plan.capabilities.lease is not None and self._plan.capabilities.lease_extends:
            heartbeat = Heartbeat(self._plan, self._receiver, self._clock, self.in_hand, self._lost)
            self._spawn(heartbeat.run())
        try:
            await self._over
        finally:
            await self._cancel_all()

    async def stop(self, grace: float) -> None:
        """Soft: take nothing new, release what is unstarted, let running handlers end. After `grace`: cancel them."""
        self._stopping = True
        await self._receiver.stop()
        self._wake_poller()
        self._release_unstarted()
        if not await self._idle_within(grace):
            for worker in self._workers:
                worker.interrupt(Timeout(f"stopped while running, after {grace:g} s of grace"))
            await self._idle_within(5.0)
        flush = asyncio.ensure_future(self._settler.flush())
        await asyncio.wait([flush, self._over], timeout=10.0, return_when=asyncio.FIRST_COMPLETED)
        flush.cancel()
        if not self._over.done():
            self._over.set_result(None)

    # -- taking in

    async def _poll(self) -> None:
        failures = 0
        while limit := self._room() or await self._wait_for_room():
            try:
                batch = await self._receiver.receive(limit, _WAIT)
            except (Disconnected, ReceiverClosed):
                raise
            except BusError as error:
                failures += 1
                await self._pause(error, failures)
                continue
            failures = 0
            if batch:
                self._take(batch)
        while batch := await self._receiver.receive(self._plan.capabilities.receive_batch, 0.0):
            self._plan.stats.received += len(batch)
            self._release(batch)

    async def _pause(self, error: BusError, failures: int) -> None:
        asked = getattr(error, "retry_after", None) or 0.0
        await self._clock.sleep(asked + backoff.delay(failures, 0.1, longest=10.0))

    def _room(self) -> int:
        """How many deliveries may be asked for now; 0 for none.

        While workers have something to do, a nearly full window is left to empty: fewer, fuller receives.
        """
        plan, window = self._plan, self._window.size
        room = window - len(self.in_hand)
        if room <= 0 or self._stopping or (self._ready and room <= window // 4):
            return 0
        if plan.breaker is not None and not plan.breaker.is_closed:
            room = 0 if self.in_hand or plan.breaker.wait(self._clock.now()) else 1
        elif self._rate is not None:
            room = min(room, self._rate.available(self._clock.now()))
        return min(room, plan.capabilities.receive_batch)

    async def _wait_for_room(self) -> int:
        """Room for at least one; 0 when stopping."""
        while not self._stopping:
            if room := self._room():
                return room
            wait = None
            if self._plan.breaker is not None and not self._plan.breaker.is_closed:
                wait = self._plan.breaker.wait(self._clock.now()) or None
            elif self._rate is not None:
                wait = self._rate.wait() or None
            await self._until_room(wait)
        return 0

    async def _until_room(self, wait: float | None) -> None:
        self._poll_again = self._alarms.loop.create_future()
        alarm = self._alarms.call(wait, self._wake_poller) if wait is not None else None
        try:
            await self._poll_again
        finally:
            self._poll_again = None
            if alarm is not None:
                alarm.cancel()

    def _wake_poller(self) -> None:
        if self._poll_again is not None and not self._poll_again.done():
            self._poll_again.set_result(None)

    def _take(self, batch: Sequence[Delivery]) -> None:
        self.in_hand.update(dict.fromkeys(batch, self._clock.now()))
        self._plan.stats.received += len(batch)
        if self._rate is not None:
            self._rate.take(len(batch))
        if self._plan.source.ordered:
            for delivery in batch:
                if delivery.lane is None or self._lanes.enter(delivery.lane, delivery):
                    self._ready.append(delivery)
        else:
            self._ready.extend(batch)
        self._wake_worker()

    # -- handling

    def _wake_worker(self) -> None:
        """One worker is enough while handlers don't wait; a worker whose handler does wakes the next one."""
        if self._batch_wait is not None and not self._batch_wait.done():
            self._batch_wait.set_result(None)
        elif self._idle:
            wake = self._idle.pop().wake
            if wake is not None and not wake.done():
                wake.set_result(None)
        elif len(self._workers) < self._plan.concurrency:
            worker = Worker()
            self._workers.append(worker)
            work = self._work if self._plan.handle_batch is None else self._work_batches
            worker.task = self._spawn(work(worker))

    async def _work(self, worker: Worker) -> None:
        ready, in_hand, timeout = self._ready, self.in_hand, self._timeout
        copy_context, settle, acknowledged = self._context.copy, self._settler.add, Act.ACK
        leave = self._lanes.leave
        while True:
            while ready:
                delivery = ready.popleft()
                if delivery not in in_hand:  # its lease was lost while it waited
                    self._next_in_lane(delivery)
                    continue
                worker.deliveries = (delivery,)
                alarm = None if timeout is None else self._time_limit(worker, timeout)
                coroutine = self._process(delivery, worker)
                context = copy_context()
                try:
                    awaited = context.run(coroutine.send, None)
                except StopIteration as done:
                    settlement = done.value
                else:
                    if ready:
                        self._wake_worker()
                    settlement = await _resume(coroutine, context, awaited)
                if alarm is not None:
                    alarm.cancel()
                worker.deliveries = ()
                if settlement is None or settlement.act is not acknowledged:
                    self._finish(delivery, settlement)
                    continue
                settle(settlement)
                if delivery.lane is not None and (following := leave(delivery.lane)) is not None:
                    ready.append(following)
            await self._rest(worker)

    async def _work_batches(self, worker: Worker) -> None:
        while True:
            while self._ready:
                batch = await self._gather_batch()
                if not batch:
                    continue
                worker.deliveries = batch
                alarm = None if self._timeout is None else self._time_limit(worker, self._timeout)
                settlements = await self._process_batch(batch, worker)
                if alarm is not None:
                    alarm.cancel()
                worker.deliveries = ()
                for delivery, settlement in zip(batch, settlements, strict=True):
                    self._finish(delivery, settlement)
            await self._rest(worker)

    def _rest(self, worker: Worker) -> asyncio.Future[None]:
        """What an idle worker awaits."""
        worker.wake = wake = self._alarms.loop.create_future()
        self._idle.append(worker)
        if self._stopping:
            self._notice_drained()
        return wake

    def _time_limit(self, worker: Worker, seconds: float) -> Call:
        return self._alarms.call(
            seconds, lambda: worker.interrupt(Timeout(f"the handler ran longer than {seconds:g} s"))
        )

    async def _process(self, delivery: Delivery, worker: Worker) -> Settlement | None:
        """Runs in a context of its own, in the worker's task. Whatever raises counts as an attempt."""
        CURRENT.set(delivery)
        try:
            if delivery.deliveries > self._max_deliveries:
                raise Reject(f"delivered {delivery.deliveries} times without being settled: it may kill its process")
            if self._open is not None:
                self._open(delivery)
            await self._handle(delivery)
            if worker.interruption is not None:  # the handler swallowed its cancellation and succeeded
                worker.take_interruption()
        except Exception as error:
            return await self._give_up(delivery, worker.take_interruption() or error)
        except asyncio.CancelledError:
            interruption = worker.take_interruption()
            if interruption is None:
                raise
            return await self._give_up(delivery, interruption)
        return Settlement(delivery, Act.ACK)

    async def _give_up(self, delivery: Delivery, error: Exception) -> Settlement | None:
        plan = self._plan
        if plan.last_word is not None and plan.policy.is_final(delivery, error) and not isinstance(error, LeaseLost):
            try:
                if await plan.last_word(delivery, error):
                    return Settlement(delivery, Act.ACK)
            except Exception as failure:
                return self._failed(delivery, failure)
        return self._failed(delivery, error)

    def _failed(self, delivery: Delivery, error: Exception) -> Settlement | None:
        if self._plan.breaker is not None:
            self._plan.breaker.failed(error, self._clock.now())
        return self._plan.policy.failed(delivery, error)

    def _finish(self, delivery: Delivery, settlement: Settlement | None) -> None:
        if settlement is None:
            self.in_hand.pop(delivery, None)
            self._plan.stats.lost += 1
            self._next_in_lane(delivery)
        elif settlement.act is Act.RETRY:
            self._retry(settlement)
        else:
            self._settler.add(settlement)
            if delivery.lane is not None:
                self._next_in_lane(delivery)

    # -- batches

    async def _gather_batch(self) -> list[Delivery]:
        """What is ready, up to the batch's size, after waiting a little for more."""
        options = self._plan.options.batch
        if len(self._ready) < options.size and options.wait and not self._stopping:
            give_up = self._clock.now() + options.wait
            while len(self._ready) < options.size and (left := give_up - self._clock.now()) > 0:
                self._batch_wait = self._alarms.loop.create_future()
                alarm = self._alarms.call(left, self._wake_worker)
                try:
                    await self._batch_wait
                finally:
                    self._batch_wait = None
                    alarm.cancel()
        taken = [self._ready.popleft() for _ in range(min(options.size, len(self._ready)))]
        if self._ready:
            self._wake_worker()
        return [delivery for delivery in taken if delivery in self.in_hand]

    async def _process_batch(self, batch: list[Delivery], worker: Worker) -> list[Settlement | None]:
        handle = self._plan.handle_batch
        assert handle is not None  # noqa: S101 - this worker exists because of it
        try:
            for delivery in batch:
                if self._plan.open is not None:
                    self._plan.open(delivery)
            results = await _in_context(handle(batch), self._context.copy())
        except Exception as error:
            results = [worker.take_interruption() or error] * len(batch)
        except asyncio.CancelledError:
            interruption = worker.take_interruption()
            if interruption is None:
                raise
            results = [interruption] * len(batch)
        return [
            Settlement(delivery, Act.ACK) if error is None else self._failed(delivery, error)
            for delivery, error in zip(batch, results, strict=True)
        ]

    # -- retrying

    def _retry(self, settlement: Settlement) -> None:
        """In place, held in hand, or given back: whichever keeps the order and the broker can."""
        delivery, delay = settlement.delivery, settlement.delay
        if self._stopping:
            self._give_back(settlement)
        elif delay <= 0 or self._must_hold(delay):
            delivery.attempt += 1
            self._held[delivery] = self._alarms.call(delay, lambda: self._resume_held(delivery))
            self._plan.stats.retried += 1
        else:
            self._give_back(settlement)

    def _must_hold(self, delay: float) -> bool:
        capabilities = self._plan.capabilities
        if capabilities.retry_delay is None:
            return True
        if not self._plan.source.ordered:
            return False
        return not capabilities.retry_keeps_order or delay <= self._plan.options.lease.hold

    def _resume_held(self, delivery: Delivery) -> None:
        self._held.pop(delivery, None)
        self._ready.append(delivery)
        self._wake_worker()

    def _give_back(self, settlement: Settlement) -> None:
        """To the broker, and with it all that waits behind it: order is kept only if they go together."""
        if self._plan.capabilities.retry_delay is None:
            settlement = Settlement(settlement.delivery, Act.RELEASE)
        self._settler.add(settlement)
        lane = settlement.delivery.lane
        if lane is not None:
            self._release(self._lanes.clear(lane))

    def _next_in_lane(self, delivery: Delivery) -> None:
        if delivery.lane is None:
            return
        following = self._lanes.leave(delivery.lane)
        if following is not None:
            self._ready.append(following)
            self._wake_worker()

    # -- letting go

    def _settled(self, batch: Sequence[Settlement], results: Sequence[BusError | None] | None) -> None:
        in_hand, acknowledged = self.in_hand, 0
        for place, settlement in enumerate(batch):
            in_hand.pop(settlement.delivery, None)
            if settlement.act is Act.ACK and results is None:
                acknowledged += 1
            else:
                self._count(settlement, None if results is None else results[place])
        self._plan.stats.handled += acknowledged
        if acknowledged and self._plan.breaker is not None:
            self._plan.breaker.succeeded()
        self._window.handled(len(batch), self._clock.now())
        if self._poll_again is not None:
            self._wake_poller()

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
            self._tell_dead(settlement)

    def _tell_dead(self, settlement: Settlement) -> None:
        error = Reject(settlement.reason)
        for hook in self._plan.on_dead:
            self._spawn(_quietly(hook(settlement.delivery, error)))

    def _release(self, deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            self._settler.add(Settlement(delivery, Act.RELEASE))

    def _release_unstarted(self) -> None:
        """In the order they came, so that a broker that puts them back one by one keeps it."""
        for alarm in self._held.values():
            alarm.cancel()
        unstarted = {*self._held, *self._ready, *self._lanes.clear_all()}
        self._held.clear()
        self._ready.clear()
        self._release([delivery for delivery in self.in_hand if delivery in unstarted])

    def _lost(self, delivery: Delivery, error: Exception) -> None:
        """Its lease can't be kept: cancel its handler, or forget it where it waits."""
        for worker in self._workers:
            if delivery in worker.deliveries:
                worker.interrupt(error)
                return
        if (alarm := self._held.pop(delivery, None)) is not None:
            alarm.cancel()
            self._next_in_lane(delivery)
        if isinstance(error, LeaseLost) and self.in_hand.pop(delivery, None) is not None:
            self._plan.stats.lost += 1
            self._wake_poller()

    async def _idle_within(self, seconds: float) -> bool:
        if self.running == 0:
            return True
        self._drained = self._alarms.loop.create_future()
        alarm = self._alarms.call(seconds, self._drain_over)
        await asyncio.wait([self._drained, self._over], return_when=asyncio.FIRST_COMPLETED)
        alarm.cancel()
        return self.running == 0

    def _notice_drained(self) -> None:
        if self.running == 0:
            self._drain_over()

    def _drain_over(self) -> None:
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    # -- tasks

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._alarms.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled() or self._over.done():
            return
        if (error := task.exception()) is not None:
            self._over.set_exception(error)

    async def _cancel_all(self) -> None:
        for alarm in self._held.values():
            alarm.cancel()
        for worker in self._workers:
            worker.interrupt(LeaseLost("the receiver is closed"))
        pending = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in pending:
            task.cancel()
        if pending:
            await asyncio.wait(pending)


@types.coroutine
def _resume(
    coroutine: Coroutine[Any, Any, Any], context: contextvars.Context, awaited: Any
) -> Generator[Any, Any, Any]:
    """Drive the rest of a coroutine in its own context, inside the awaiting task.

    A task per handler would isolate it too, at eight times the price; middlewares and handler stay in one task.
    """
    while True:
        try:
            sent = yield awaited
        except BaseException as error:
            step, value = coroutine.throw, error
        else:
            step, value = coroutine.send, sent
        try:
            awaited = context.run(step, value)
        except StopIteration as done:
            return done.value


async def _in_context(coroutine: Coroutine[Any, Any, Any], context: contextvars.Context) -> Any:
    try:
        awaited = context.run(coroutine.send, None)
    except StopIteration as done:
        return done.value
    return await _resume(coroutine, context, awaited)


async def _quietly(hook: Awaitable[None]) -> None:
    try:
        await hook
    except Exception:
        import logging

        logging.getLogger("msgbus.handler").exception("an on_dead hook failed")
