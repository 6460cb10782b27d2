"""The data that crosses the seam between the core and a broker. Data only: no behaviour, no I/O.

Plain classes with slots rather than frozen dataclasses: one of each is made per message
(docs/decisions/0002-hot-path.md).
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Literal, NamedTuple, TypeVar

from msgbus import headers as h

Kind = Literal["topic", "queue", "reply"]


class Address(NamedTuple):
    """Where a message is sent.

    ("topic", name): every group of the topic. ("topic", name, group): that group's queue alone, as a redrive
    needs it. ("queue", name): a queue, or the requests of an Rpc. ("reply", address): a reply inbox, with the
    address its receiver gave.
    """

    kind: Kind
    name: str
    group: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.name}" + (f" (group {self.group})" if self.group else "")


@dataclass(frozen=True, slots=True)
class Start:
    """Where a subscription with replay begins: the oldest kept message, the newest, a time or a position.

    `at` is a Unix time in seconds for "time", and the broker's own position for "position".
    """

    at: Literal["oldest", "latest", "time", "position"] = "latest"
    value: float | str | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """What a receiver reads, as plain data.

    `ordered` demands order per key. `filter` maps a header (or type attribute) to the values let through, `fields`
    a member of a JSON body to its; a broker may filter on either, and let more through: the core looks again. Empty
    `group`: a queue or a reply inbox.
    """

    kind: Kind
    name: str
    group: str = ""
    ordered: bool = False
    start: Start | None = None
    filter: tuple[tuple[str, tuple[str, ...]], ...] = ()
    fields: tuple[tuple[str, tuple[str | int | bool | None, ...]], ...] = ()

    @property
    def address(self) -> Address:
        """The address that reaches this source alone."""
        return Address(self.kind, self.name, self.group)

    @property
    def origin(self) -> str:
        """As the failure headers of its dead letters name it: `queue/NAME`, `topic/NAME/GROUP`."""
        return "/".join(part for part in self.address if part)

    def __str__(self) -> str:
        return str(self.address)


@dataclass(slots=True, eq=False)
class Outgoing:
    """A message on its way to a broker.

    `headers` holds everything but the body: the CloudEvents attributes (`ce-id`, `ce-type`, ...), `content-type`,
    `correlation_id`, `reply_to` and the user's own; a broker writes the ones it knows to their native place.
    `key` is a hint for the broker; `lane` is the key where order per key is demanded, else None. `delay` in seconds.
    `dedup_id`: what a deduplication window compares; every re-send has one of its own.
    `expires_at`: Unix time after which nobody wants it. `mandatory`: Refused where nobody subscribes, if the
    broker can tell. `native`: the broker's own typed options; of what is sent again, a CopyOf; of a reply, the
    request as it came.
    """

    address: Address
    id: str
    body: bytes
    headers: dict[str, str]
    key: str | None = None
    delay: float = 0.0
    dedup_id: str | None = None
    expires_at: float | None = None
    mandatory: bool = False
    native: object = None
    lane: str | None = None


@dataclass(slots=True, eq=False)
class Receipt:
    """The broker has it.

    `id` is the message's id; `position` is the broker's own (a sequence number), if any. `unrouted`: the broker
    took it and told that nobody subscribes.
    """

    id: str
    position: str | None = None
    unrouted: bool = False


@dataclass(slots=True, eq=False)
class Delivery:
    """A message that a receiver hands in; the core must settle it through that same receiver.

    `token`: the broker's own handle, opaque to the core. `attempt`: which start of a handler this will be, from 1;
    the core counts on from it. `deliveries`: how often the broker handed it out, this one included (1 where it
    does not count). `lane`: the ordering key where the source is ordered, else None. `sent_at`: Unix time.
    `raw`: the native message, for handlers that need more. `fault`: why its receiver could not read all of it; the
    core buries it with that reason, and no handler sees it.
    """

    body: bytes
    source: Source
    headers: Mapping[str, str]
    token: Any = None
    attempt: int = 1
    deliveries: int = 1
    lane: str | None = None
    sent_at: float | None = None
    raw: Any = None
    fault: Exception | None = None


@dataclass(frozen=True, slots=True)
class CopyOf:
    """`Outgoing.native` of what is sent again: a copy keeps what came natively, types and kinds included.

    `delivery`: as its receiver handed it in; `raw` and `token` are the native message. `dropped`: names of its headers
    that the copy has no more. `added`: what it has instead. A broker whose messages are no more than headers and body
    sends those of the Outgoing, as ever.
    """

    delivery: Delivery
    dropped: Collection[str]
    added: Mapping[str, str]


class Act(enum.Enum):
    """What becomes of a delivery."""

    ACK = "ack"
    RETRY = "retry"
    DEAD = "dead"
    RELEASE = "release"


@dataclass(slots=True, eq=False)
class Settlement:
    """The core's decision on one delivery.

    `delay`: seconds, for RETRY. `reason`: why, for DEAD. `error`: what the handler raised, if it did.
    `headers`: what a copy must carry beside the message's
    own headers (attempt, error, origin), for a broker that retries or dead-letters by sending a copy.
    `refused`: how often the broker has refused what was to become of the delivery.
    """

    delivery: Delivery
    act: Act
    delay: float = 0.0
    reason: str = ""
    headers: Mapping[str, str] | None = None
    error: Exception | None = None
    refused: int = 0


T_co = TypeVar("T_co", covariant=True)


class Message(Generic[T_co]):
    """What a handler sees when it asks for more than the payload: `async def handle(message: Message[Order])`."""

    __slots__ = ("delivery", "payload")

    def __init__(self, payload: T_co, delivery: Delivery) -> None:
        self.payload = payload
        self.delivery = delivery

    @property
    def id(self) -> str:
        """The publisher's id; stays the same through redeliveries. "" from a foreign producer that gave none."""
        return self.headers.get(h.ID, "")

    @property
    def key(self) -> str | None:
        """The ordering key."""
        return self.headers.get(h.KEY, self.delivery.lane)

    @property
    def headers(self) -> Mapping[str, str]:
        """All headers, the CloudEvents attributes among them."""
        return self.delivery.headers

    @property
    def attempt(self) -> int:
        """Which start of the handler this is, from 1."""
        return self.delivery.attempt

    @property
    def time(self) -> str:
        """When it was published, RFC 3339; "" from a foreign producer that gave none."""
        return self.headers.get(h.TIME, "")

    @property
    def type(self) -> str:
        """The CloudEvents type: the payload's class name."""
        return self.headers.get(h.TYPE, "")

    @property
    def correlation_id(self) -> str:
        """Shared by everything that one first message caused."""
        return self.headers.get(h.CORRELATION, self.id)

    @property
    def causation_id(self) -> str:
        """The id of the message whose handler published this one; "" if none did."""
        return self.headers.get(h.CAUSATION, "")

    @property
    def source(self) -> Source:
        """The subscription it came through."""
        return self.delivery.source

    @property
    def raw(self) -> Any:
        """The broker's native message, where it has one."""
        return self.delivery.raw

    def __repr__(self) -> str:
        return f"Message({self.payload!r}, id={self.id!r}, attempt={self.attempt})"
