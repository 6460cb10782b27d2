"""Decides what becomes of a delivery whose handler raised. The one place that counts attempts."""

from __future__ import annotations

import logging
from collections.abc import Callable

from msgbus import backoff
from msgbus import headers as h
from msgbus.errors import DecodeError, LeaseLost, Reject, RetryLater, Timeout, Unavailable
from msgbus.message import Act, Delivery, Settlement
from msgbus.options import Retry

log = logging.getLogger("msgbus.handler")

_PROVEN_BAD = (DecodeError, Reject)
_MESSAGE_CHARACTERS = 500  # of an error's text in a header: failure headers must fit where the message did


class Stopped(Timeout):
    """The handler was cancelled because its process stops: not the message's fault, so it goes back as it came."""


class Policy:
    """A subscription's `Retry` at work.

    `longest`: the broker's longest native retry delay, None where retries are held. Every failure is logged here,
    once: a warning when it is tried again, an error when it is dead.
    """

    def __init__(self, retry: Retry, time: Callable[[], float], longest: float | None = None) -> None:
        self.retry = retry
        self.max_deliveries = retry.max_deliveries or retry.attempts * 2 + 10
        self._time = time
        self._longest = longest

    def failed(self, delivery: Delivery, error: Exception) -> Settlement | None:
        """The settlement of a delivery whose handler (or a middleware, or the core itself) raised `error`.

        None where nothing can be settled any more: the lease is lost.
        """
        if isinstance(error, LeaseLost):
            log.warning("%s: lease lost, the handler was cancelled", delivery.source, extra=_about(delivery, error))
            return None
        if isinstance(error, Stopped):
            log.warning("%s: %s, the message goes back", delivery.source, error, extra=_about(delivery, error))
            return Settlement(delivery, Act.RELEASE)
        if self.is_final(delivery, error):
            return self.dead(delivery, error)
        delay = self._delay(delivery, error)
        log.warning(
            "%s: attempt %d failed, again in %.3g s: %r",
            delivery.source,
            delivery.attempt,
            delay,
            error,
            extra=_about(delivery, error),
            exc_info=error if log.isEnabledFor(logging.DEBUG) else None,  # the last failure has its traceback
        )
        return Settlement(
            delivery, Act.RETRY, delay, headers=self._history(delivery, delivery.attempt + 1), error=error
        )

    def dead(self, delivery: Delivery, error: Exception) -> Settlement:
        """Dead-letter it, with all that whoever looks at it later will want to know."""
        reason = str(error) or type(error).__name__
        log.error(
            "%s: dead after %d attempts: %r",
            delivery.source,
            delivery.attempt,
            error,
            extra=_about(delivery, error),
            exc_info=error,
        )
        headers = self._history(delivery, delivery.attempt) | {
            h.DEAD_REASON: _header_text(reason),
            h.ERROR_TYPE: type(error).__name__,
            h.ERROR: _header_text(str(error)),
            h.ATTEMPTS: str(delivery.attempt),
            h.ORIGIN: _origin(delivery),
        }
        return Settlement(delivery, Act.DEAD, reason=reason, headers=headers, error=error)

    def is_final(self, delivery: Delivery, error: Exception) -> bool:
        """Whether `error` ends it: no further attempt."""
        if isinstance(error, _PROVEN_BAD):
            return True
        if isinstance(error, (Unavailable, Stopped)):
            return False
        if delivery.attempt >= self.retry.attempts or self._is_too_old(delivery):
            return True
        if isinstance(error, RetryLater):
            return False
        return isinstance(error, self.retry.never) or not isinstance(error, self.retry.on)

    def _is_too_old(self, delivery: Delivery) -> bool:
        longest = self.retry.max_age
        return longest is not None and delivery.sent_at is not None and self._time() - delivery.sent_at > longest

    def _delay(self, delivery: Delivery, error: Exception) -> float:
        retry = self.retry
        if isinstance(error, RetryLater) and error.delay is not None:
            return error.delay if self._longest is None else min(error.delay, self._longest)
        if delivery.attempt <= retry.in_place:
            return 0.0
        attempt = delivery.attempt - retry.in_place
        return backoff.delay(attempt, retry.first_delay, retry.factor, retry.max_delay, retry.jitter)

    def _history(self, delivery: Delivery, attempt: int) -> dict[str, str]:
        first = delivery.headers.get(h.FIRST_FAILED) or f"{self._time():.3f}"
        return {h.ATTEMPT: str(attempt), h.FIRST_FAILED: first}


def _origin(delivery: Delivery) -> str:
    source = delivery.source
    return f"{source.kind}/{source.name}" + (f"/{source.group}" if source.group else "")


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
