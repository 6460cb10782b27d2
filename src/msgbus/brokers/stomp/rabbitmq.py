"""RabbitMQ's STOMP plugin (https://www.rabbitmq.com/docs/stomp).

Topic NAME -> routing key NAME of the exchange amq.topic. Group G of it -> queue NAME.G, bound. Queue NAME -> queue
NAME. Dead letters -> queue QUEUE.dead.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial

from msgbus import headers as h
from msgbus.broker import Capabilities
from msgbus.brokers.mailbox import Mailbox
from msgbus.brokers.mq import rabbitmq
from msgbus.brokers.mq.capabilities import common
from msgbus.brokers.mq.errors import said
from msgbus.brokers.stomp.codec import Frame
from msgbus.brokers.stomp.conversation import Conversation
from msgbus.brokers.stomp.dialect import Another, StompOptions, prefer, priority_fault
from msgbus.brokers.stomp.properties import AMQP_ID, NATIVE, PRIORITY, Arrived, read, resent, write
from msgbus.brokers.stomp.settings import Options
from msgbus.clock import Clock
from msgbus.errors import BusError
from msgbus.message import Act, Address, CopyOf, Outgoing, Settlement, Source

_WRITE = {**NATIVE, h.ID: AMQP_ID}
_READ = {native: header for header, native in _WRITE.items()}
_KEPT = ("priority", "timestamp", "app-id")
_REPLY = "/reply-queue/"  # written before the reply_to of AMQP where a MESSAGE shows it


class RabbitMq:
    """See dialect.Dialect."""

    together = False  # the receipt of a COMMIT is no publisher confirm
    makes_queues = False
    gives_back = True  # NACK is basic.nack with requeue

    def __init__(self, options: Options) -> None:
        self._options = options

    async def learn(self, conversation: Conversation, clock: Clock) -> None:
        """CONNECTED says it all."""

    def capabilities(self, source: Source | None) -> Capabilities:
        """No order: the plugin of 3.10 can't make a queue with a single active consumer. No delays."""
        return replace(
            common(self._options.max_bytes),
            lease_max=self._options.consumer_timeout,
            counts_deliveries=self._options.queue_type == "quorum",
            inboxes=f"{_REPLY}(?:{rabbitmq.INBOXES})",
        )

    # -- names

    queue_of = staticmethod(rabbitmq.queue_of)
    dead_of = staticmethod(rabbitmq.dead_of)

    def _destination(self, address: Address) -> str:
        kind, name, group = address
        if kind == "topic" and not group:
            return f"/topic/{name}"
        if kind == "reply":
            return name if name.startswith("/") else _REPLY + name
        return f"/amq/queue/{self.queue_of(address)}"

    # -- messages

    def limit(self, out: Outgoing) -> str:
        """Names of headers have 255 bytes in AMQP, and no reply may go where it ends the connection."""
        if out.address.kind == "reply" and (why := rabbitmq.unsafe_reply(out.address.name.removeprefix(_REPLY))):
            return why
        if PRIORITY in out.headers and (why := priority_fault(out, 255)):
            return why
        names = "".join(out.headers)
        if len(names) > 255 or not names.isascii():
            for name in out.headers:
                if len(name.encode()) > 255:
                    return f"a header name like {name[:40]!r}... is longer than 255 bytes"
        return ""

    def frame(self, out: Outgoing, now: float) -> Frame:
        """The SEND of a message."""
        headers = {"destination": self._destination(out.address), "persistent": "true", "timestamp": str(int(now))}
        if out.expires_at is not None and h.REPLY_TO not in out.headers:
            headers["expiration"] = str(max(0, int((out.expires_at - now) * 1000)))
        given, body = out.headers, out.body
        if isinstance(out.native, StompOptions):
            prefer(out.native, headers, 255)
        elif isinstance(out.native, CopyOf) and isinstance(out.native.delivery.token, Arrived):
            given, body = resent(out.native)
            given = _with_kept(out.native.delivery.token, given, headers, now)
        self._write(given, headers)
        return Frame("SEND", headers, body)

    def copy(self, queue: str, settlement: Settlement, now: float) -> Frame:
        """The SEND of a copy."""
        arrived: Arrived = settlement.delivery.token
        place = self.dead_of(queue) if settlement.act is Act.DEAD else queue
        headers = {"destination": f"/amq/queue/{place}", "persistent": "true", "timestamp": str(int(now))}
        self._write(_with_kept(arrived, {**arrived.headers, **(settlement.headers or {})}, headers, now), headers)
        return Frame("SEND", headers, arrived.body)

    @staticmethod
    def _write(headers: Mapping[str, str], into: dict[str, str]) -> None:
        write(headers, into, _WRITE)
        if "reply-to" in into:  # as a consumer over AMQP needs it
            into["reply-to"] = into["reply-to"].removeprefix(_REPLY)

    arrived = staticmethod(partial(read, _READ))  # of each message: a method would be a frame more

    def subscription(self, source: Source, prefetch: int) -> Mapping[str, str]:
        """Each message is acknowledged by itself. A missing queue is an error, and not made."""
        return {
            "destination": f"/amq/queue/{self.queue_of(source)}",
            "ack": "client-individual",
            "prefetch-count": str(min(prefetch, 65_535)),
        }

    def mailbox(self, clock: Clock, another: Another) -> Mailbox[Frame]:
        """All is shown at once."""
        return Mailbox(clock)

    # -- reply inboxes

    async def open_inbox(self, conversation: Conversation, mailbox: Mailbox[Frame]) -> str:
        """An exclusive queue with a name of its own, which responders over AMQP reach too."""
        name = f"msgbus.reply.{uuid.uuid4().hex}"
        headers = {"destination": f"/exchange/amq.direct/{name}", "x-queue-name": name, "ack": "auto"}
        await conversation.subscribe("inbox", {**headers, "exclusive": "true", "auto-delete": "true"}, mailbox)
        return _REPLY + name

    # -- topology

    async def there(self, another: Another, clock: Clock, names: Collection[str]) -> Collection[str]:
        """Ask for each with a subscription of its own connection that is refused where the queue is.

        The plugin has no other way to ask that neither takes messages nor makes a queue, which a second process that
        starts at once would take for the one it asks about.
        """
        return [name for name in names if await _is_there(await another(), name)]

    async def make(self, conversation: Conversation, sources: Sequence[tuple[Source, str]]) -> None:
        """The subscription of a durable queue makes the queue and its binding, which stay when it ends."""
        for number, (source, queue) in enumerate(sources):
            own = queue == self.queue_of(source)
            headers = {"durable": "true", "auto-delete": "false", "exclusive": "false", "ack": "client-individual"}
            if self._options.queue_type == "quorum":
                headers["x-queue-type"] = "quorum"
            if own:
                headers |= rabbitmq.dead_lettering(queue)
            bound = own and source.kind == "topic"
            headers |= (
                {"destination": f"/topic/{source.name}", "x-queue-name": queue}
                if bound
                else {"destination": f"/queue/{queue}"}
            )
            await conversation.subscribe(f"make-{number}", headers, None)


def _with_kept(arrived: Arrived, given: Mapping[str, str], into: dict[str, str], now: float) -> dict[str, str]:
    """Add to the headers of a copy's SEND what the original had beside its own; the others are left to write."""
    kept = {name: arrived.native[name] for name in _KEPT if name in arrived.native}
    into.update(kept)
    expires = rabbitmq.expires_of(arrived.native.get("expiration", ""), arrived.timestamp or now, now)
    headers = {**expires, **rabbitmq.without_servers_own(given)}
    return {name: value for name, value in headers.items() if name not in kept}


async def _is_there(conversation: Conversation, name: str) -> bool:
    """An offset is an argument of streams alone: "not found" comes before it, "precondition failed" because of it."""
    headers = {"destination": f"/amq/queue/{name}", "ack": "client-individual", "x-stream-offset": "first"}
    try:
        await conversation.subscribe("probe", headers, None)
    except BusError as error:
        text = told.text if (told := said(error)) else ""
        if "NOT_FOUND" in text:
            return False
        if not any(word in text for word in ("PRECONDITION_FAILED", "RESOURCE_LOCKED")):
            raise
    finally:
        conversation.abandon()
    return True
