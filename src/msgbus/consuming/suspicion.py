"""Finds the message that kills its process: it is no fault of those that were in hand beside it."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from msgbus.handlers.subscription import Subscription
from msgbus.message import Delivery

log = logging.getLogger("msgbus.consume")

_CRASHES = 2  # after so many, one message at a time
_CALM = 10.0  # seconds without a suspect after which all is well again


class Suspicion:
    """Whether messages are about that came several times without being settled.

    Then the subscription takes one at a time: the next crash is the fault of that one, which reaches
    `Retry.max_deliveries` well before its neighbours, and those that were innocent are handled meanwhile. It goes on
    for a while after the last one was seen: to give back what came, now to take one, now to take many, is no progress.
    """

    def __init__(self, subscription: Subscription) -> None:
        capabilities = subscription.capabilities
        self._source = subscription.source
        self._attempts, self._most = subscription.options.retry.attempts, subscription.options.retry.deliveries_cap
        self._matters = capabilities.counts_deliveries and not capabilities.isolates and subscription.prefetch > 1
        self.is_careful = False
        self._careful_until = 0.0

    def turns(self, batch: Sequence[Delivery], now: float) -> bool:
        """Look at what came: whether to take one at a time from now on, or as many as before again."""
        if not self._matters:
            return False
        if any(map(self._is_suspect, batch)):
            self._careful_until = now + _CALM
            if self.is_careful:
                return False
            log.warning("%s: messages came back unsettled %d times: one at a time", self._source, _CRASHES)
        elif not self.is_careful or now < self._careful_until:
            return False
        self.is_careful = not self.is_careful
        return True

    def _is_suspect(self, delivery: Delivery) -> bool:
        """Where each delivery counts as an attempt, more than there are attempts. Beyond the cap nobody tries it."""
        count = delivery.deliveries
        if not _CRASHES < count <= self._most:
            return False
        return count - delivery.attempt >= _CRASHES or count > self._attempts + _CRASHES
