"""The grouped options of a subscription and of a publish. Times in seconds."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from msgbus.errors import ConfigError, Unavailable
from msgbus.message import Delivery, Start

OnDead = Callable[[Delivery, Exception], Awaitable[None]]


def _check(name: str, ok: bool, allowed: str) -> None:
    if not ok:
        raise ConfigError(f"{name}: {allowed}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """What happens when a handler raises.

    `attempts`: starts of the handler in all, 1 means no retry. The first `in_place` of them follow one another at
    once, without giving the message back. The delay before retry n is `first_delay * factor**(n-1)`, at most
    `max_delay`; `jitter` 1.0 draws it from 0 to that value, 0.0 takes it as it is.
    `on`: only these exceptions are retried; `never`: these are dead at once. `max_deliveries`: a message that was
    handed out more often without being settled kills its process: dead-lettered unseen (where the broker counts).
    `max_age`: a failing message that was sent longer ago than so many seconds is dead, whatever attempts are left
    (where the broker tells when it was sent). `on_dead(delivery, error)` is awaited after a message was dead-lettered.
    `Unavailable` is retried without a cap, at `max_delay` in the end: it is not the message's fault.
    """

    attempts: int = 5
    first_delay: float = 1.0
    factor: float = 2.0
    max_delay: float = 300.0
    jitter: float = 0.5
    in_place: int = 0
    on: tuple[type[Exception], ...] = (Exception,)
    never: tuple[type[Exception], ...] = ()
    max_deliveries: int | None = None
    max_age: float | None = None
    on_dead: OnDead | None = None

    def __post_init__(self) -> None:
        _check("Retry.attempts", self.attempts >= 1, "at least 1 (the first start counts)")
        _check("Retry.first_delay", self.first_delay >= 0, "0 or more seconds")
        _check("Retry.factor", self.factor >= 1, "1 or more")
        _check("Retry.max_delay", self.max_delay >= self.first_delay, "at least first_delay")
        _check("Retry.jitter", 0 <= self.jitter <= 1, "between 0 and 1")
        _check("Retry.in_place", 0 <= self.in_place < self.attempts, "0 or more, and fewer than attempts")
        _check("Retry.max_age", self.max_age is None or self.max_age > 0, "more than 0 seconds")
        limit = self.max_deliveries
        _check("Retry.max_deliveries", limit is None or limit > self.attempts, "more than attempts")

    @property
    def deliveries_cap(self) -> int:
        """`max_deliveries`, or what stands for it: enough for every attempt, and some more that were no fault."""
        return self.max_deliveries or self.attempts * 2 + 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Breaker:
    """Pauses a subscription while what it depends on is down.

    After `failures` failures of the kinds in `on` without a success in between, nothing is received for `pause`
    seconds; then one message at a time is tried until one succeeds. By default only `Unavailable` counts: any other
    error may be that of one message alone.
    """

    failures: int = 5
    pause: float = 30.0
    on: tuple[type[Exception], ...] = (Unavailable,)

    def __post_init__(self) -> None:
        _check("Breaker.failures", self.failures >= 1, "at least 1")
        _check("Breaker.pause", self.pause > 0, "more than 0 seconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much a subscription takes on.

    `concurrency`: handlers running at once. `prefetch`: deliveries in hand at once, running ones included; 4 times
    the concurrency by default. `rate`: deliveries taken a second. `timeout`: seconds a handler may run before it
    is cancelled, which counts as a failure; refused for a handler in a thread (`def`), which nothing can cancel.
    """

    concurrency: int | None = None
    prefetch: int | None = None
    rate: float | None = None
    timeout: float | None = None
    breaker: Breaker | None = Breaker()

    def __post_init__(self) -> None:
        _check("Limits.concurrency", self.concurrency is None or self.concurrency >= 1, "at least 1")
        _check("Limits.prefetch", self.prefetch is None or self.prefetch >= 1, "at least 1")
        _check("Limits.rate", self.rate is None or self.rate > 0, "more than 0 a second")
        _check("Limits.timeout", self.timeout is None or self.timeout > 0, "more than 0 seconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """How long a delivery is held.

    `seconds`: the lease that is asked for and renewed at a third of it; None: the broker's own. `longest`: in all,
    after which the handler is cancelled. `hold`: on ordered sources, a retry due sooner than this waits in hand;
    a later one goes back to the broker with all that waits behind it, where the broker keeps their order.
    """

    seconds: float | None = None
    longest: float = 12 * 3600.0
    hold: float = 60.0

    def __post_init__(self) -> None:
        _check("Lease.seconds", self.seconds is None or self.seconds >= 1, "at least 1 second")
        _check("Lease.longest", self.longest > 0, "more than 0 seconds")
        _check("Lease.hold", self.hold >= 0, "0 or more seconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """A handler that takes `list[T]`: up to `size` messages, waiting at most `wait` seconds for more.

    `bisect`: a batch whose handler raises is handled again in halves, until what fails stands alone; the others
    succeed in the same attempt. For handlers whose failure undoes all they did for the batch, as a transaction does.
    """

    size: int = 100
    wait: float = 0.1
    bisect: bool = False

    def __post_init__(self) -> None:
        _check("Batch.size", self.size >= 1, "at least 1")
        _check("Batch.wait", self.wait >= 0, "0 or more seconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class Select:
    """Which messages of a topic a group gets.

    `start`: where a new group begins, on brokers with replay. `where`: header -> the values let through; name the
    headers in `Topic(filter_on=...)`. `fields`: field of the payload -> the values let through: text, whole numbers,
    booleans, None, or members of an Enum of such. The broker filters where it can, the core what is left: what is
    not let through is skipped, and no handler sees it.
    """

    start: Start | None = None
    where: Mapping[str, Sequence[str]] | None = None
    fields: Mapping[str, Sequence[object]] | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """A batch handler returns one for each entry that failed: its index in the list, and why."""

    index: int
    error: Exception | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """All options of one subscription, as the decorators gather them. `batched`: a `Batch` was given."""

    retry: Retry
    limits: Limits
    lease: Lease
    batch: Batch
    batched: bool = False

    @classmethod
    def of(cls, *, retry: Retry | None, limits: Limits | None, lease: Lease | None, batch: Batch | None) -> Options:
        """Fill in the defaults."""
        return cls(
            retry=retry or Retry(),
            limits=limits or Limits(),
            lease=lease or Lease(),
            batch=batch or Batch(),
            batched=batch is not None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SendOptions:
    """The rarer options of a publish.

    `id`: the message's id instead of a new UUIDv7. `dedup_id`: what the broker's deduplication window compares,
    the id by default. `expires_in`: seconds after which nobody wants it. `native`: the broker's own typed options.
    """

    id: str | None = None
    dedup_id: str | None = None
    expires_in: float | None = None
    native: object = None
