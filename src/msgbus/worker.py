"""The workers of a session: long-lived tasks that run handlers, each delivery in a context of its own."""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import Callable, Container, Coroutine, Sequence
from typing import Any

from msgbus.clock import Alarms, Call
from msgbus.context import CURRENT
from msgbus.errors import BusError, LeaseLost, Reject, Timeout
from msgbus.isolated import isolated, resume
from msgbus.message import Act, Delivery, Settlement
from msgbus.plan import Plan

_ACK = Act.ACK  # looked up once: an enum's members are dear to reach before Python 3.12

Finish = Callable[[Delivery, Settlement | None], None]
Spawn = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]


class Worker:
    """One task, and what it handles now."""

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


class Workers:
    """At most `plan.concurrency` workers on one deque of ready deliveries.

    `finish(delivery, settlement)` is told the end of each; None: nothing can be settled any more. One worker is
    enough while handlers don't wait; a worker whose handler does wakes the next one.
    """

    def __init__(self, plan: Plan, alarms: Alarms, in_hand: Container[Delivery], finish: Finish, spawn: Spawn) -> None:
        self.ready: deque[Delivery] = deque()
        self.on_idle: Callable[[], None] | None = None
        self._plan = plan
        self._alarms = alarms
        self._in_hand = in_hand
        self._finish = finish
        self._spawn = spawn
        self._all: list[Worker] = []
        self._idle: list[Worker] = []
        self._gathering: asyncio.Future[None] | None = None
        self._closed = False
        self._context = contextvars.copy_context()
        self._timeout = plan.options.limits.timeout
        self._open, self._handle, self._max_deliveries = plan.open, plan.handle, plan.policy.max_deliveries

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
        elif len(self._all) < self._plan.concurrency:
            worker = Worker()
            self._all.append(worker)
            work = self._work if self._plan.handle_batch is None else self._work_batches
            worker.task = self._spawn(work(worker))

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
        self._closed = True
        self.ready.clear()

    async def _work(self, worker: Worker) -> None:
        ready, in_hand, timeout, finish = self.ready, self._in_hand, self._timeout, self._finish
        copy_context = self._context.copy
        while True:
            while ready:
                delivery = ready.popleft()
                if delivery not in in_hand:  # its lease was lost while it waited
                    finish(delivery, None)
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
                        self.wake()
                    settlement = await resume(coroutine, context, awaited)
                if alarm is not None:
                    alarm.cancel()
                worker.deliveries = ()
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
            if delivery.deliveries > self._max_deliveries:
                raise _too_often(delivery)
            if self._open is not None:
                self._open(delivery)
            await self._handle(delivery)
            if worker.interruption is not None:  # the handler swallowed its cancellation and succeeded
                worker.take_interruption()
        except Exception as error:
            return await self._give_up(delivery, worker.take_interruption() or error, worker)
        except asyncio.CancelledError:
            return await self._give_up(delivery, _cancelled(worker), worker)
        return Settlement(delivery, _ACK)

    async def _give_up(self, delivery: Delivery, error: Exception, worker: Worker) -> Settlement | None:
        """The policy's decision; a requester is told when it is final."""
        plan = self._plan
        if plan.last_word is not None and plan.policy.is_final(delivery, error) and not isinstance(error, LeaseLost):
            try:
                if await plan.last_word(delivery, error):
                    return Settlement(delivery, Act.ACK)
            except Exception as failure:
                return self._failed(delivery, failure)
            except asyncio.CancelledError:
                return self._failed(delivery, _cancelled(worker))
        return self._failed(delivery, error)

    def _failed(self, delivery: Delivery, error: Exception) -> Settlement | None:
        if self._plan.breaker is not None:
            self._plan.breaker.failed(error, self._alarms.now())
        return self._plan.policy.failed(delivery, error)

    # -- batches

    async def _work_batches(self, worker: Worker) -> None:
        while True:
            while self.ready:
                batch = await self._gather()
                worker.deliveries = batch
                if not batch:
                    continue
                alarm = None if self._timeout is None else self._time_limit(worker, self._timeout)
                settlements = await self._process_batch(batch, worker)
                if alarm is not None:
                    alarm.cancel()
                worker.deliveries = ()
                for delivery, settlement in zip(batch, settlements, strict=True):
                    self._finish(delivery, settlement)
            await self._rest(worker)

    async def _gather(self) -> list[Delivery]:
        """What is ready, up to the batch's size, after waiting a little for more."""
        options, ready = self._plan.options.batch, self.ready
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
        for delivery in taken:
            if delivery not in self._in_hand:
                self._finish(delivery, None)
        return [delivery for delivery in taken if delivery in self._in_hand]

    async def _process_batch(self, batch: list[Delivery], worker: Worker) -> list[Settlement | None]:
        results = await self._outcomes(batch, worker)
        return [
            Settlement(delivery, Act.ACK) if error is None else self._failed(delivery, error)
            for delivery, error in zip(batch, results, strict=True)
        ]

    async def _outcomes(self, batch: list[Delivery], worker: Worker) -> Sequence[Exception | None]:
        """None or an error for each entry. A batch that raised may be handled in halves, one that was cut off not."""
        try:
            results: Sequence[Exception | None] = await isolated(self._handle_batch(batch), self._context.copy())
        except Exception as error:
            interruption = worker.take_interruption()
            if interruption is None and self._plan.options.batch.bisect and len(batch) > 1:
                return await self._in_halves(batch, worker)
            return [interruption or error] * len(batch)
        except asyncio.CancelledError:
            return [_cancelled(worker)] * len(batch)
        worker.take_interruption()
        return results

    async def _in_halves(self, batch: list[Delivery], worker: Worker) -> Sequence[Exception | None]:
        half = len(batch) // 2
        first = await self._outcomes(batch[:half], worker)
        cut = next((error for error in first if isinstance(error, (Timeout, LeaseLost))), None)
        rest = [cut] * (len(batch) - half) if cut is not None else await self._outcomes(batch[half:], worker)
        return [*first, *rest]

    async def _handle_batch(self, batch: Sequence[Delivery]) -> Sequence[Exception | None]:
        """An entry whose envelope is damaged, or that came too often, fails alone."""
        results: list[Exception | None] = [self._preflight(delivery) for delivery in batch]
        good = [place for place, error in enumerate(results) if error is None]
        handle = self._plan.handle_batch
        if good and handle is not None:
            outcomes = await handle([batch[place] for place in good])
            for place, outcome in zip(good, outcomes, strict=True):
                results[place] = outcome
        return results

    def _preflight(self, delivery: Delivery) -> Exception | None:
        if delivery.deliveries > self._max_deliveries:
            return _too_often(delivery)
        try:
            if self._open is not None:
                self._open(delivery)
        except Exception as error:
            return error
        return None


def _too_often(delivery: Delivery) -> Reject:
    return Reject(f"delivered {delivery.deliveries} times without being settled: it may kill its process")


def _cancelled(worker: Worker) -> Exception:
    """What a CancelledError that came out of a handler stands for; it is raised again where the worker must end."""
    interruption = worker.take_interruption()
    if interruption is not None:
        return interruption
    if worker.task.cancelling():
        raise  # noqa: PLE0704 - called while the CancelledError is being handled
    return BusError("the handler raised CancelledError though nobody cancelled it: it awaited something cancelled")
