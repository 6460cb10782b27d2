"""One worker: a long-lived task, what it handles now, and how that is cut off without ending the task."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

from msgbus.errors import BusError, LeaseLost, Reject, said, shown
from msgbus.message import Delivery


class Worker:
    """One task, and what it handles now."""

    __slots__ = ("closed", "deliveries", "interruption", "task", "wake")

    def __init__(self) -> None:
        self.closed = False
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

    async def calm(self) -> None:
        """Swallow a cancellation that a handler did not: it must not hit the next one."""
        self.interruption = None
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(0)
        while self.task.cancelling():
            self.task.uncancel()


def cancelled(worker: Worker) -> Exception:
    """What a CancelledError that came out of a handler stands for; it is raised again where the worker must end."""
    interruption = worker.take_interruption()
    if interruption is not None:
        return interruption
    if worker.closed:
        raise  # noqa: PLE0704 - called while the CancelledError is being handled
    return BusError("the handler was cancelled, but not by msgbus: it awaited something cancelled, or cancelled itself")


def raised(error: BaseException) -> Exception:
    """What a handler raised, as an error of its message; raised again where it means the process or the coroutine."""
    if isinstance(error, Exception) and not isinstance(error, LeaseLost):
        return error
    if isinstance(error, (SystemExit, KeyboardInterrupt, GeneratorExit)):
        raise error
    why = "which is not about its lease" if isinstance(error, LeaseLost) else "which is no Exception"
    odd = BusError(f"the handler raised {shown(error)}, {why}")
    odd.__cause__ = error
    return odd


def unfit(delivery: Delivery) -> Exception:
    """Why a delivery that its receiver could not read, or that comes past the cap, is dead without being looked at."""
    if delivery.fault is not None:
        return Reject(f"it can't be read: {said(delivery.fault)}")
    return Reject(f"delivered {delivery.deliveries} times without being settled: it may kill its process")
