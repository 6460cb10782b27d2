"""The workers of a session: long-lived tasks that run handlers, each delivery in a context of its own."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from typing import Any

from msgbus.clock import Alarms, Call
from msgbus.consuming.batches import Batches
from msgbus.consuming.fate import Fate
from msgbus.consuming.policy import Expired, Policy
from msgbus.consuming.worker import Worker, cancelled, raised, unfit
from msgbus.errors import BusError, LeaseLost, Timeout, shown
from msgbus.handlers.context import CURRENT, LOOP, resume
from msgbus.handlers.lifespan import YIELDED
from msgbus.handlers.subscription import Subscription
from msgbus.headers import EXPIRES
from msgbus.message import Act, Delivery, Settlement

_ACK = Act.ACK  # looked up once: an enum's members are dear to reach before Python 3.12

Spawn = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]


class Workers:
    """At most `subscription.concurrency` workers on one deque of ready deliveries.

    `fate` is told the end of each delivery. One worker is enough while handlers don't wait; a worker whose handler
    does wakes the next one.
    """

    def __init__(self, subscription: Subscription, policy: Policy, alarms: Alarms, fate: Fate, spawn: Spawn) -> None:
        self.on_idle: Callable[[], None] | None = None
        self._policy = policy
        self._alarms = alarms
        self._fate = fate
        self._ready = fate.ready
        self._spawn = spawn
        self._concurrency = subscription.concurrency
        self._last_word = subscription.last_word
        self._all: list[Worker] = []
        self._idle: list[Worker] = []
        self._gathering: asyncio.Future[None] | None = None
        self._closed = False
        self._context = contextvars.copy_context()
        self._context.run(LOOP.set, alarms.loop)
        self._context.run(YIELDED.set, subscription.yielded)
        self._timeout = subscription.options.limits.timeout
        self._open, self._handle = subscription.open, subscription.handle
        self._max_deliveries = policy.max_deliveries
        self._batch = subscription.options.batch
        self._batches = Batches(subscription, policy, self._context) if subscription.handle_batch is not None else None

    @property
    def running(self) -> int:
        """Handlers (or batches) that run now."""
        return sum(1 for worker in self._all if worker.deliveries)

    def wake(self) -> None:
        """There is something ready."""
        if self._gathering is not None:
            if not self._gathering.done():
                self._gathering.set_result(None)
        elif self._idle:
            wake = self._idle.pop().wake
            if wake is not None and not wake.done():
                wake.set_result(None)
        elif len(self._all) < self._concurrency:
            worker = Worker()
            self._all.append(worker)
            worker.task = self._spawn(self._live(worker))

    def interrupt(self, error: Exception, delivery: Delivery | None = None) -> bool:
        """Cancel the handler of `delivery`, or every one; False where it is not being handled."""
        found = False
        for worker in self._all:
            if delivery is None or delivery in worker.deliveries:
                worker.interrupt(error)
                found = True
        return found

    def close(self) -> None:
        """Start nothing more; the tasks are cancelled by whoever spawned them."""
        for worker in self._all:
            worker.closed = True
        self._closed = True
        self._ready.clear()

    async def _live(self, worker: Worker) -> None:
        """Until it is closed: a cancellation that is not ours ends no worker, and is nobody's but its handler's."""
        while True:
            try:
                await (self._work(worker) if self._batches is None else self._work_batches(worker, self._batches))
            except asyncio.CancelledError:
                if self._closed:
                    raise
                await worker.calm()
                self._forget_rest(worker)

    def _forget_rest(self, worker: Worker) -> None:
        if worker in self._idle:
            self._idle.remove(worker)

    async def _work(self, worker: Worker) -> None:
        ready, timeout, finish = self._ready, self._timeout, self._fate.finish
        copy_context = self._context.copy
        while True:
            while ready:
                delivery = ready.popleft()
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
                        self.wake()
                    settlement = await resume(coroutine, context, awaited)
                if alarm is not None:
                    alarm.cancel()
                worker.deliveries = ()
                if settlement is None:
                    self._fate.abandon(delivery)
                else:
                    finish(delivery, settlement)
            await self._rest(worker)

    def _rest(self, worker: Worker) -> asyncio.Future[None]:
        """What an idle worker awaits."""
        if self._closed:  # its handler swallowed the cancellation that was meant for the worker
            raise asyncio.CancelledError
        worker.wake = wake = self._alarms.loop.create_future()
        self._idle.append(worker)
        if self.on_idle is not None:
            self.on_idle()
        return wake

    def _time_limit(self, worker: Worker, seconds: float) -> Call:
        return self._alarms.call(seconds, lambda: worker.interrupt(Timeout(f"ran longer than {seconds:g} s")))

    async def _process(self, delivery: Delivery, worker: Worker) -> Settlement | None:
        """Open, decode, handle. Whatever raises counts as an attempt."""
        CURRENT.set(delivery)
        try:
            if delivery.fault is not None or delivery.deliveries > self._max_deliveries:
                raise unfit(delivery)
            if self._open is not None:
                self._open(delivery)
            if EXPIRES in delivery.headers and self._policy.has_expired(delivery):
                raise Expired
            await self._handle(delivery)
            if worker.interruption is not None or worker.task.cancelling():  # swallowed, or left behind
                await worker.calm()
        except asyncio.CancelledError:
            return await self._give_up(delivery, cancelled(worker), worker)
        except BaseException as error:
            return await self._give_up(delivery, worker.take_interruption() or raised(error), worker)
        return Settlement(delivery, _ACK)

    async def _give_up(self, delivery: Delivery, error: Exception, worker: Worker) -> Settlement | None:
        """The policy's decision; a requester is told when it is final."""
        last_word = self._last_word
        if worker.task.cancelling():
            await worker.calm()
        if last_word is not None and self._policy.is_final(delivery, error) and not isinstance(error, LeaseLost):
            try:
                if await last_word(delivery, error):
                    return Settlement(delivery, Act.ACK, error=error)
            except asyncio.CancelledError:
                return self._failed(delivery, cancelled(worker))
            except Exception as failure:
                return self._failed(delivery, failure)
        return self._failed(delivery, error)

    def _failed(self, delivery: Delivery, error: Exception) -> Settlement | None:
        if self._policy.breaker is not None and not isinstance(error, Expired):
            self._policy.breaker.failed(error, self._alarms.now())
        try:
            return self._policy.failed(delivery, error)
        except Exception as failure:  # an odd error must not end more than its message
            return self._policy.dead(delivery, BusError(f"its failure can't be judged: {shown(failure)}"))

    # -- batches

    async def _work_batches(self, worker: Worker, batches: Batches) -> None:
        while True:
            while self._ready:
                batch = await self._gather()
                worker.deliveries = batch
                if not batch:
                    continue
                alarm = None if self._timeout is None else self._time_limit(worker, self._timeout)
                results = await batches.outcomes(batch, worker)
                if alarm is not None:
                    alarm.cancel()
                worker.deliveries = ()
                for delivery, error in zip(batch, results, strict=True):
                    self._end(delivery, Settlement(delivery, _ACK) if error is None else self._failed(delivery, error))
            await self._rest(worker)

    async def _gather(self) -> list[Delivery]:
        """What is ready, up to the batch's size, after waiting a little for more."""
        options, ready = self._batch, self._ready
        give_up = self._alarms.now() + options.wait
        while self._gathering is None and len(ready) < options.size and (left := give_up - self._alarms.now()) > 0:
            self._gathering = self._alarms.loop.create_future()
            alarm = self._alarms.call(left, self.wake)
            try:
                await self._gathering
            finally:
                self._gathering = None
                alarm.cancel()
        taken = [ready.popleft() for _ in range(min(options.size, len(ready)))]
        if ready:
            self.wake()
        return taken

    def _end(self, delivery: Delivery, settlement: Settlement | None) -> None:
        if settlement is None:
            self._fate.abandon(delivery)
        else:
            self._fate.finish(delivery, settlement)
