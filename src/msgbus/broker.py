"""The seam: what a broker must do, and what it says of itself.

A broker moves bytes. Retry, batching, ordering, reconnecting, codecs and leases live in the core, which reads
`Capabilities` to know what the broker does natively and what it must do itself.

What holds throughout:

- Names of topics, queues and groups are 1 to 80 ASCII letters, digits, `.`, `-` and `_`, after a prefix of up to 40
  of the same. No other character comes, so a broker may use them as separators of its own (`/`, `:`, `~`).
- The core opens a `Delivery` in place: its body and headers are what the handler sees. A broker that retries or
  dead-letters by sending a copy makes it of the native message (`raw` or `token`), or the copy can't be opened again.
- A dead letter never expires, whatever its message said.
- Nothing spreads. An entry that can't be written is Refused alone; what can't be read is handed in with
  `Delivery.fault` and its raw form; only broken framing ends a receiver. An error that is no BusError is a bug.
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

    The defaults describe the weakest broker, so that a forgotten field costs speed, never a message. "Told": nothing
    in the core asks for it; the shared suite tests it and the table of brokers shows it. The Bus refuses a payload
    over `message_bytes`, with its headers, before it is sent. What is larger can come all the same (a redrive, a copy
    with failure headers): a broker answers Refused for that entry alone.
    """

    # sending
    send_batch: int = 1  # entries of one `send`
    send_bytes: int | None = None  # their bodies and headers in sum
    send_slots: int = 1  # calls of `send` in flight at once
    # "connection": calls of `send` in flight at once arrive in the order in which they were made. "gated": the core
    # lets one entry per lane out at a time, until it is confirmed. "none" goes with `order` "none" alone.
    send_order: Literal["none", "connection", "gated"] = "none"
    send_delay: float | None = None  # longest native delay of a send
    message_bytes: int | None = None  # one body with its headers
    headers: int | None = None  # how many a message may carry; None: enough, 0: none at all
    binary: bool = False  # bodies may be any bytes, else text
    dedup_window: float | None = None  # a repeated `dedup_id` is swallowed within it (told)
    expiry: bool = False  # `expires_at` is honoured by the server; the core looks at every delivery all the same (told)
    # receiving
    receive_batch: int = 1  # entries of one `receive`
    # What a source with `ordered` keeps: the order of each key, or of everything in it (then one receiver at a time
    # has it). The core handles each lane one by one in both; with "none" it refuses `ordered=True` at start.
    order: Literal["none", "key", "source"] = "none"
    lease: float | None = None  # how long a delivery is ours, in force; None: as long as its receiver lives
    lease_extends: bool = False  # `extend` prolongs it
    lease_max: float | None = None  # the longest it can be held in all
    counts_deliveries: bool = False  # a delivery that ended unsettled is in the counts of the next one
    isolates: bool = False  # what came often without being settled is handed out alone; else the core sees to that
    release_counts: bool = True  # a RELEASE raises `Delivery.deliveries` (told)
    # settling
    settle_batch: int = 1  # entries of one `settle`
    settle_slots: int = 1  # calls of `settle` in flight at once; of several, one is for ACK alone
    settle_linger: float = 0.0  # worth waiting to fill a batch
    confirms_settlement: bool = False  # a settled result is durable (told)
    retry_delay: float | None = None  # longest native RETRY delay; None: the core holds the delivery instead
    retry_resolution: float = 0.0  # how much later than asked a RETRY or a delayed send may come (told)
    retry_keeps_order: bool = False  # a RETRY of an ordered source goes back to the head of its lane
    dead_letters: bool = False  # DEAD is written to a place that can be read back
    # patterns
    fanout: bool = False  # topics with groups
    queues: bool = False  # queues of competing consumers
    reply: bool = False  # reply inboxes
    inboxes: str | None = None  # a regular expression: what the address of a reply inbox looks like; None: anything
    replay: bool = False  # `Start` and `seek`
    backlog: Literal["none", "ready", "all"] = "none"  # what `Admin.backlog` counts; "all": the delayed, in flight too
    shared: bool = True  # other processes reach it


@dataclass(frozen=True, slots=True)
class Lag:
    """How late an open receiver is with one part of its source (a shard), in seconds: 0 at the newest."""

    source: Source
    part: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Status:
    """Health of the connection: `reason` says what is wrong or what blocks it, or what fails beside what works.

    `lags`: of what is received now, where the broker knows without asking; others have `Admin.backlog`.
    """

    connected: bool
    blocked: bool = False
    reason: str = ""
    lags: Sequence[Lag] = ()


class Receiver(Protocol):
    """One open subscription. It dies with its connection; the core opens a new one.

    At most `prefetch` deliveries are in hand. A delivery leaves that room when it is settled, and when its lease
    ends: the core never settles what it knows to be lost, so whoever counts settlements alone comes to a halt.
    """

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
        """Carry out each settlement; None where it was accepted, else the error of that entry alone, in their order.

        LeaseLost for a delivery that is no longer this receiver's, or never was; nothing is done for it then.
        RETRY comes back with the next `attempt`, RELEASE with the same one and at no cost where the server can. A
        delivery whose end was neither (a crash, a lost lease) may have been started: where `counts_deliveries` it
        comes back with the next `deliveries`, which `Retry.max_deliveries` bounds, and with the next `attempt` too if
        the server can tell it from what was released unstarted. A RETRY or DEAD that is a copy carries
        `Settlement.headers` beside all of the message's own, and the original is gone only once the copy is safe.
        Throttled and Unavailable are tried again.
        """
        ...

    async def extend(self, batch: Sequence[Delivery], seconds: float) -> Sequence[BusError | None]:
        """Have each lease end `seconds` from now, later or sooner. Called only where `lease_extends`.

        One result per entry, in their order: LeaseLost where it is no longer ours.
        """
        ...

    async def stop(self) -> None:
        """Take nothing new: `receive` returns what it has, then []. Settling still works until the exit."""


@runtime_checkable
class KeepsLeases(Protocol):
    """A Receiver whose broker renews leases by itself, and so can lose some of them while the receiver lives.

    The core sets `on_lost`; the receiver calls it with each delivery in hand that is no longer ours, and LeaseLost."""

    on_lost: Callable[[Delivery, Exception], None] | None


@runtime_checkable
class TellsItsEnd(Protocol):
    """A Receiver that calls `on_end`, which the core sets, once it is dead: with a full window nobody asks it."""

    on_end: Callable[[Exception], None] | None


Mode = Literal["create", "verify", "trust"]  # of `Admin.ensure`


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """A topic that must exist to be published to."""

    name: str
    ordered: bool = False


@dataclass(frozen=True, slots=True)
class QueueSpec:
    """A queue that must exist, with its dead-letter queue, which `ensure` makes before it or beside it.

    A dead letter that finds no queue must not be lost: an error of DEAD leaves the message where it is.
    `max_deliveries`: the native crash-loop cap, well above the handler's attempts; None: the broker's own.
    `lease`: seconds; None leaves what the queue has.
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
    """How much waits: `depth` ready or delayed, `in_flight` delivered and unsettled; None: not told apart from `depth`.

    `oldest`: age in seconds of what waits longest, None where nothing waits or nobody knows.
    """

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
        """Throw away what waits there; how many, about.

        What is in flight stays its holder's, who may give it back; a server that can't do so says it in its page.
        """
        ...

    async def backlog(self, source: Source) -> Backlog | None:
        """How much waits there; None where the broker can't tell."""
        ...

    async def seek(self, source: Source, start: Start) -> None:
        """Have the group read from `start` on, that included. Raises Refused where that can't be."""


@runtime_checkable
class MovesLetters(Protocol):
    """What an Admin may have beside: the service itself sends all dead letters of a source back."""

    async def move_dead_letters(self, source: Source, progress: Callable[[int], object] | None) -> int | None:
        """Move them; how many, about. None where it can't be done so: then they are sent back one by one."""
        ...


Result = Receipt | BusError  # what became of one entry of a `send`


class Broker(Protocol):
    """The data plane of one server."""

    @property
    def admin(self) -> Admin: ...

    async def connect(self) -> None:
        """Connect once, or again after Disconnected; no retry inside.

        Asks the server something, so that a wrong address or password is known now; over HTTP a first call may tell.
        Raises Disconnected or Unavailable where trying again can help, Refused where it can't.
        """

    async def close(self) -> None:
        """Let go of everything; harmless when not connected."""

    def capabilities(self, source: Source | None = None) -> Capabilities:
        """Of this server, or of one source or target on it. Valid after `connect`; never waits.

        A topic without a group is what is published to. `lease` of a source is the one in force, whoever asked for
        it: known once `ensure` was called for it here, or it was opened.
        """
        ...

    def status(self) -> Status:
        """Health of the connection now."""
        ...

    async def send(self, batch: Sequence[Outgoing]) -> Sequence[Result]:
        """Send a batch that keeps to `send_batch` and `send_bytes`: one result per entry, in order.

        Raises only Disconnected, for all entries at once."""
        ...

    def receiver(self, source: Source, *, prefetch: int) -> AbstractAsyncContextManager[Receiver]:
        """Open `source`; at most `prefetch` deliveries are unsettled at a time. Leaving closes it.

        What is unsettled then comes back: at once where the server is told, else when its lease ends.
        Raises Refused where the source is not there or not allowed: at the start `consuming()` raises it, later it is
        tried again, as Disconnected, ReceiverClosed, Throttled and Unavailable are. Leaving never raises.
        """
        ...
