"""Decides what becomes of a failure. The one place that does, and the one that counts attempts.

| what failed | what becomes of the delivery |
|---|---|
| it expired before its handler began | `failed`, with Expired: acknowledged, counted, seen by nobody |
| its handler, a middleware, decoding | `failed`: another attempt after a delay, or dead with the reason |
| it is to be tried again | `must_hold`: it waits in hand, or goes back to the broker |
| the broker took the settlement badly | `after_refusal`: again soon, or one rung down the ladder |

`workers` ask the first, `fate` carries out the next two, `settler` the last.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import replace

from msgbus import backoff
from msgbus import headers as h
from msgbus.consuming.chatter import Chatter, SafeTracebacks
from msgbus.consuming.flow import BreakerState
from msgbus.consuming.suspicion import Suspicion
from msgbus.errors import (
    PASSING,
    BusError,
    DecodeError,
    LeaseLost,
    Reject,
    RetryLater,
    Timeout,
    Unavailable,
    said,
    shown,
)
from msgbus.handlers.subscription import Subscription
from msgbus.message import Act, Delivery, Settlement

log = logging.getLogger("msgbus.handler")
log.addFilter(SafeTracebacks())

_PROVEN_BAD = (DecodeError, Reject)
_MESSAGE_CHARACTERS = 500  # of an error's text in a header: failure headers must fit where the message did
_REFUSED_PAUSE = 60.0  # seconds until a message that can neither be dead-lettered nor sent again comes back
_PATIENCE = 10  # tries (20 s) of a dead letter that its queue does not take now, while it takes up room in hand
_SLIM = (h.ATTEMPT, h.DEAD_REASON, h.ORIGIN)  # what a copy carries at least


class Stopped(Timeout):
    """The handler was cancelled because its process stops: not the message's fault, so it goes back as it came."""


class Expired(BusError):
    """Nobody wants the message any more: it is acknowledged unseen, which is no success of its handler."""


class Policy:
    """A subscription's `Retry` and `Breaker` at work, on what its broker can do.

    Every failure is logged here, once: a warning when it is tried again, an error when it is dead; many of one kind
    are not logged one by one. `time` gives Unix seconds.
    """

    def __init__(self, subscription: Subscription, time: Callable[[], float]) -> None:
        self._chatter = Chatter(time)
        self.suspicion = Suspicion(subscription)
        self.retry = subscription.options.retry
        self.max_deliveries = self.retry.deliveries_cap
        limits = subscription.options.limits
        self.breaker = BreakerState(limits.breaker, str(subscription.source)) if limits.breaker is not None else None
        self._ordered = subscription.source.ordered
        self._hold = subscription.options.lease.hold
        self._capabilities = subscription.capabilities
        self._time = time
        self._stats = subscription.stats
        self._trouble, self._troubled = "", 0.0

    def has_expired(self, delivery: Delivery) -> bool:
        """Whether nobody wants it any more, so that no handler is to see it."""
        return h.has_expired(delivery.headers, self._time())

    def failed(self, delivery: Delivery, error: Exception) -> Settlement | None:
        """The settlement of a delivery whose handler (or a middleware, or the core itself) raised `error`.

        None where nothing can be settled any more: the lease is lost.
        """
        if isinstance(error, LeaseLost):
            log.warning("%s: lease lost, the handler was cancelled", delivery.source, extra=_about(delivery, error))
            return None
        if isinstance(error, Expired):
            self._expired(delivery)
            return Settlement(delivery, Act.ACK, error=error)
        if isinstance(error, Stopped):
            log.warning("%s: %s, the message goes back", delivery.source, error, extra=_about(delivery, error))
            return Settlement(delivery, Act.RELEASE)
        if self.is_final(delivery, error):
            return self.dead(delivery, error)
        delay = self._delay(delivery, error)
        if (more := self._chatter.admit(("retry", type(error)))) is not None:
            log.warning(
                "%s: attempt %d failed, again in %.3g s: %s%s",
                delivery.source,
                delivery.attempt,
                delay,
                shown(error),
                more,
                extra=_about(delivery, error),
                exc_info=error if log.isEnabledFor(logging.DEBUG) else None,  # the last failure has its traceback
            )
        headers = self._history(delivery, delivery.attempt + 1)
        return Settlement(delivery, Act.RETRY, delay, headers=headers, error=error)

    def dead(self, delivery: Delivery, error: Exception) -> Settlement:
        """Dead-letter it, with all that whoever looks at it later will want to know."""
        text = said(error)
        reason = text or type(error).__name__
        if (more := self._chatter.admit(("dead", type(error)))) is not None:
            log.error(
                "%s: dead after %d attempts: %s%s",
                delivery.source,
                delivery.attempt,
                shown(error),
                more,
                extra=_about(delivery, error),
                exc_info=error,
            )
        headers = self._history(delivery, delivery.attempt) | {
            h.DEAD_REASON: _header_text(reason),
            h.ERROR_TYPE: type(error).__name__,
            h.ERROR: _header_text(text),
            h.ATTEMPTS: str(delivery.attempt),
            h.ORIGIN: delivery.source.origin,
        }
        return Settlement(delivery, Act.DEAD, reason=reason, headers=headers, error=error)

    def is_final(self, delivery: Delivery, error: Exception) -> bool:
        """Whether `error` ends it: no further attempt."""
        if isinstance(error, _PROVEN_BAD):
            return True
        if isinstance(error, (Unavailable, Stopped, Expired)):
            return False
        if delivery.attempt >= self.retry.attempts or self._is_too_old(delivery):
            return True
        if isinstance(error, RetryLater):
            return False
        return isinstance(error, self.retry.never) or not isinstance(error, self.retry.on)

    def must_hold(self, settlement: Settlement) -> bool:
        """Whether a retry waits in hand: where nothing else keeps the order, or would count as another delivery."""
        capabilities = self._capabilities
        if settlement.delay <= 0 or capabilities.retry_delay is None:
            return True
        if isinstance(settlement.error, Unavailable):  # retried without a cap, which `max_deliveries` would be
            return capabilities.lease is None or capabilities.lease_extends
        if not self._ordered:
            return False
        return not capabilities.retry_keeps_order or settlement.delay <= self._hold

    def given_back(self, settlement: Settlement) -> Settlement:
        """A retry that does not wait in hand, as the broker can do it: with its delay, or as if never started."""
        if self._capabilities.retry_delay is None:
            return Settlement(settlement.delivery, Act.RELEASE)
        return settlement

    @property
    def trouble(self) -> str:
        """What it can't do with what its handlers fail at, and did not lately; "" where all is well."""
        return self._trouble if self._time() - self._troubled < 2 * _REFUSED_PAUSE else ""

    def after_refusal(self, settlement: Settlement, error: BusError, tries: int) -> Settlement | None:
        """What is settled next where the broker answered a settlement with `error`; None: that is the end of it.

        Nothing is dropped. What is refused for good goes down a ladder: a retry becomes a dead letter, a dead letter
        is tried with less in its headers, then the message is to come back after a while (or stays in hand for it,
        where the broker has no retries), at last it is released. Only where even that is refused is it left to the
        end of its receiver. What may pass is tried again without an end, but for a dead letter: its queue may be full
        for days, and the room that it takes up in hand is wanted.
        """
        if isinstance(error, PASSING) and (settlement.act is not Act.DEAD or tries < _PATIENCE):
            return settlement
        if isinstance(error, LeaseLost):
            return None
        source, refused = settlement.delivery.source, settlement.refused
        if (more := self._chatter.admit(("refused", settlement.act))) is not None:
            act = settlement.act.name
            log.error("%s: %s was refused (%d times now): %s%s", source, act, refused + 1, shown(error), more)
        self._trouble, self._troubled = f"{settlement.act.name} was refused: {shown(error)}", self._time()
        if settlement.act in (Act.ACK, Act.RELEASE):
            log.error("%s: can't be settled: it comes back when its receiver ends", source, exc_info=error)
            return None
        return replace(self._next_rung(settlement, error), refused=refused + 1)

    def _next_rung(self, settlement: Settlement, error: BusError) -> Settlement:
        delivery, headers = settlement.delivery, settlement.headers or {}
        if settlement.act is Act.RETRY and settlement.refused == 0:
            return self.dead(delivery, Reject(f"it can't be sent again: {said(error)}"))
        if settlement.act is Act.RETRY:
            return Settlement(delivery, Act.RELEASE, delay=_REFUSED_PAUSE)  # held in hand until then
        slim = {name: headers[name] for name in _SLIM if name in headers}
        if len(slim) < len(headers) and not isinstance(error, PASSING):
            return replace(settlement, headers=slim)
        act = Act.DEAD if self._capabilities.retry_delay is None else Act.RETRY
        return replace(settlement, act=act, delay=_REFUSED_PAUSE)

    def _expired(self, delivery: Delivery) -> None:
        """Said, since a clock that is far off makes every request look late."""
        self._stats.expired += 1
        late = self._time() - (h.time_of(delivery.headers, h.EXPIRES) or 0.0)
        if (more := self._chatter.admit("expired")) is not None:
            log.warning(
                "%s: expired %.3g s ago by this machine's clock, dropped%s",
                delivery.source,
                late,
                more,
                extra=_about(delivery, Expired()),
            )

    def _is_too_old(self, delivery: Delivery) -> bool:
        longest = self.retry.max_age
        sent_at = _sent_at(delivery)
        return longest is not None and sent_at is not None and self._time() - sent_at > longest

    def _delay(self, delivery: Delivery, error: Exception) -> float:
        retry = self.retry
        if isinstance(error, RetryLater) and error.delay is not None and _is_span(error.delay):
            longest = self._capabilities.retry_delay
            return error.delay if longest is None else min(error.delay, longest)
        if delivery.attempt <= retry.in_place:
            return 0.0
        attempt = delivery.attempt - retry.in_place
        return backoff.delay(attempt, retry.first_delay, retry.factor, retry.max_delay, retry.jitter)

    def _history(self, delivery: Delivery, attempt: int) -> dict[str, str]:
        first = delivery.headers.get(h.FIRST_FAILED) or f"{self._time():.3f}"
        history = {h.ATTEMPT: str(attempt), h.FIRST_FAILED: first}
        if (sent_at := _sent_at(delivery)) is not None:  # the copy will have a time of its own
            history[h.SENT] = f"{sent_at:.3f}"
        return history


def _sent_at(delivery: Delivery) -> float | None:
    return h.number_of(delivery.headers, h.SENT) or delivery.sent_at


def _is_span(delay: object) -> bool:
    """Whether it is a number of seconds; what a handler raises is not looked at by any type checker."""
    return isinstance(delay, (int, float)) and math.isfinite(delay) and delay >= 0


def _header_text(text: str) -> str:
    """One line of printable characters: every broker's headers take it."""
    flat = "".join(c if c.isprintable() else " " for c in text)
    return flat if len(flat) <= _MESSAGE_CHARACTERS else flat[: _MESSAGE_CHARACTERS - 1] + "…"


def _about(delivery: Delivery, error: Exception) -> dict[str, object]:
    return {
        "source": str(delivery.source),
        "message_id": delivery.headers.get(h.ID, ""),
        "correlation_id": delivery.headers.get(h.CORRELATION, ""),
        "attempt": delivery.attempt,
        "error_type": type(error).__name__,
    }
