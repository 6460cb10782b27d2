"""A raw client of ActiveMQ, and the odd messages that it takes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from urllib.parse import urlsplit

from tests.slowness import slowness

BODY = b'{"key": "odd", "number": 0}'

FRAMES: Mapping[str, tuple[bytes, bytes]] = {
    "text with a length": (b"amq-msg-type:text\ncontent-length:27\n", BODY),
    "text with another length": (b"amq-msg-type:text\ncontent-length:27\n", "\u00fc".encode() * 13 + b"!"),
    "text beyond the BMP": (b"amq-msg-type:text\n", '{"key": "odd", "number": "\U0001f680"}'.encode()),
    "a name with a line feed": (b"odd\\nname:x\n", BODY),
    "a name with two line feeds": (b"odd\\n\\nname:x\n", BODY),
    "a name with a colon": (b"odd\\cname:x\n", BODY),
    "a value with line feeds": (b"odd:x\\n\\ny\n", BODY),
    "a value that is not ASCII": ("odd:\u00fc\U0001f680\n".encode(), BODY),
    "no body": (b"", b""),
    "a body that is not UTF-8": (b"content-length:3\n", b"\xff\0\xfe"),
    "an odd content type": (b"content-type:no/such;charset=\xc3\xbc\n", BODY),
    "our attempt that is none": (b"msgbus-attempt:x\n", BODY),
    "a packed header that is no JSON": (b"msgbus:{\n", BODY),
    "an expiry that is none": (b"ce-expirytime:soon\n", BODY),
    "a reply to nowhere": (b"reply-to:/queue/nowhere\n", BODY),
    "a group": (b"JMSXGroupID:g\n", BODY),
    "a map": (b"transformation:jms-map-json\n", b'{"map": {"entry": [{"string": ["a", "b"]}]}}'),
}
"""By what is odd with them: headers of a SEND, and its body."""


async def put(url: str, queue: str, frames: Mapping[str, tuple[bytes, bytes]] = FRAMES) -> int:
    """Send them to a queue; how many. They are there when this returns."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.write(b"CONNECT\naccept-version:1.2\nhost:/\n\n\0")
    await _until(reader, b"CONNECTED")
    for number, (headers, body) in enumerate(frames.values()):
        writer.write(b"SEND\ndestination:/queue/%b\nreceipt:%d\n%b\n%b\0" % (queue.encode(), number, headers, body))
        await _until(reader, b"receipt-id:%d\n" % number)
    writer.close()
    return len(frames)


async def _until(reader: asyncio.StreamReader, mark: bytes) -> None:
    frame = await reader.readuntil(b"\0")
    assert mark in frame, frame


TEXT = '{"number": 7, "said": "\u00fc"}'
_KEPT = ("priority", "correlation-id", "type", "kind", "amount")


async def put_foreign(url: str, queue: str) -> Mapping[str, object]:
    """A TextMessage as JMS and its STOMP clients write it; what a copy of it must keep."""
    frame = (
        b"amq-msg-type:text\npriority:7\ncorrelation-id:c-1\ntype:OrderPlaced\nkind:new\namount:5\npersistent:true\n",
        TEXT.encode(),
    )
    await put(url, queue, {"foreign": frame})
    return {
        "body": TEXT,
        "is text": True,
        "priority": "7",
        "correlation-id": "c-1",
        "type": "OrderPlaced",
        "kind": "new",
        "amount": "5",
    }


async def take_foreign(url: str, queue: str) -> Mapping[str, object]:
    """Take the one message that is there."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.write(b"CONNECT\naccept-version:1.2\nhost:/\n\n\0")
    await _until(reader, b"CONNECTED")
    writer.write(b"SUBSCRIBE\nid:1\ndestination:/queue/%b\nack:auto\n\n\0" % queue.encode())
    async with asyncio.timeout(30.0 * slowness()):
        frame = (await reader.readuntil(b"\0")).decode().lstrip("\n").removesuffix("\0")
    writer.close()
    head, _, body = frame.partition("\n\n")
    lines = [line.partition(":") for line in head.split("\n")[1:]]
    headers = {name: value for name, _, value in lines}
    found = {name: headers[name] for name in _KEPT if name in headers}
    is_text = "content-length" not in headers or headers.get("amq-msg-type") == "text"
    return {"body": body, "is text": is_text, **found}
