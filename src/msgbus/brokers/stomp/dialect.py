"""What differs between the servers: names, the headers of frames, and what each can do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from msgbus.broker import Capabilities
from msgbus.brokers.mailbox import Mailbox
from msgbus.brokers.stomp.codec import Frame
from msgbus.brokers.stomp.conversation import Conversation
from msgbus.brokers.stomp.properties import PRIORITY, Arrived
from msgbus.clock import Clock
from msgbus.message import Address, Outgoing, Settlement, Source

Another = Callable[[], Awaitable[Conversation]]
"""Opens a connection more."""


class Dialect(Protocol):
    """One kind of server."""

    @property
    def together(self) -> bool:
        """Whether it has stored what it confirms of a transaction."""
        ...

    @property
    def makes_queues(self) -> bool:
        """Whether a SEND or SUBSCRIBE makes the queue that is missing. Otherwise the message is dropped."""
        ...

    @property
    def gives_back(self) -> bool:
        """Whether NACK gives one message back to its queue."""
        ...

    async def learn(self, conversation: Conversation, clock: Clock) -> None:
        """Find out what CONNECTED does not say."""
        ...

    def capabilities(self, source: Source | None) -> Capabilities:
        """What it can do."""
        ...

    def queue_of(self, place: Source | Address) -> str:
        """The name of the queue of a source, or of an address that is a queue or one group."""
        ...

    def dead_of(self, queue: str) -> str:
        """The name of the queue of its dead letters."""
        ...

    def limit(self, out: Outgoing) -> str:
        """What of a message is more than the server takes; "" where nothing is."""
        ...

    def frame(self, out: Outgoing, now: float) -> Frame:
        """The SEND of a message. `now`: Unix time."""
        ...

    def copy(self, queue: str, settlement: Settlement, now: float) -> Frame:
        """The SEND of a delivery's copy to its own queue, or to that of its dead letters."""
        ...

    def arrived(self, frame: Frame) -> Arrived:
        """A MESSAGE."""
        ...

    def subscription(self, source: Source, prefetch: int) -> Mapping[str, str]:
        """The headers of a SUBSCRIBE."""
        ...

    def mailbox(self, clock: Clock, another: Another) -> Mailbox[Frame]:
        """Where the messages of a subscription are gathered; `another` gives it a connection more."""
        ...

    async def open_inbox(self, conversation: Conversation, mailbox: Mailbox[Frame]) -> str:
        """Subscribe to an inbox of this connection's own; the address for replies."""
        ...

    async def there(self, another: Another, clock: Clock, names: Collection[str]) -> Collection[str] | None:
        """Which of these queues are there, and perhaps others; None where the server can't tell."""
        ...

    async def make(self, conversation: Conversation, sources: Sequence[tuple[Source, str]]) -> None:
        """Make queues: the source, and the queue's name (its own, or that of its dead letters)."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class StompOptions:
    """`SendOptions(native=StompOptions(priority=7))`.

    `priority`: 0 to 9 as JMS has them, to 255 on RabbitMQ, whose queue must know priorities. `persistent`: False may
    lose the message with the server. `text`: a JMS TextMessage on ActiveMQ, else a BytesMessage; the body must be
    UTF-8. `headers`: native ones of the SEND, such as `AMQ_SCHEDULED_CRON`, as they are.
    """

    priority: int | None = None
    persistent: bool = True
    text: bool = False
    headers: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        if self.priority is not None and not 0 <= self.priority <= 255:
            raise ValueError(f"StompOptions.priority is {self.priority}, allowed are 0 to 255")


def priority_fault(out: Outgoing, most: int) -> str:
    """What is wrong with a priority that the sender gave as a header; "" where nothing is."""
    given = out.headers.get(PRIORITY, "")
    return (
        ""
        if not given or (given.isdecimal() and len(given) < 4 and int(given) <= most)
        else (f"the header {PRIORITY} is {given[:40]!r}: a number from 0 to {most}")
    )


def prefer(options: StompOptions, headers: dict[str, str], priorities: int) -> None:
    """The sender's own wishes, as headers of a SEND. `priorities`: the highest that the server knows."""
    if options.priority is not None:
        headers["priority"] = str(min(priorities, options.priority))
    if not options.persistent:
        headers["persistent"] = "false"
    headers.update(options.headers)
