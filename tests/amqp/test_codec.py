"""The codec against pamqp: the same events however the stream is cut, the same frames, and no surprise in noise."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pamqp import frame
from pamqp.base import Frame
from pamqp.body import ContentBody
from pamqp.commands import Basic
from pamqp.header import ContentHeader, ProtocolHeader
from tests.amqp.streams import CALM, conversations, oracle, publications, seen
from tests.counted import Counted

from msgbus.brokers.amqp import codec
from msgbus.brokers.amqp.aio_properties import to_pamqp
from msgbus.brokers.amqp.properties import read_properties, write_properties
from msgbus.brokers.amqp.wire import Arrived, Publication


def delivered(body: bytes, frame_max: int = 131_072, channel: int = 1) -> bytes:
    """A message as a server sends it."""
    room = frame_max - codec.OVERHEAD
    chunks = [body[start : start + room] for start in range(0, len(body), room)]
    head = ContentHeader(0, len(body), Basic.Properties(message_id="m"))
    parts: list[Frame | ContentHeader | ContentBody] = [
        Basic.Deliver("c", 1, False, "e", "k"),
        head,
        *map(ContentBody, chunks),
    ]
    return b"".join(frame.marshal(part, channel) for part in parts)


def whole(data: bytes, *cuts: int) -> list[codec.Event]:
    """All events, fed in pieces that end at `cuts`."""
    decoder, events, start = codec.Decoder(), [], 0
    for end in (*cuts, len(data)):
        events += decoder.feed(data[start:end])
        start = end
    return events


# -- reading


@given(conversations())
@CALM
def test_a_stream_is_read_as_pamqp_reads_it(data: bytes) -> None:
    assert seen(whole(data)) == oracle(data)


@given(conversations())
@settings(CALM, max_examples=20)
def test_a_cut_at_any_byte_changes_nothing(data: bytes) -> None:
    expected = seen(whole(data))
    for cut in range(len(data) + 1):
        assert seen(whole(data, cut)) == expected
    assert seen(whole(data, *range(1, len(data)))) == expected


@given(conversations(), st.data())
@CALM
def test_any_pieces_give_the_same(data: bytes, draw: st.DataObject) -> None:
    cuts = sorted(draw.draw(st.lists(st.integers(0, len(data)), max_size=10)))
    assert seen(whole(data, *cuts)) == seen(whole(data))


@given(st.binary(max_size=200))
@CALM
def test_noise_is_an_error_or_nothing(data: bytes) -> None:
    with contextlib.suppress(codec.FrameError):
        whole(data)


@given(conversations(), st.data())
@settings(CALM, max_examples=40)
def test_a_damaged_stream_is_an_error_or_something_else_but_no_surprise(data: bytes, draw: st.DataObject) -> None:
    damaged = bytearray(data)
    for _ in range(draw.draw(st.integers(1, 4)) if data else 0):
        damaged[draw.draw(st.integers(0, len(data) - 1))] = draw.draw(st.integers(0, 255))
    with contextlib.suppress(codec.FrameError):
        whole(bytes(damaged))


@given(st.integers(0, 2**16 - 1), st.sampled_from([codec.METHOD, codec.HEADER]), st.binary(max_size=80), st.booleans())
@settings(CALM, max_examples=40)
def test_a_frame_of_noise_is_an_error_or_nothing(channel: int, kind: int, payload: bytes, begun: bool) -> None:
    start = frame.marshal(Basic.Deliver("c", 1, False, "e", "k"), channel) if begun else b""
    noise = bytes((kind,)) + channel.to_bytes(2, "big") + len(payload).to_bytes(4, "big") + payload + b"\xce"
    with contextlib.suppress(codec.FrameError):
        whole(start + noise)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"AMQP\x00\x01\x00\x00", "not AMQP 0-9-1"),
        (b"HTTP/1.1 400 Bad Request\r\n", "no frame type 72"),
        (b"\x01\x00\x01\x00\x00\x00\x01\x00\x00", "does not end where it says"),
        (b"\x01\x00\x01\xff\xff\xff\xff\x00", "4,294,967,295 bytes, agreed were 1,048,576"),
        (b"\x02\x00\x01\x00\x00\x00\x00\xce", "a content header without its method"),
        (b"\x03\x00\x01\x00\x00\x00\x01x\xce", "a body that nobody announced"),
        (2 * frame.marshal(Basic.Deliver("c", 1, False, "e", "k"), 1), "before the one before it is complete"),
        (b"\x01\x00\x01\x00\x00\x00\x04\x00\x3c\x00\x3c\xce", "a damaged frame"),
    ],
)
def test_what_is_no_amqp_says_so(data: bytes, message: str) -> None:
    with pytest.raises(codec.FrameError, match=message):
        whole(data)


def test_more_body_than_announced_is_an_error() -> None:
    data = delivered(b"xy").replace(frame.marshal(ContentBody(b"xy"), 1), frame.marshal(ContentBody(b"xyz"), 1))
    with pytest.raises(codec.FrameError, match="a body that nobody announced"):
        whole(data)


def test_a_closed_channel_leaves_nothing_behind() -> None:
    decoder = codec.Decoder()
    decoder.feed(delivered(b"x")[:-9])  # all but the body
    decoder.forget(1)
    (event,) = decoder.feed(delivered(b"y"))
    assert isinstance(event, Arrived)
    assert event.body == b"y"


class Counting(codec.Decoder):
    """Counts how often it looks for frames."""

    looks = 0

    def _frames(self, data: bytes) -> int:
        self.looks += 1
        return super()._frames(data)


def test_a_big_body_in_small_pieces_is_not_joined_again_and_again() -> None:
    body = bytes(range(256)) * 16_384  # 4 MiB
    data, decoder = delivered(body), Counting()
    events = [event for start in range(0, len(data), 1024) for event in decoder.feed(data[start : start + 1024])]
    assert [event.body for event in events if isinstance(event, Arrived)] == [body]
    assert decoder.looks < 4 * (len(body) // 131_000)  # of 4,096 pieces


# -- writing


def parts(data: bytes) -> Iterator[tuple[int, object, int]]:
    """Channel, frame and length of each, as pamqp reads them."""
    while data:
        used, channel, part = frame.unmarshal(data)
        yield channel, part, used
        data = data[used:]


@given(publications(), st.sampled_from([4096, 131_072]))
@CALM
def test_a_publication_is_what_pamqp_would_write(publication: Publication, frame_max: int) -> None:
    method, head, *chunks = parts(codec.Encoder(7, frame_max).encode(publication))
    assert isinstance(method[1], Basic.Publish)
    assert isinstance(head[1], ContentHeader)
    assert {channel for channel, _, _ in (method, head, *chunks)} == {7}
    assert (method[1].exchange, method[1].routing_key) == (publication.exchange, publication.routing_key)
    assert method[1].mandatory == publication.mandatory
    assert head[1].body_size == len(publication.body)
    assert dict(head[1].properties) == dict(frame_of(publication))
    assert b"".join(part.value for _, part, _ in chunks if isinstance(part, ContentBody)) == publication.body


def frame_of(publication: Publication) -> Basic.Properties:
    """Its properties after a round through pamqp."""
    data = frame.marshal(ContentHeader(0, 0, to_pamqp(publication)), 1)
    head = frame.unmarshal(data)[2]
    assert isinstance(head, ContentHeader)
    return head.properties


@given(publications())
@CALM
def test_headers_come_back_as_they_went(publication: Publication) -> None:
    written = write_properties(publication)
    arrived = Arrived(1, 1, False, "", "")
    read_properties(written, 0, len(written), arrived)
    assert arrived.fault is None
    assert arrived.headers == publication.headers
    assert arrived.timestamp == publication.timestamp


@pytest.mark.parametrize("size", [0, 1, 4087, 4088, 4089, 8176, 8177, 100_000])
def test_bodies_are_split_at_the_agreed_size(size: int) -> None:
    publication = Publication("", "q", {}, bytes(size), 0)
    _, _, *chunks = parts(codec.Encoder(1, 4096).encode(publication))
    assert all(length <= 4096 for _, _, length in chunks)
    assert len(chunks) == -(-size // 4088)  # an empty body has no frame: the server calls an empty one an error


def test_headers_that_fill_more_than_a_frame_are_refused() -> None:
    encoder = codec.Encoder(1, 4096)
    encoder.encode(Publication("", "q", {"x": "y" * 4000}, b"", 0))
    with pytest.raises(ValueError, match=r"the headers have 4,1.. bytes, this connection takes 4,076"):
        encoder.encode(Publication("", "q", {"x": "y" * 4100}, b"", 0))


@pytest.mark.parametrize(
    ("publication", "message"),
    [
        (Publication("", "k" * 256, {}, b"", 0), "may have 255"),
        (Publication("é" * 128, "", {}, b"", 0), "has 256 bytes"),
        (Publication("", "q", {"n" * 256: "x"}, b"", 0), "AMQP allows 255"),
    ],
)
def test_names_that_are_too_long_are_refused(publication: Publication, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        codec.Encoder(1, 131_072).encode(publication)


@given(
    st.lists(st.tuples(st.integers(0, 2**63 - 1), st.booleans()), max_size=5),
    st.lists(st.integers(1, 2**63 - 1), max_size=5),
)
def test_settlements_are_what_pamqp_would_write(acks: list[tuple[int, bool]], tags: list[int]) -> None:
    expected: list[Frame] = [Basic.Ack(tag, multiple) for tag, multiple in acks]
    assert codec.ack_frames(3, acks) == b"".join(frame.marshal(each, 3) for each in expected)
    given_back: list[Frame] = [Basic.Nack(tag, False, True) for tag in tags]
    assert codec.requeue_frames(3, tags) == b"".join(frame.marshal(each, 3) for each in given_back)


def test_the_first_word_is_the_protocols() -> None:
    assert ProtocolHeader().marshal() == codec.PROTOCOL


def test_tables_in_tables_of_a_method_end_the_connection_and_nothing_else() -> None:
    table = b""
    for _ in range(4000):
        table = b"\1xF" + len(table).to_bytes(4, "big") + table
    start = b"\0\x0a\0\x0a\0\x09" + len(table).to_bytes(4, "big") + table + bytes(10)
    with pytest.raises(codec.FrameError, match="a damaged frame: RecursionError"):
        codec.Decoder().feed(b"\1\0\0" + len(start).to_bytes(4, "big") + start + b"\xce")


@pytest.mark.parametrize(("table", "header"), [(2**31, 2**31), (7, 2**31)])
def test_headers_are_read_to_the_end_of_their_frame(table: int, header: int) -> None:
    """Each of many messages says that its headers go on for all that came after it, or that one of them does."""
    lengths = table.to_bytes(4, "big") + b"\1xS" + header.to_bytes(4, "big")
    properties = b"\0\x3c\0\0" + bytes(8) + b"\x20\0" + lengths
    frames = b"\2\0\1" + len(properties).to_bytes(4, "big") + properties + b"\xce"
    data = Counted((frame.marshal(Basic.Deliver("c", 1, False, "e", "k"), 1) + frames) * 1000)
    events = codec.Decoder().feed(data)
    faults = [event.fault for event in events if isinstance(event, Arrived)]
    assert len(faults) == 1000
    assert None not in faults
    assert 0 < data.looked < 6 * len(data)
