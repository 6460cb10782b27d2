"""ActiveMQ Classic, and Amazon MQ for ActiveMQ.

Topic NAME -> topic `VirtualTopic.NAME`. Group G of it -> queue `Consumer.G.VirtualTopic.NAME`. Queue NAME -> queue
NAME. Dead letters -> queue `DLQ.QUEUE`, where ActiveMQ's own individualDeadLetterStrategy puts them too.
(https://activemq.apache.org/components/classic/documentation/virtual-destinations, .../stomp)
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial

from msgbus import headers as h
from msgbus.broker import Capabilities
from msgbus.brokers.mailbox import Mailbox
from msgbus.brokers.mq.capabilities import BATCH, common
from msgbus.brokers.stomp.codec import Frame
from msgbus.brokers.stomp.conversation import Conversation
from msgbus.brokers.stomp.dialect import Another, StompOptions, prefer, priority_fault
from msgbus.brokers.stomp.looking import Looking
from msgbus.brokers.stomp.maps import FORM
from msgbus.brokers.stomp.modified import modified
from msgbus.brokers.stomp.properties import DELAY, GROUP, NATIVE, PRIORITY, Arrived, is_text, read, resent, write
from msgbus.brokers.stomp.settings import Options
from msgbus.clock import Clock
from msgbus.errors import BusError, Disconnected, Unavailable
from msgbus.message import Act, Address, CopyOf, Outgoing, Settlement, Source

log = logging.getLogger("msgbus.stomp")

LONGEST = 30 * 86_400.0  # seconds of a delay
_LATE = 1.5  # seconds that the scheduler may be late
_HEADER = 10_000  # bytes of one header: StompWireFormat's MAX_HEADER_LENGTH is 10 KiB, with the name
_ANSWER = 10.0  # seconds that the server may take to tell about itself
_READ = {native: header for header, native in NATIVE.items()}
_INBOXES = r"/remote-temp-queue/ID:[^,/?]+"  # a comma would make it several destinations, of any kind
_QUEUES = "/topic/ActiveMQ.Advisory.Queue"


class ActiveMq:
    """See dialect.Dialect."""

    together = True
    makes_queues = True
    gives_back = False  # a NACK would make it a dead letter

    def __init__(self, options: Options) -> None:
        self._options = options
        self._scheduler = True

    async def learn(self, conversation: Conversation, clock: Clock) -> None:
        """Whether there is a scheduler: without one, what should wait comes before what is sent after it."""
        mailbox: Mailbox[Frame] = Mailbox(clock)
        here = {"destination": "/temp-queue/probe"}
        await conversation.subscribe("probe", {**here, "ack": "auto"}, mailbox)
        conversation.tell(Frame("SEND", {**here, DELAY: "1000"}))
        conversation.tell(Frame("SEND", {**here, "probe": "mark"}))
        first = await mailbox.take(1, _ANSWER)
        if not first:
            raise Unavailable(f"the server delivered nothing within {_ANSWER:g} s")
        self._scheduler = "probe" in first[0].headers
        await conversation.unsubscribe("probe")

    def capabilities(self, source: Source | None) -> Capabilities:
        """An ordered source can't be retried by the server: a copy would come after its followers."""
        ordered = source is not None and source.ordered
        native = self._scheduler and not ordered
        return replace(
            common(self._options.max_bytes),
            send_delay=LONGEST if self._scheduler else None,
            order="key",
            retry_delay=LONGEST if native else None,
            retry_resolution=_LATE if native else 0.0,
            inboxes=_INBOXES,
        )

    # -- names

    def queue_of(self, place: Source | Address) -> str:
        """The queue's name. A group is one element of a name whose elements are divided by dots."""
        if place.kind != "topic":
            return place.name
        return f"Consumer.{place.group.replace('.', '%2E')}.VirtualTopic.{place.name}"

    def dead_of(self, queue: str) -> str:
        """Where its dead letters are."""
        return f"DLQ.{queue}"

    def _destination(self, address: Address) -> str:
        kind, name, group = address
        if kind == "topic" and not group:
            return f"/topic/VirtualTopic.{name}"
        return name if kind == "reply" else f"/queue/{self.queue_of(address)}"

    # -- messages

    def limit(self, out: Outgoing) -> str:
        """One header line is bounded."""
        if PRIORITY in out.headers and (why := priority_fault(out, 9)):
            return why
        if max(map(len, out.headers.values()), default=0) > _HEADER // 8:
            for name, value in out.headers.items():
                size = len(name.encode()) + len(value.encode()) + sum(value.count(c) for c in "\\:\r\n")
                if size > _HEADER:
                    return f"the header {name[:40]} has {size:,} bytes, ActiveMQ takes {_HEADER:,}"
        return ""

    def frame(self, out: Outgoing, now: float) -> Frame:
        """The SEND of a message."""
        headers = {"destination": self._destination(out.address), "persistent": "true"}
        if out.lane:  # of ordered targets alone: a group waits for its one consumer, however slow
            headers[GROUP] = out.lane
        if out.delay > 0:
            headers[DELAY] = str(math.ceil(out.delay * 1000))
        if out.expires_at is not None and h.REPLY_TO not in out.headers:
            # The server counts from the moment a delayed message is due.
            headers["expires"] = str(max(1, int((out.expires_at - max(0.0, out.delay)) * 1000)))
        given, body = out.headers, out.body
        if isinstance(out.native, StompOptions):
            prefer(out.native, headers, 9)
        elif isinstance(out.native, CopyOf) and isinstance(out.native.delivery.token, Arrived):
            given, body = resent(out.native)
            headers |= _kept(out.native.delivery.token)
        if out.native is not None and _is_text(out):
            headers["amq-msg-type"] = "text"
        write(given, headers, NATIVE)
        return Frame("SEND", headers, modified(body) if "amq-msg-type" in headers else body)

    def copy(self, queue: str, settlement: Settlement, now: float) -> Frame:
        """The SEND of a copy. A retry expires when the message does, a dead letter never."""
        arrived: Arrived = settlement.delivery.token
        native, delay = arrived.native, settlement.delay if settlement.act is Act.RETRY else 0.0
        dead = settlement.act is Act.DEAD
        headers = {"destination": f"/queue/{self.dead_of(queue) if dead else queue}", "persistent": "true"}
        if delay > 0:
            headers[DELAY] = str(math.ceil(delay * 1000))
        expires, more = native.get("expires", "0"), settlement.headers or {}
        if expires != "0" and expires.isdecimal() and len(expires) < 15:
            if dead:
                more = {h.EXPIRES: h.rfc3339(int(expires) / 1000), **more}
            else:
                headers["expires"] = str(max(1, int(expires) - int(delay * 1000)))
        headers |= _kept(arrived)
        write({**arrived.headers, **more}, headers, NATIVE)
        body = arrived.shown or arrived.body
        return Frame("SEND", headers, modified(body) if "amq-msg-type" in headers else body)

    arrived = staticmethod(partial(read, _READ))  # of each message: a method would be a frame more

    def subscription(self, source: Source, prefetch: int) -> Mapping[str, str]:
        """Each message is acknowledged by itself."""
        headers = {
            "destination": f"/queue/{self.queue_of(source)}",
            "ack": "client-individual",
            "activemq.prefetchSize": str(min(prefetch, 32_766)),
        }
        selector = selector_of(source) if self._options.selectors == "on" else ""
        return {**headers, "selector": selector} if selector else headers

    def mailbox(self, clock: Clock, another: Another) -> Looking:
        """It looks again at what is shown as nothing."""
        return Looking(clock, another)

    # -- reply inboxes

    async def open_inbox(self, conversation: Conversation, mailbox: Mailbox[Frame]) -> str:
        """A temporary queue. Its name for others is made of the session's; a message must find the way first."""
        await conversation.subscribe("inbox", {"destination": "/temp-queue/inbox", "ack": "auto"}, mailbox)
        address = f"/remote-temp-queue/{conversation.connected.get('session', '')}:1"
        conversation.tell(Frame("SEND", {"destination": address}, b"hello"))
        if not await mailbox.take(1, _ANSWER):
            raise Unavailable(f"the reply inbox is not called {address}")
        return address

    # -- topology

    async def there(self, another: Another, clock: Clock, names: Collection[str]) -> Collection[str] | None:
        """Every queue that an advisory tells of. A new subscriber is told of those that exist.

        They come one by one, in the order of the connection: a message of our own after them is their end.
        """
        conversation = await another()
        mailbox: Mailbox[Frame] = Mailbox(clock)
        here = {"destination": "/temp-queue/mark", "ack": "auto"}
        try:
            await conversation.subscribe("queues", {"destination": _QUEUES, "ack": "auto"}, mailbox, confirmed=False)
            await conversation.subscribe("mark", here, mailbox, confirmed=False)
            conversation.tell(Frame("SEND", {"destination": "/temp-queue/mark"}))
            async with asyncio.timeout(_ANSWER):
                return await _until_mark(mailbox)
        except (BusError, TimeoutError) as error:
            if isinstance(error, Disconnected):
                (await another()).abandon()  # raises where the server is gone
            log.warning("ActiveMQ does not tell which queues there are (no advisories, or no XStream): %r", error)
            return None
        finally:
            conversation.abandon()

    async def make(self, conversation: Conversation, sources: Sequence[tuple[Source, str]]) -> None:
        """A queue is made by whoever first subscribes to it; with a prefetch of 0 nothing is delivered."""
        for _, queue in sources:
            headers = {"destination": f"/queue/{queue}", "ack": "client-individual", "activemq.prefetchSize": "0"}
            await conversation.subscribe("make", headers, None)
            await conversation.unsubscribe("make")


def _is_text(out: Outgoing) -> bool:
    """Whether it becomes a JMS TextMessage: where its sender says so, or the request that it answers was one."""
    native = out.native
    if not isinstance(native, Arrived):
        return isinstance(native, StompOptions) and native.text
    try:
        return is_text(native) and bool(out.body.decode())
    except UnicodeDecodeError:
        return False


def _kept(arrived: Arrived) -> dict[str, str]:
    """What a copy has of the original beside headers and body: its priority, and that it is text of JMS, or a map."""
    native = arrived.native
    kept = {"priority": native["priority"]} if native.get("priority", "4") != "4" else {}
    if arrived.shown:
        kept["transformation"] = FORM
    elif arrived.body and is_text(arrived):
        kept["amq-msg-type"] = "text"
    return kept


async def _until_mark(mailbox: Mailbox[Frame]) -> set[str]:
    found: set[str] = set()
    while True:
        for frame in await mailbox.take(BATCH, _ANSWER):
            if frame.headers.get("subscription") == "mark":
                return found
            found.update(_names(frame.body))


def _names(body: bytes) -> list[str]:
    """The queue of an advisory: {"DestinationInfo": {"destination": {"@class": "ActiveMQQueue", "string": NAME}}}."""
    try:
        told = json.loads(body)["DestinationInfo"]["destination"]
    except (ValueError, LookupError, TypeError):
        return []
    return [value for name, value in told.items() if name != "@class" and isinstance(value, str)]


def selector_of(source: Source) -> str:
    """A filter as SQL-92, "" for none (https://activemq.apache.org/components/classic/documentation/selectors).

    A header whose name is no identifier can't be selected by: what it would keep away, the core skips.
    """
    conditions = []
    for name, values in source.filter:
        property_ = "JMSType" if name == h.TYPE else name
        if property_.isidentifier() and property_.isascii():
            listed = ", ".join("'" + value.replace("'", "''") + "'" for value in values)
            conditions.append(f"{property_} IN ({listed})")
    return " AND ".join(conditions)
