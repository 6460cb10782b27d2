"""A message in one queue, and who it can be leased to."""

from __future__ import annotations

import itertools
import operator
from typing import Protocol

from msgbus.message import Delivery, Outgoing

_sequence = itertools.count()
by_sequence = operator.attrgetter("sequence")


class Holder(Protocol):
    """Who deliveries are leased to, for `lease` seconds. `unsettled`: how many it has."""

    unsettled: int
    lease: float


class Stored:
    """A message in one queue, and the token of its deliveries.

    In flight it knows the `delivery` that is out and its `holder`: a token of an older lease settles nothing.
    """

    __slots__ = (
        "attempt",
        "deliveries",
        "delivery",
        "headers",
        "holder",
        "lane",
        "lease_ends",
        "out",
        "sequence",
        "since",
    )

    holder: Holder
    delivery: Delivery | None
    lease_ends: float

    def __init__(self, out: Outgoing, since: float, lane: str | None) -> None:
        self.out = out
        self.headers = out.headers
        self.since = since
        self.lane = lane
        self.sequence = next(_sequence)
        self.deliveries = 0
        self.attempt = 1
