"""What a TestBus remembers: every message that went out, every start of a handler and what became of it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

from msgbus.handlers.decoding import Decode
from msgbus.handlers.registration import Registration
from msgbus.message import Delivery, Message, Outgoing

T_co = TypeVar("T_co", covariant=True)

Outcome = Literal["running", "handled", "retried", "dead", "lost", "failed", "skipped"]


@dataclass(slots=True, eq=False, kw_only=True)
class Attempt(Generic[T_co]):
    """One start of a handler, or one try that failed before it (a body that can't be decoded).

    `number` counts from 1. `started` and `ended`: seconds on the test's clock. `outcome`: "retried" after `delay`
    seconds, "dead" because of `reason`, "lost" with its lease, "failed" where the requester was told the error
    (or the test ended), "skipped" where the handler did not see it (a `Select`, or a middleware), else as it says.
    `seen`: the handler was reached. `error`: what the handler, a middleware or the bus raised.
    """

    delivery: Delivery
    registration: Registration
    number: int
    started: float
    decode: Decode
    ended: float | None = None
    outcome: Outcome = "running"
    error: Exception | None = None
    reason: str = ""
    delay: float = 0.0
    seen: bool = True

    @property
    def payload(self) -> T_co:
        """Decoded anew, so a handler that changes its payload does not change the record. Raises DecodeError."""
        payload: T_co = self.decode(self.delivery)
        return payload

    @property
    def message(self) -> Message[T_co]:
        """The payload with id, key and headers."""
        return Message(self.payload, self.delivery)

    def __repr__(self) -> str:
        error = f", {self.error!r}" if self.error is not None else ""
        name = self.registration.bound.name
        return f"<attempt {self.number} of {name} at {self.started:g} s: {self.outcome}{error}>"


@dataclass(slots=True, eq=False)
class Run:
    """A handler that runs now. `sending`: how many sends of its own it waits for."""

    name: str
    attempts: Sequence[Attempt[Any]]
    sending: int = 0
    since: float = field(default_factory=time.monotonic)


RUN: ContextVar[Run | None] = ContextVar("msgbus_test_run", default=None)
"""The handler in whose context this code runs, its child tasks included."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A message that the broker took, and when."""

    out: Outgoing
    at: float
