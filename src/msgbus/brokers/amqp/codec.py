"""AMQP 0-9-1 frames without I/O: bytes to events, messages to bytes.

Struct for the frames that come and go with every message (Basic.Deliver, Basic.Return, content header and body,
Basic.Ack, Basic.Nack, Basic.Publish); pamqp for all others. The layout is of the specification's section 2.3
(https://www.rabbitmq.com/resources/specs/amqp0-9-1.pdf).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

from pamqp import frame as pamqp_frame
from pamqp.base import Frame
from pamqp.exceptions import PAMQPException

from msgbus.brokers.amqp.properties import read_properties, write_properties
from msgbus.brokers.amqp.wire import Arrived, Publication

METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8
END = 0xCE
OVERHEAD = 8  # bytes of a frame around its payload
PROTOCOL = b"AMQP\x00\x00\x09\x01"
BEAT = b"\x08\x00\x00\x00\x00\x00\x00\xce"

_HEAD = struct.Struct(">BHI")  # type, channel, size of the payload
_unpack_head = _HEAD.unpack_from
_unpack_method = struct.Struct(">I").unpack_from  # class and method in one number
_unpack_tag = struct.Struct(">QB").unpack_from  # delivery tag, bits
_unpack_size = struct.Struct(">Q").unpack_from
_DELIVER, _RETURN, _ACK, _NACK = 0x003C003C, 0x003C0032, 0x003C0050, 0x003C0078
_CONFIRM = struct.Struct(">BHIIQBB")  # a whole Basic.Ack or Basic.Nack frame
_CONTENT = struct.Struct(">BHIHHQ")  # a content header's frame up to the property flags
_MOST_PLACES = 1000  # (exchange, routing key) pairs that are remembered


_DAMAGED = (ValueError, LookupError, struct.error, PAMQPException, TypeError, OverflowError, RecursionError)
"""What reading a frame may raise; the last one is of pamqp, whose tables may be nested as deep as a frame is long."""


class FrameError(Exception):
    """What came is no AMQP 0-9-1, or not in its order: the connection can't go on."""


class Confirm:
    """Basic.Ack or Basic.Nack from the server."""

    __slots__ = ("channel", "multiple", "ok", "tag")

    def __init__(self, channel: int, tag: int, *, multiple: bool, ok: bool) -> None:
        self.channel = channel
        self.tag = tag
        self.multiple = multiple
        self.ok = ok


class Returned(Arrived):
    """Basic.Return: a mandatory message that no queue took. Its tag is 0."""

    __slots__ = ()


class Method:
    """Any other method."""

    __slots__ = ("channel", "frame")

    def __init__(self, channel: int, frame: Frame) -> None:
        self.channel = channel
        self.frame = frame


Event = Arrived | Confirm | Method


class _Content:
    """A message of which the header or parts of the body are still to come."""

    __slots__ = ("chunks", "left", "message")

    def __init__(self, message: Arrived) -> None:
        self.message = message
        self.chunks: list[bytes] = []
        self.left = -1  # bytes of the body to come; -1: the header is


class Decoder:
    """Feed it what came from the socket; it gives the events that are complete."""

    def __init__(self) -> None:
        self.largest = 1 << 20  # bytes of a payload; the negotiated frame size later
        self._rest: list[bytes] = []
        self._have = 0
        self._need = 0
        self._contents: dict[int, _Content] = {}
        self._places: dict[bytes, tuple[str, str]] = {}
        self._events: list[Event] = []
        self._by_type: dict[int, Callable[[int, bytes, int, int], None]] = {
            METHOD: self._method,
            HEADER: self._header,
            BODY: self._body,
        }

    def feed(self, data: bytes) -> list[Event]:
        """The events that `data` completes. Raises FrameError."""
        if self._rest:
            self._rest.append(data)
            self._have += len(data)
            if self._have < self._need:  # not joined before it is enough: a big body would cost its square
                return []
            data = b"".join(self._rest)
        try:
            done = self._frames(data)
        except FrameError:
            raise
        except _DAMAGED as error:
            raise FrameError(f"a damaged frame: {error!r}") from error
        rest = data[done:]
        self._rest, self._have = ([rest] if rest else []), len(rest)
        events, self._events = self._events, []
        return events

    def forget(self, channel: int) -> None:
        """The channel is gone, and with it what was half received."""
        self._contents.pop(channel, None)

    def _frames(self, data: bytes) -> int:
        """Walk the whole frames; where the first incomplete one begins."""
        at, length, by_type = 0, len(data), self._by_type
        while length - at >= OVERHEAD:
            kind, channel, size = _unpack_head(data, at)
            stop = at + 7 + size
            if stop >= length:
                self._check(data, at, kind, size)
                self._need = stop + 1 - at
                return at
            if data[stop] != END:
                self._check(data, at, kind, size)
                raise FrameError("a frame does not end where it says")
            if kind in by_type:
                by_type[kind](channel, data, at + 7, stop)
            else:
                self._check(data, at, kind, size)
            at = stop + 1
        self._need = OVERHEAD
        return at

    def _check(self, data: bytes, at: int, kind: int, size: int) -> None:
        if data[at : at + 4] == b"AMQP":
            raise FrameError(f"the server speaks {bytes(data[at : at + 8])!r}, not AMQP 0-9-1")
        if kind not in (METHOD, HEADER, BODY, HEARTBEAT):
            raise FrameError(f"no frame type {kind}: this is no AMQP 0-9-1")
        if size > self.largest:
            raise FrameError(f"a frame of {size:,} bytes, agreed were {self.largest:,}")

    def _method(self, channel: int, data: bytes, at: int, stop: int) -> None:
        method = _unpack_method(data, at)[0]
        if method == _DELIVER:
            at += 5 + data[at + 4]  # the consumer tag: there is one consumer a channel
            tag, redelivered = _unpack_tag(data, at)
            exchange, key = self._place(data, at + 9, stop)
            self._begin(channel, Arrived(channel, tag, redelivered != 0, exchange, key))
        elif method in (_ACK, _NACK):
            tag, bits = _unpack_tag(data, at + 4)
            self._events.append(Confirm(channel, tag, multiple=bits & 1 == 1, ok=method == _ACK))
        elif method == _RETURN:
            exchange, key = self._place(data, at + 7 + data[at + 6], stop)
            self._begin(channel, Returned(channel, 0, False, exchange, key))
        else:
            self._other(channel, data, at, stop)

    def _begin(self, channel: int, message: Arrived) -> None:
        if channel in self._contents:
            raise FrameError("a message begins before the one before it is complete")
        self._contents[channel] = _Content(message)

    def _other(self, channel: int, data: bytes, at: int, stop: int) -> None:
        _, _, found = pamqp_frame.unmarshal(data[at - 7 : stop + 1])
        if not isinstance(found, Frame):
            raise FrameError(f"not a method: {found!r}")
        self._events.append(Method(channel, found))

    def _place(self, data: bytes, at: int, stop: int) -> tuple[str, str]:
        raw = data[at:stop]
        place = self._places.get(raw)
        if place is None:
            middle = 1 + raw[0]
            end = middle + 1 + raw[middle]
            place = raw[1:middle].decode("utf-8", "replace"), raw[middle + 1 : end].decode("utf-8", "replace")
            if len(self._places) < _MOST_PLACES:
                self._places[raw] = place
        return place

    def _header(self, channel: int, data: bytes, at: int, stop: int) -> None:
        content = self._contents.get(channel)
        if content is None or content.left >= 0:
            raise FrameError("a content header without its method")
        size = content.left = _unpack_size(data, at + 4)[0]
        read_properties(data, at + 12, stop, content.message)
        if size == 0:
            content.message.body = b""
            self._complete(channel, content)

    def _body(self, channel: int, data: bytes, at: int, stop: int) -> None:
        content = self._contents.get(channel)
        if content is None or content.left < stop - at:
            raise FrameError("a body that nobody announced")
        content.left -= stop - at
        if content.left:
            content.chunks.append(data[at:stop])
            return
        chunks = content.chunks
        content.message.body = b"".join((*chunks, data[at:stop])) if chunks else data[at:stop]
        self._complete(channel, content)

    def _complete(self, channel: int, content: _Content) -> None:
        del self._contents[channel]
        self._events.append(content.message)


# -- encoding


def method_frame(channel: int, method: Frame) -> bytes:
    """A method's frame. Raises ValueError where pamqp finds it illegal."""
    return pamqp_frame.marshal(method, channel)


def ack_frames(channel: int, acks: Sequence[tuple[int, bool]]) -> bytes:
    """Basic.Ack for each (tag, multiple)."""
    pack = _CONFIRM.pack
    return b"".join([pack(METHOD, channel, 13, _ACK, tag, multiple, END) for tag, multiple in acks])


def requeue_frames(channel: int, tags: Sequence[int]) -> bytes:
    """Basic.Nack with requeue for each tag."""
    return b"".join([_CONFIRM.pack(METHOD, channel, 13, _NACK, tag, 2, END) for tag in tags])


class Encoder:
    """Turns the publications of one channel into bytes."""

    def __init__(self, channel: int, frame_max: int) -> None:
        self._channel = channel
        self._room = frame_max - OVERHEAD
        self._heads: dict[tuple[str, str, bool], bytes] = {}

    def encode(self, publication: Publication) -> bytes:
        """Basic.Publish, content header and body. Raises ValueError for what does not fit into AMQP."""
        body, channel = publication.body, self._channel
        properties = write_properties(publication)
        size = len(body)
        if len(properties) + 12 > self._room:
            raise ValueError(f"the headers have {len(properties):,} bytes, this connection takes {self._room - 12:,}")
        key = (publication.exchange, publication.routing_key, publication.mandatory)
        head = self._heads.get(key) or self._head(key)
        content = _CONTENT.pack(HEADER, channel, 12 + len(properties), 60, 0, size)
        if size == 0:  # no body frame at all: the server calls an empty one an error (505)
            return b"".join((head, content, properties, b"\xce"))
        if size <= self._room:
            return b"".join((head, content, properties, b"\xce", _HEAD.pack(BODY, channel, size), body, b"\xce"))
        return b"".join((head, content, properties, b"\xce", *self._split(body)))

    def _split(self, body: bytes) -> list[bytes]:
        parts: list[bytes] = []
        for start in range(0, len(body), self._room):
            chunk = body[start : start + self._room]
            parts += (_HEAD.pack(BODY, self._channel, len(chunk)), chunk, b"\xce")
        return parts

    def _head(self, key: tuple[str, str, bool]) -> bytes:
        exchange, routing_key, mandatory = key
        payload = b"\x00\x3c\x00\x28\x00\x00" + _shortstr(exchange) + _shortstr(routing_key) + bytes((mandatory,))
        head = _HEAD.pack(METHOD, self._channel, len(payload)) + payload + b"\xce"
        if len(self._heads) < _MOST_PLACES:
            self._heads[key] = head
        return head


def _shortstr(text: str) -> bytes:
    raw = text.encode()
    if len(raw) > 255:
        raise ValueError(f"{text[:40]!r}... has {len(raw)} bytes, a name or routing key may have 255")
    return bytes((len(raw),)) + raw
