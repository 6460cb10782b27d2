"""What a session must know about a subscription, and what it counts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from msgbus.broker import Capabilities
from msgbus.claim import BodyStore
from msgbus.envelope import Open
from msgbus.flow import BreakerState
from msgbus.message import Delivery, Source
from msgbus.middleware import Handle, HandleBatch
from msgbus.options import OnDead, Options
from msgbus.policy import Policy


@dataclass(slots=True)
class Stats:
    """Counts of one subscription since the start, for health, tests and metrics."""

    received: int = 0
    handled: int = 0
    retried: int = 0
    dead: int = 0
    released: int = 0
    lost: int = 0
    skipped: int = 0


@dataclass(slots=True, kw_only=True)
class Plan:
    """A subscription, ready to run.

    `handle` is everything around and including the user's function. `open` undoes the envelope. `last_word` is
    asked when a failure is final: True says that the requester was told, so the delivery is acknowledged. `store`
    has the bodies that were too large.
    """

    source: Source
    capabilities: Capabilities
    handle: Handle
    policy: Policy
    options: Options
    concurrency: int
    prefetch: int
    open: Open | None = None
    handle_batch: HandleBatch | None = None
    last_word: Callable[[Delivery, Exception], Awaitable[bool]] | None = None
    breaker: BreakerState | None = None
    on_dead: Sequence[OnDead] = ()
    store: BodyStore | None = None
    stats: Stats = field(default_factory=Stats)
