"""Opens a reply inbox: a direct reply-to consumer, and the name that the server gives it."""

from __future__ import annotations

import uuid

from msgbus import headers as h
from msgbus.brokers.amqp.wire import Arrived, Channel, Publication
from msgbus.brokers.amqp.wires import Wires
from msgbus.brokers.mailbox import Mailbox, ReplyInbox
from msgbus.errors import Unavailable
from msgbus.message import Source

PSEUDO_QUEUE = "amq.rabbitmq.reply-to"


async def open_inbox(wires: Wires, source: Source, mailbox: Mailbox[Arrived]) -> ReplyInbox[Arrived]:
    """On the publishing connection: a lost one loses the replies to what it sent, at once."""
    channel = await wires.publishing().channel(confirms=True)
    try:
        await channel.consume(PSEUDO_QUEUE, mailbox, 0)
        return ReplyInbox(source, mailbox, await _address(channel), lambda arrived: arrived, channel.close)
    except BaseException:
        channel.abandon()
        raise


async def _address(channel: Channel) -> str:
    """The server writes the name into `reply_to` of what is published here: send a message that must come back."""
    nowhere = f"msgbus.nowhere.{uuid.uuid4().hex}"
    returned = await channel.bounce(Publication("", nowhere, {h.REPLY_TO: PSEUDO_QUEUE}, b"", 0))
    address = returned.headers.get(h.REPLY_TO, "")
    if not address.startswith(f"{PSEUDO_QUEUE}."):
        raise Unavailable("the server gave the reply inbox no name: it has no direct reply-to")
    return address
