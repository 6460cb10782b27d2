"""STOMP: what a server sends."""

from __future__ import annotations

import contextlib
from random import Random

from tests.fuzz.target import Target

from msgbus.brokers.stomp.codec import Decoder, FrameError
from msgbus.brokers.stomp.properties import read
from msgbus.errors import BusError

_MESSAGE = (
    b"MESSAGE\ncontent-length:2\nexpires:0\ndestination:/queue/orders\nsubscription:1\npriority:4\nmsgbus-own:1\n"
    b"message-id:ID\\cbroker-1\ntimestamp:1764000000000\nmsgbus-own-id:5\nx-delivery-count:3\nce-id:a\n\n{}\0"
)
_MAP = (
    b"MESSAGE\nmessage-id:ID\\ca\\c1\\c1\\c1\\c1\ntransformation:jms-map-xml\n\n"
    b"<map><entry><string>a</string><int>1</int></entry></map>\0"
)
_CONNECTED = b"CONNECTED\nversion:1.2\nheart-beat:10000,10000\nserver:ActiveMQ/6.1\n\n\0\n"
_SEEDS = (
    *(_MESSAGE, _CONNECTED + _MESSAGE, b"RECEIPT\nreceipt-id:7\n\n\0" * 3, b"\n\n\n", _MESSAGE.replace(b"\n", b"\r\n")),
    _MAP,
    b"ERROR\nmessage:gone\ncontent-type:text/plain\n\nwhy it is gone\0\n",
)
_NAMES = {"correlation-id": "correlation_id", "type": "ce-type"}
_HEADERS = (
    *(
        b"content-length:-1",
        b"content-length:99999999999",
        b"content-length:\xd9\xa3",
        b"timestamp:\xc2\xb2",
        b"a:b\\q",
    ),
    *(
        b"timestamp:99999999999999",
        b"x-delivery-count:9",
        b"no colon",
        b":",
        b"a:\xff",
        b"JMSXGroupID:g",
        b"content-length:3",
    ),
)


def _stream(data: bytes) -> None:
    """In every version, whole and in two pieces: where neither fails, the same must come of it."""
    for version in ("1.0", "1.2"):
        frames = Decoder(version).feed(data)
        for frame in frames:
            message = read(_NAMES, frame)
            assert all(isinstance(text, str) for pair in message.headers.items() for text in pair)
            assert message.fault is None or isinstance(message.fault, BusError)
        decoder, middle = Decoder(version), len(data) // 3
        with contextlib.suppress(FrameError):
            assert len(decoder.feed(data[:middle]) + decoder.feed(data[middle:])) == len(frames)


def _make(random: Random) -> bytes:
    frames = [
        b"\n".join(
            (random.choice((b"MESSAGE", b"RECEIPT", b"ERROR")), *random.choices(_HEADERS, k=random.randint(0, 4)))
        )
        + random.choice((b"\n\n", b"\r\n\r\n"))
        + random.choice((b"", b"abc", b"a\0b"))
        + b"\0"
        for _ in range(random.randint(1, 3))
    ]
    return b"".join(frames)


def _many(frame: bytes, size: int) -> bytes:
    return frame * (size // len(frame))


TARGETS = (
    Target(
        name="stomp-frames",
        run=_stream,
        seeds=_SEEDS,
        make=_make,
        grow=(
            lambda size: _many(b"RECEIPT\nreceipt-id:7\n\n\0", size),
            lambda size: _many(b"RECEIPT\nreceipt-id:7\r\n\r\n\0", size),
            lambda size: _many(b"MESSAGE\r\na:b\r\n\r\nx\0", size),
            lambda size: b"MESSAGE\n" + _many(b"a:\\\\\n", size) + b"\n\0",
        ),
        allowed=(FrameError,),
    ),
)
