"""Middlewares that tell what happens to whoever wants to count it: metrics in a service, the tally in the demo."""

from collections.abc import Sequence
from typing import Protocol

from msgbus import BusError, Delivery, Outgoing, Receipt
from msgbus.handlers.middleware import Handle
from msgbus.publishing.middleware import SendNext


class Observer(Protocol):
    """Is told about every message. Must not raise."""

    def sending(self, out: Outgoing) -> None:
        """It is about to go out."""

    def sent(self, out: Outgoing) -> None:
        """The broker has confirmed it."""

    def begun(self, delivery: Delivery) -> None:
        """Its handler starts."""

    def ended(self, delivery: Delivery, *, handled: bool) -> None:
        """Its handler has returned (`handled`), raised or was cancelled."""

    def buried(self, delivery: Delivery) -> None:
        """It was dead-lettered."""


observers: list[Observer] = []


async def around_handler(delivery: Delivery, handle: Handle) -> None:
    """A consume middleware."""
    for observer in observers:
        observer.begun(delivery)
    handled = False
    try:
        await handle(delivery)
        handled = True
    finally:
        for observer in observers:
            observer.ended(delivery, handled=handled)


async def around_send(batch: Sequence[Outgoing], send: SendNext) -> Sequence[Receipt | BusError]:
    """A publish middleware."""
    for observer in observers:
        for out in batch:
            observer.sending(out)
    results = await send(batch)
    for out, result in zip(batch, results, strict=True):
        if isinstance(result, Receipt):
            for observer in observers:
                observer.sent(out)
    return results


async def after_death(delivery: Delivery, error: Exception) -> None:
    """An on_dead hook."""
    for observer in observers:
        observer.buried(delivery)
