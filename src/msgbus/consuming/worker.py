"""One worker: a long-lived task, what it handles now, and how that is cut off without ending the task."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from msgbus.errors import BusError, Reject
from msgbus.message import Delivery


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


def cancelled(worker: Worker) -> Exception:
    """What a CancelledError that came out of a handler stands for; it is raised again where the worker must end."""
    interruption = worker.take_interruption()
    if interruption is not None:
        return interruption
    if worker.task.cancelling():
        raise  # noqa: PLE0704 - called while the CancelledError is being handled
    return BusError("the handler raised CancelledError though nobody cancelled it: it awaited something cancelled")


def too_often(delivery: Delivery) -> Reject:
    """Why a delivery past the cap is dead without being looked at."""
    return Reject(f"delivered {delivery.deliveries} times without being settled: it may kill its process")
