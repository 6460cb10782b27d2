"""Keeps the leases of everything in hand, from the moment of receipt, prefetched deliveries too."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from msgbus.broker import Receiver
from msgbus.clock import Clock
from msgbus.errors import BusError, LeaseLost, Timeout
from msgbus.handlers.subscription import Subscription
from msgbus.message import Delivery

log = logging.getLogger("msgbus.lease")


class Heartbeat:
    """One beat every third of a lease extends all that was in hand at the last one.

    `lost(delivery, error)` is called where an extension came too late (LeaseLost) or the longest time is over
    (Timeout).
    """

    def __init__(
        self,
        subscription: Subscription,
        receiver: Receiver,
        clock: Clock,
        in_hand: Mapping[Delivery, float],
        lost: Callable[[Delivery, Exception], None],
    ) -> None:
        lease = subscription.options.lease
        self._seconds = lease.seconds or subscription.capabilities.lease or 30.0
        self._longest = min(lease.longest, subscription.capabilities.lease_max or lease.longest)
        self._receiver = receiver
        self._clock = clock
        self._in_hand = in_hand
        self._lost = lost

    async def run(self) -> None:
        """For ever."""
        while True:
            await self._clock.sleep(self._seconds / 3)
            await self.beat()

    async def beat(self) -> None:
        """Extend what needs it now."""
        now = self._clock.now()
        seasoned = [(d, came) for d, came in self._in_hand.items() if now - came >= self._seconds / 6]
        due: list[Delivery] = []
        for delivery, came in seasoned:
            if now - came > self._longest:
                self._lost(delivery, Timeout(f"held longer than {self._longest:g} s"))
            else:
                due.append(delivery)
        if not due:
            return
        try:
            results = await self._receiver.extend(due, self._seconds)
        except BusError as error:
            log.warning("extending %d leases failed, trying again at the next beat: %s", len(due), error)
            return
        lost = [(d, result) for d, result in zip(due, results, strict=True) if isinstance(result, LeaseLost)]
        for delivery, late in reversed(lost):  # followers before their heads, which give back what is still ours
            if delivery in self._in_hand:
                self._lost(delivery, late)
