"""What the result of a settlement means: counts, room for others, hooks, and stored bodies that nobody needs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from msgbus import headers as h
from msgbus.consuming.flow import BreakerState
from msgbus.envelope.claim import BodyStore
from msgbus.errors import BusError, LeaseLost, Reject
from msgbus.handlers.subscription import Subscription
from msgbus.message import Act, Delivery, Settlement

_ACK = Act.ACK


class Results:
    """Takes what is settled out of `in_hand`.

    `settled(count)` is told that there is room again; `afterwards(hook)` has something done that a stop waits for.
    """

    def __init__(
        self,
        subscription: Subscription,
        breaker: BreakerState | None,
        in_hand: dict[Delivery, float],
        settled: Callable[[int], None],
        afterwards: Callable[[Callable[[], Awaitable[None]]], None],
    ) -> None:
        self._stats = subscription.stats
        self._on_dead = subscription.on_dead
        self._store = subscription.store if subscription.source.kind == "queue" else None  # a topic has other readers
        self._breaker = breaker
        self._in_hand = in_hand
        self._settled = settled
        self._afterwards = afterwards

    def accepted(self, batch: Sequence[Settlement]) -> None:
        """The broker took all of them: the usual case, so without a look at each result."""
        in_hand, acknowledged = self._in_hand, 0
        for settlement in batch:
            in_hand.pop(settlement.delivery, None)
            if settlement.act is _ACK:
                acknowledged += 1
            else:
                self._count(settlement)
        self._stats.handled += acknowledged
        if acknowledged and self._breaker is not None and self._breaker.has_failures:
            self._judge(self._breaker, batch)
        if self._store is not None:
            self._forget_bodies(self._store, batch)
        self._settled(len(batch))

    def ended(self, batch: Sequence[Settlement], results: Sequence[BusError | None]) -> None:
        """Each with its own result."""
        taken = [settlement for settlement, error in zip(batch, results, strict=True) if error is None]
        self.accepted(taken)
        for settlement, error in zip(batch, results, strict=True):
            if error is not None:
                self._in_hand.pop(settlement.delivery, None)
                self._stats.lost += isinstance(error, LeaseLost)
        self._settled(len(batch) - len(taken))

    def is_over(self, settlement: Settlement) -> bool:
        """Whether its lease was lost meanwhile."""
        return settlement.delivery not in self._in_hand

    @staticmethod
    def _judge(breaker: BreakerState, batch: Sequence[Settlement]) -> None:
        """What is acknowledged though it failed (expired, a requester was told) says nothing of what handlers need."""
        if any(settlement.act is _ACK and settlement.error is None for settlement in batch):
            breaker.succeeded()

    def _count(self, settlement: Settlement) -> None:
        stats = self._stats
        if settlement.act is Act.RETRY:
            stats.retried += 1
        elif settlement.act is Act.RELEASE:
            stats.released += 1
        else:
            stats.dead += 1
            for hook in self._on_dead:
                error = settlement.error or Reject(settlement.reason)
                self._afterwards(partial(hook, settlement.delivery, error))

    def _forget_bodies(self, store: BodyStore, batch: Sequence[Settlement]) -> None:
        """Only after the broker has the acknowledgement: a message that comes again needs its body."""
        for settlement in batch:
            if settlement.act is _ACK and h.CLAIM in settlement.delivery.headers:
                self._afterwards(partial(store.forget, settlement.delivery))
