"""When which fault strikes: by chance, or by a script."""

from __future__ import annotations

import enum
import random
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Protocol


class Fault(enum.Enum):
    """What can go wrong, and when the plan is asked: once a call, or once for every entry."""

    REFUSE_CONNECT = "refuse connect"  # a call of connect
    CUT_BEFORE_SEND = "cut before send"  # a call: Disconnected, nothing was sent
    CUT_AFTER_SEND = "cut after send"  # a call: all was sent, and then Disconnected
    THROTTLE_ENTRY = "throttle entry"  # an entry of a send: Throttled
    FAIL_ENTRY = "fail entry"  # an entry of a send: Unavailable
    CUT_RECEIVE = "cut receive"  # a call of receive: the connection goes
    CLOSE_RECEIVER = "close receiver"  # a call of receive: this receiver goes, the connection stays
    THROTTLE_RECEIVE = "throttle receive"  # a call of receive: Throttled
    DUPLICATE = "duplicate"  # a delivery is handed in twice
    REORDER = "reorder"  # a batch is shuffled, as far as the source's order permits
    CUT_AFTER_SETTLE = "cut after settle"  # a call: all was settled, and then Disconnected
    FAIL_SETTLEMENT = "fail settlement"  # an entry of a settle: Throttled, it stays in hand
    LOSE_LEASE = "lose lease"  # an entry of a settle or extend: LeaseLost, the message comes again
    DELAY = "delay"  # a call of send, receive or settle takes longer


class Plan(Protocol):
    """Decides which opportunity becomes a fault."""

    def strikes(self, fault: Fault) -> bool:
        """Whether `fault` happens now; asked at every opportunity, in order."""
        ...


class Chance:
    """Each fault with a probability of its own; the same seed and calls give the same faults."""

    def __init__(self, seed: int, of: Mapping[Fault, float]) -> None:
        self._random = random.Random(seed)
        self._of = dict(of)

    def strikes(self, fault: Fault) -> bool:
        """A draw, for faults that have a chance."""
        chance = self._of.get(fault, 0.0)
        return chance > 0.0 and self._random.random() < chance


class Script:
    """Each fault at given opportunities, counted from 0: `Script({Fault.CUT_AFTER_SEND: [0, 3]})`."""

    def __init__(self, at: Mapping[Fault, Iterable[int]]) -> None:
        self._at = {fault: frozenset(places) for fault, places in at.items()}
        self._asked: Counter[Fault] = Counter()

    def strikes(self, fault: Fault) -> bool:
        """Whether this opportunity is one of those named."""
        place = self._asked[fault]
        self._asked[fault] += 1
        return place in self._at.get(fault, ())
