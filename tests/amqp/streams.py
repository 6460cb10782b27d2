"""What a server may say, as hypothesis strategies; pamqp writes it, and reads it again as the oracle."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from pamqp import frame
from pamqp.base import Frame
from pamqp.body import ContentBody
from pamqp.commands import Basic, Channel, Connection, Queue
from pamqp.header import ContentHeader

from msgbus.brokers.amqp import codec
from msgbus.brokers.amqp.aio_properties import from_pamqp
from msgbus.brokers.amqp.wire import Arrived, Publication

Seen = tuple[Any, ...]
"""An event as plain data."""

CALM = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""For a loaded machine: nothing here is about time."""

BEAT = b"\x08\x00\x00\x00\x00\x00\x00\xce"

short_texts = st.text(max_size=40).filter(lambda text: len(text.encode()) <= 255)
names = st.from_regex(r"[a-zA-Z0-9_.:-]{0,40}", fullmatch=True)
header_names = st.text(min_size=1, max_size=20).filter(lambda text: len(text.encode()) <= 128)
moments = st.datetimes(datetime(1971, 1, 1), datetime(2100, 1, 1)).map(
    lambda moment: moment.replace(tzinfo=UTC, microsecond=0)
)
scalars = st.one_of(
    st.text(max_size=30),
    st.binary(max_size=30).map(bytearray),
    st.integers(-(2**63 - 1), 2**63 - 1),
    st.booleans(),
    st.none(),
    st.floats(allow_nan=False, width=32),
    st.decimals(-1000, 1000, places=2).map(Decimal),
    moments,
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(header_names, inner, max_size=3),
    max_leaves=6,
)


@st.composite
def properties(draw: st.DrawFn) -> Basic.Properties:
    """Any of them, and any header table."""
    texts = ("content_type", "content_encoding", "correlation_id", "reply_to", "expiration", "message_id")
    given: dict[str, Any] = {
        name: draw(short_texts.filter(bool)) for name in (*texts, "message_type", "app_id") if draw(st.booleans())
    }
    for name, strategy in {
        "headers": st.dictionaries(header_names, values, max_size=6),
        "delivery_mode": st.sampled_from([1, 2]),
        "priority": st.integers(0, 255),
        "timestamp": moments,
    }.items():
        if draw(st.booleans()):
            given[name] = draw(strategy)
    return Basic.Properties(**given)


@st.composite
def content(draw: st.DrawFn, channel: int) -> list[bytes]:
    """Frames of a Basic.Deliver or Basic.Return with its message, the body in parts of any size."""
    place = {"exchange": draw(names), "routing_key": draw(short_texts)}
    method: Frame
    if draw(st.integers(0, 5)):
        method = Basic.Deliver(draw(names), draw(st.integers(1, 2**63 - 1)), draw(st.booleans()), **place)
    else:
        method = Basic.Return(312, "NO_ROUTE", **place)
    chunks = draw(st.lists(st.binary(min_size=1, max_size=50), max_size=3))
    head = ContentHeader(0, sum(map(len, chunks)), draw(properties()))
    return [frame.marshal(part, channel) for part in (method, head, *map(ContentBody, chunks))]


@st.composite
def others(draw: st.DrawFn, channel: int) -> list[bytes]:
    """One frame that stands alone."""
    kinds: list[Frame] = [
        Basic.Ack(draw(st.integers(0, 2**63 - 1)), draw(st.booleans())),
        Basic.Nack(draw(st.integers(0, 2**63 - 1)), draw(st.booleans()), False),
        Basic.ConsumeOk(draw(names)),
        Basic.Cancel(draw(names)),
        Channel.Close(406, draw(names), 60, 40),
        Connection.Blocked(draw(names)),
        Queue.DeclareOk(draw(names), draw(st.integers(0, 1000)), 0),
    ]
    one = draw(st.sampled_from(kinds))
    return [draw(st.sampled_from([frame.marshal(one, channel), BEAT]))]


@st.composite
def conversations(draw: st.DrawFn) -> bytes:
    """What came on three channels, their frames mixed as a server may mix them."""
    lanes = [
        [part for piece in draw(st.lists(content(channel) | others(channel), max_size=3)) for part in piece]
        for channel in (1, 2, 77)
    ]
    mixed: list[bytes] = []
    while any(lanes):
        lane = draw(st.sampled_from([lane for lane in lanes if lane]))
        mixed.append(lane.pop(0))
    return b"".join(mixed)


def seen(events: Iterable[codec.Event]) -> list[Seen]:
    """Events as data that can be compared."""
    return [_plain(event) for event in events]


def _plain(event: codec.Event) -> Seen:
    if isinstance(event, codec.Confirm):
        return ("confirm", event.channel, event.tag, event.multiple, event.ok)
    if isinstance(event, codec.Method):
        return ("method", event.channel, event.frame.name, dict(event.frame))
    place = (event.exchange, event.routing_key)
    told = (event.headers, event.timestamp, event.extras, event.body)
    return (type(event).__name__, event.channel, event.tag, event.redelivered, *place, *told)


def oracle(data: bytes) -> list[Seen]:
    """The same, read by pamqp frame by frame."""
    events: list[codec.Event] = []
    half: dict[int, tuple[Arrived, int]] = {}
    while data:
        used, channel, part = frame.unmarshal(data)
        data = data[used:]
        if isinstance(part, Basic.Deliver | Basic.Return):
            half[channel] = (_begun(channel, part), -1)
        elif isinstance(part, ContentHeader):
            message = half[channel][0]
            from_pamqp(part.properties, message)
            message.body, half[channel] = b"", (message, part.body_size)
        elif isinstance(part, ContentBody):
            half[channel][0].body += part.value
        elif isinstance(part, Basic.Ack | Basic.Nack):
            tag, multiple = part.delivery_tag or 0, bool(part.multiple)
            events.append(codec.Confirm(channel, tag, multiple=multiple, ok=isinstance(part, Basic.Ack)))
        elif isinstance(part, Frame):
            events.append(codec.Method(channel, part))
        if channel in half and len(half[channel][0].body) == half[channel][1]:
            events.append(half.pop(channel)[0])
    return seen(events)


def _begun(channel: int, method: Basic.Deliver | Basic.Return) -> Arrived:
    exchange, key = method.exchange or "", method.routing_key or ""
    made: Arrived
    if isinstance(method, Basic.Return):
        made = codec.Returned(channel, 0, False, exchange, key)
    else:
        made = Arrived(channel, method.delivery_tag or 0, bool(method.redelivered), exchange, key)
    made.body = b""
    return made


@st.composite
def publications(draw: st.DrawFn) -> Publication:
    """What msgbus may publish: all headers are text, some of them have a native property."""
    native = ("content-type", "content-encoding", "correlation_id", "reply_to", "ce-id", "ce-type")
    headers = draw(st.dictionaries(header_names | st.sampled_from(native), st.text(max_size=300), max_size=8))
    made = Publication(
        draw(names),
        draw(short_texts),
        headers,
        draw(st.binary(max_size=300)),
        draw(st.integers(0, 4_000_000_000)),
        mandatory=draw(st.booleans()),
    )
    made.expiration = draw(st.none() | st.integers(0, 2**40))
    made.priority = draw(st.none() | st.integers(0, 255))
    return made
