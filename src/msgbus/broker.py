"""The seam: what a broker must do, and what it says of itself.

A broker moves bytes. Retry, batching, ordering, reconnecting, codecs and leases live in the core, which reads
`Capabilities` to know what the broker does natively and what it must do itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from msgbus.errors import BusError
from msgbus.message import Delivery, Outgoing, Receipt, Settlement, Source, Start


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a server (and a source on it) can do. Times in seconds, sizes in bytes; None: no limit, or not at all.

    The defaults describe the weakest broker, so that a forgotten field costs speed, never a message.
    """

    # sending
    send_batch: int = 1  # entries of one `send`
    send_bytes: int | None = None  # their bodies and headers in sum
    send_slots: int = 1  # calls of `send` in flight at once
    send_order: Literal["none", "connection", "gated"] = "none"  # gated: one unconfirmed entry per lane
    send_delay: float | None = None  # longest native delay of a send
    message_bytes: int | None = None  # one body with its headers
    headers: int | None = None  # how many a message may carry; None: enough, 0: none at all
    binary: bool = False  # bodies may be any bytes, else text
    dedup_window: float | None = None  # a repeated `dedup_id` is swallowed within it
    expiry: bool = False  # `expires_at` is honoured by the broker
    # receiving
    receive_batch: int = 1  # entries of one `receive`
    order: Literal["none", "key", "source"] = "none"  # what an ordered source keeps
    lease: float | None = None  # how long a delivery is ours; None: as long as its receiver lives
    lease_extends: bool = False  # `extend` prolongs it
    lease_max: float | None = None  # the longest it can be held in all
    counts_deliveries: bool = False  # `Delivery.deliveries` survives a crash of the consumer
    release_counts: bool = True  # a RELEASE raises that count
    # settling
    settle_batch: int = 1  # entries of one `settle`
    settle_slots: int = 1  # calls of `settle` in flight at once; of several, one is for ACK alone
    settle_linger: float = 0.0  # worth waiting to fill a batch
    confirms_settlement: bool = False  # a settled result is durable
    retry_delay: float | None = None  # longest native RETRY delay; None: the core holds the delivery instead
    retry_resolution: float = 0.0  # how much later than asked a RETRY may come
    retry_keeps_order: bool = False  # a RETRY of an ordered source goes back to the head of its lane
    dead_letters: bool = False  # DEAD is written to a place that can be read back
    # patterns
    fanout: bool = False  # topics with groups
    queues: bool = False  # queues of competing consumers
    reply: bool = False  # reply inboxes
    replay: bool = False  # `Start` and `seek`
    shared: bool = True  # other processes reach it


@dataclass(frozen=True, slots=True)
class Lag:
    """How late an open receiver is with one part of its source (a shard), in seconds: 0 at the newest."""

    source: Source
    part: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Status:
    """Health of the connection: `reason` says what is wrong or what blocks it.

    `lags`: of what is being received, on brokers that know it without asking; others have `Admin.backlog`.
    """

    connected: bool
    blocked: bool = False
    reason: str = ""
    lags: Sequence[Lag] = ()


class Receiver(Protocol):
    """One open subscription. It dies with its connection; the core opens a new one."""

    @property
    def address(self) -> str:
        """Where replies to this receiver go; "" unless its source is a reply inbox."""
        ...

    async def receive(self, limit: int, wait: float) -> Sequence[Delivery]:
        """Hand in up to `limit` deliveries as soon as there is one; [] after about `wait` seconds.

        One caller at a time. Cancel-safe: what a cancelled call had taken is handed in by the next.
        Raises Disconnected or ReceiverClosed when this receiver is dead; any other BusError means "call again".
        """
        ...

    async def settle(self, batch: Sequence[Settlement]) -> Sequence[BusError | None]:
        """Carry out each settlement; None where it was accepted, else the error of that entry alone."""
        ...

    async def extend(self, batch: Sequence[Delivery], seconds: float) -> Sequence[BusError | None]:
        """Have each lease end `seconds` from now. Called only where `lease_extends`."""
        ...

    async def stop(self) -> None:
        """Take nothing new: `receive` returns what it has, then []. Settling still works until the exit."""
        ...


@runtime_checkable
class KeepsLeases(Protocol):
    """A Receiver whose broker renews leases by itself, and so can lose some of them while the receiver lives.

    The core sets `on_lost`; the receiver calls it with each delivery in hand that is no longer ours, and LeaseLost.
    """

    on_lost: Callable[[Delivery, Exception], None] | None


Mode = Literal["create", "verify", "trust"]


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """A topic that must exist to be published to."""

    name: str
    ordered: bool = False


@dataclass(frozen=True, slots=True)
class QueueSpec:
    """A queue that must exist, with its dead-letter queue.

    `max_deliveries`: the native crash-loop cap, well above the handler's attempts; None: the broker's own.
    """

    source: Source
    max_deliveries: int | None = None
    lease: float | None = None


@dataclass(frozen=True, slots=True)
class Binding:
    """A topic's messages flow into the queue of a group."""

    topic: str
    source: Source


Part = TopicSpec | QueueSpec | Binding


@dataclass(frozen=True, slots=True)
class Difference:
    """What `ensure` found: `made` says whether it was put right, otherwise `wanted` and `found` differ."""

    part: str
    wanted: str
    found: str
    made: bool = False


@dataclass(frozen=True, slots=True)
class Backlog:
    """How much waits: `depth` ready, `in_flight` delivered and unsettled, `oldest` age in seconds."""

    depth: int
    in_flight: int | None = None
    oldest: float | None = None


class Admin(Protocol):
    """Topology and operations: the cold side of a broker, in a file of its own."""

    async def ensure(self, topology: Sequence[Part], mode: Mode) -> Sequence[Difference]:
        """Create what is missing, only say what differs ("verify"), or do nothing ("trust")."""
        ...

    async def dead_letters(self, source: Source) -> Source | None:
        """Where the dead letters of `source` can be read; None where there is no such place."""
        ...

    async def purge(self, source: Source) -> int:
        """Throw away what waits there; how many."""
        ...

    async def backlog(self, source: Source) -> Backlog | None:
        """How much waits there; None where the broker can't tell."""
        ...

    async def seek(self, source: Source, start: Start) -> None:
        """Have the group read from `start` on. Raises Refused where there is no replay."""
        ...


@runtime_checkable
class MovesLetters(Protocol):
    """What an Admin may have beside: the service itself sends all dead letters of a source back."""

    async def move_dead_letters(self, source: Source, progress: Callable[[int], object] | None) -> int | None:
        """Move them; how many, about. None where it can't be done so: then they are sent back one by one."""
        ...


Result = Receipt | BusError
"""What became of one entry of a `send`."""


class Broker(Protocol):
    """The data plane of one server."""

    @property
    def admin(self) -> Admin: ...

    async def connect(self) -> None:
        """Connect once, or again after Disconnected; no retry inside.

        Raises Disconnected or Unavailable where trying again can help, Refused where it can't.
        """
        ...

    async def close(self) -> None:
        """Let go of everything; harmless when not connected."""
        ...

    def capabilities(self, source: Source | None = None) -> Capabilities:
        """Of this server, or of one source or target on it. Valid after `connect`.

        A topic without a group is what is published to.
        """
        ...

    def status(self) -> Status:
        """Health of the connection now."""
        ...

    async def send(self, batch: Sequence[Outgoing]) -> Sequence[Result]:
        """Send a batch that keeps to `send_batch` and `send_bytes`: one result per entry, in order.

        Raises only Disconnected, for all entries at once.
        """
        ...

    def receiver(self, source: Source, *, prefetch: int) -> AbstractAsyncContextManager[Receiver]:
        """Open `source`; at most `prefetch` deliveries are unsettled at a time. Leaving closes it."""
        ...
