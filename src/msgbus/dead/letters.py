"""What a dead letter is, and what a redrive did."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from msgbus import headers as h
from msgbus.envelope.opening import open_delivery
from msgbus.errors import BusError, DecodeError
from msgbus.message import Delivery


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that no handler wanted.

    `damaged` says why its envelope can't be opened, or what of it its receiver could not read; "" where all is well.
    """

    headers: Mapping[str, str]
    body: bytes
    sent_at: float | None = None
    damaged: str = ""

    @classmethod
    def of(cls, delivery: Delivery) -> DeadLetter:
        """Opens the envelope of the delivery, in place."""
        damaged = "" if delivery.fault is None else str(delivery.fault)
        try:
            open_delivery(delivery)
        except DecodeError as error:
            damaged = str(error)
        return cls(delivery.headers, delivery.body, delivery.sent_at, damaged)

    @property
    def id(self) -> str:
        """The message's id; of a foreign one that has none, what its body is known by."""
        return self.headers.get(h.ID) or f"sha256:{hashlib.sha256(self.body).hexdigest()[:16]}"

    @property
    def hop(self) -> str:
        """How often it was sent again, "0" if never."""
        return self.headers.get(h.HOP, "0")

    @property
    def reason(self) -> str:
        """Why it is dead."""
        return self.headers.get(h.DEAD_REASON, "")

    @property
    def error_type(self) -> str:
        """The class of the last error; "" where nothing tells."""
        return self.headers.get(h.ERROR_TYPE, "")

    @property
    def attempts(self) -> int | None:
        """How often its handler was started; None where nothing tells (the broker itself gave up on it)."""
        count = _number(self.headers.get(h.ATTEMPTS))
        return None if count is None else int(count)

    @property
    def first_failed(self) -> float | None:
        """Unix time of its first failure, if that is known."""
        return _number(self.headers.get(h.FIRST_FAILED))

    @property
    def expires_at(self) -> float | None:
        """Unix time after which nobody wants it."""
        return h.time_of(self.headers, h.EXPIRES)

    @property
    def origin(self) -> str:
        """The subscription that it died in: kind, name and group with `/` between; "" where nothing tells."""
        return self.headers.get(h.ORIGIN, "")


@dataclass(frozen=True, slots=True)
class Failure:
    """A letter that could not be sent back, and why. It is where it was."""

    id: str
    error: BusError


@dataclass(frozen=True, slots=True, kw_only=True)
class Redriven:
    """What a redrive did.

    `moved`: sent back, and gone from the dead letters. `doubled`: ids that were sent back and could not be removed:
    the next redrive sends them again. `failed`: not sent. `left`: seen and given back, since they were not asked
    for, belong to another subscription or died while this ran. `missing`: ids asked for that were not there.
    """

    moved: int
    doubled: tuple[str, ...] = ()
    failed: tuple[Failure, ...] = ()
    left: int = 0
    missing: tuple[str, ...] = ()


def _number(text: str | None) -> float | None:
    """Headers may be anybody's: what is no finite number is none."""
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if abs(number) < float("inf") else None
