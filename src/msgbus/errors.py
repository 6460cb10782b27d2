"""Every error that msgbus raises or returns as the result of an entry.

One small tree. Brokers translate their client's errors into it in one place and keep the native error as
`__cause__`; the core decides by class alone what is tried again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from msgbus.message import Receipt


class BusError(Exception):
    """Base of everything that msgbus raises."""


class ConfigError(BusError):
    """A setting, URL or declaration that can't work: names the setting and what is allowed."""


def missing_extra(what: str, missing: ModuleNotFoundError, extra: str) -> ConfigError:
    """The error of `what` needs a package that an extra of msgbus brings: the same words everywhere."""
    package = (missing.name or "").partition(".")[0]
    return ConfigError(f"{what}: {package} is missing, install it with: pip install 'msgbus[{extra}]'")


class RegistrationError(ConfigError):
    """A handler that can't be bound to its topic, queue or call; raised by the decorator."""


class Disconnected(BusError):
    """The connection is gone. For an entry that was being sent the outcome is unknown: it may have arrived."""


class ReceiverClosed(BusError):
    """This receiver is gone (a cancelled consumer, a closed channel); the connection and other receivers live."""


class Throttled(BusError):
    """The broker asks to slow down.

    `retry_after`: seconds to wait at least, or None where the broker gave no figure.
    """

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Unavailable(BusError):
    """Something beside the payload is down (a registry, a store, an endpoint). Tried again, never dead-lettered."""


class Refused(BusError):
    """The broker will never take this: too large, not allowed, not there, malformed."""


class LeaseLost(BusError):
    """The delivery is no longer ours: its lease ran out or its receiver is closed. Nothing was sent."""


class DecodeError(BusError):
    """The body is not what its topic declares. Proven bad: dead-lettered at the first attempt."""


class Timeout(BusError, TimeoutError):
    """A deadline of msgbus passed: a publish, a request or a handler. Also a built-in TimeoutError."""


class RemoteError(BusError):
    """The responder of a call failed.

    `type` is the class name of its exception and `detail` its text; a traceback never crosses the wire.
    """

    def __init__(self, type: str, detail: str) -> None:  # noqa: A002 - the field's natural name
        super().__init__(f"{type}: {detail}")
        self.type = type
        self.detail = detail


class PublishFailed(BusError):
    """Some entries of a `publish_many` were not accepted.

    `results` has one entry per payload, in their order: a Receipt, or the error of that entry alone.
    """

    def __init__(self, message: str, results: Sequence[Receipt | BusError]) -> None:
        super().__init__(message)
        self.results = results


PASSING = (Throttled, Unavailable)
"""The connection is fine: what failed may succeed on it a little later."""
RETRYABLE = (Disconnected, *PASSING)
"""Sending the entry again may succeed, on a new connection where the old one is gone."""
GONE = (Disconnected, ReceiverClosed)
"""The receiver is dead, and with it every lease it gave: only a new one helps."""

_SHOWN_CHARACTERS = 500  # of an error's text in one line of a log


def said(error: BaseException) -> str:
    """The text of an error; of one whose own `str` raises, that it has none."""
    try:
        return str(error)
    except Exception:
        return f"(a {type(error).__name__} without a readable text)"


def shown(error: BaseException) -> str:
    """Its class and text on one line, for a log: an error's own `repr` may raise, or be endless."""
    text = said(error)
    flat = "".join(c if c.isprintable() else " " for c in text[:_SHOWN_CHARACTERS])
    cut = "…" if len(text) > _SHOWN_CHARACTERS else ""
    return f"{type(error).__name__}: {flat}{cut}" if flat else type(error).__name__


class RetryLater(Exception):
    """Raise it in a handler to have the message again after `delay` seconds; counts as an attempt.

    `delay=None` leaves the delay to the subscription's `Retry`.
    """

    def __init__(self, reason: str = "", *, delay: float | None = None) -> None:
        super().__init__(reason)
        self.delay = delay


class Reject(Exception):
    """Raise it in a handler to dead-letter the message now, with `reason`, whatever attempts are left."""


@asynccontextmanager
async def bare_errors() -> AsyncIterator[None]:
    """One exception of a task group is raised as itself."""
    try:
        yield
    except BaseExceptionGroup as group:
        if len(group.exceptions) == 1:
            raise group.exceptions[0] from group.exceptions[0].__cause__
        raise
