"""The STOMP codec: any cut, any bytes, and stomp.py as the oracle in both directions."""

from __future__ import annotations

import contextlib
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stomp import utils as oracle
from stomp.protocol import Protocol12
from tests.counted import Counted

from msgbus.brokers.stomp.codec import Decoder, Encoder, Frame, FrameError

_characters = st.characters(exclude_categories=["Cs"])
_text = st.text(_characters, max_size=20)
_name = st.text(_characters, min_size=1, max_size=12).filter(
    lambda name: name not in ("content-length", "receipt-id", "version")
)
_headers = st.dictionaries(_name, _text, max_size=6)
_frames = st.builds(Frame, st.sampled_from(["MESSAGE", "ERROR", "RECEIPT"]), _headers, st.binary(max_size=60))


def _same(got: Frame, sent: Frame) -> None:
    headers = {name: value for name, value in got.headers.items() if name != "content-length"}
    assert (got.command, headers, got.body) == (sent.command, dict(sent.headers), sent.body)


def _fed(decoder: Decoder, data: bytes, cuts: list[int]) -> list[Frame]:
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    found: list[Frame] = []
    for start, end in itertools.pairwise(places):
        found += decoder.feed(data[start:end])
    return found


@given(
    st.lists(_frames, min_size=1, max_size=5),
    st.lists(st.integers(0, 5000), max_size=8),
    st.sampled_from(["", "\n", "\r\n\n"]),
)
def test_frames_come_back_however_they_are_cut(frames: list[Frame], cuts: list[int], beats: str) -> None:
    encode = Encoder("1.2").encode
    stream = b"".join(encode(frame) + beats.encode() for frame in frames)
    found = _fed(Decoder("1.2"), stream, cuts)
    assert len(found) == len(frames)
    for got, sent in zip(found, frames, strict=True):
        _same(got, sent)


@settings(max_examples=30)
@given(st.lists(_frames, min_size=1, max_size=3))
def test_frames_come_back_byte_by_byte(frames: list[Frame]) -> None:
    stream = b"\n".join(map(Encoder("1.2").encode, frames))
    decoder = Decoder("1.2")
    found = [frame for byte in stream for frame in decoder.feed(bytes((byte,)))]
    assert [frame.body for frame in found] == [frame.body for frame in frames]


_awkward = st.text("\\:\n\r\0%sc1", max_size=8)


@given(st.dictionaries(_awkward.filter(bool), _awkward, min_size=1, max_size=5), st.integers(0, 200))
def test_what_has_to_be_escaped_comes_back(headers: dict[str, str], cut: int) -> None:
    """All values of a frame are escaped at once, and its names are kept as the form of the next one."""
    sent, encode = Frame("MESSAGE", headers, b"x"), Encoder("1.2").encode
    first, *others = _fed(Decoder("1.2"), encode(sent) + encode(sent) + encode(sent, "receipt", "1"), [cut])
    assert len(others) == 2
    _same(first, sent)
    _same(others[0], sent)
    _same(others[1], Frame("MESSAGE", {**headers, "receipt": "1"}, b"x"))


@given(st.lists(_awkward | _text, min_size=1, max_size=8))
def test_acknowledgements_are_written_in_one_go(ids: list[str]) -> None:
    encoder = Encoder("1.2")
    each = [encoder.encode(Frame("ACK", {"id": one})) for one in ids]
    assert encoder.encode_ids("ACK", ids) == b"".join(each)


@given(_frames)
def test_stomp_py_reads_what_we_write(frame: Frame) -> None:
    raw = Encoder("1.2").encode(frame)
    read = oracle.parse_frame(raw[:-1])
    headers = {name: value for name, value in read.headers.items() if name != "content-length"}
    assert (read.cmd, read.body) == (frame.command, frame.body)
    plain = {name: value for name, value in frame.headers.items() if _oracle_can(name) and _oracle_can(value)}
    assert {name: headers.get(name) for name in plain} == plain


def _oracle_can(text: str) -> bool:
    """Its regular expressions know only LF; `.` stops at none of the others, but a lone NUL is its frame's end."""
    return "\0" not in text


@given(_frames)
def test_we_read_what_stomp_py_writes(frame: Frame) -> None:
    headers = {name: value for name, value in frame.headers.items() if _oracle_can(name + value)}
    headers = {name: value for name, value in headers.items() if not set(name) & set("\\:\r\n")}  # it escapes no names
    theirs = oracle.Frame(frame.command, dict(headers), frame.body)
    Protocol12._escape_headers(None, theirs.headers)
    if frame.body:
        theirs.headers["content-length"] = len(frame.body)
    (got,) = Decoder("1.2").feed(oracle.pack(oracle.convert_frame(theirs)))
    _same(got, Frame(frame.command, headers, frame.body))


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=5))
def test_any_bytes_are_frames_or_an_error(data: bytes, cuts: list[int]) -> None:
    with contextlib.suppress(FrameError):
        _fed(Decoder("1.2"), data, cuts)


@given(_frames, st.integers(0, 10_000), st.integers(0, 255), st.lists(st.integers(0, 300), max_size=3))
def test_a_damaged_frame_is_frames_or_an_error(frame: Frame, place: int, byte: int, cuts: list[int]) -> None:
    damaged = bytearray(Encoder("1.2").encode(frame) * 2)
    damaged[place % len(damaged)] = byte
    with contextlib.suppress(FrameError):
        _fed(Decoder("1.2"), bytes(damaged), cuts)


def test_the_first_of_repeated_headers_counts() -> None:
    (frame,) = Decoder("1.2").feed(b"MESSAGE\na:1\na:2\n\n\0")
    assert frame.headers == {"a": "1"}


def test_lines_may_end_with_cr_lf() -> None:
    (frame,) = Decoder("1.2").feed(b"\r\nMESSAGE\r\na:1\r\nb:\r\n\r\n\r\nx\n\n\0\r\n")
    assert (frame.headers, frame.body) == ({"a": "1", "b": ""}, b"\r\nx\n\n")


@pytest.mark.parametrize("receipt", ["7", "message-7", "a\\cb", "7\nother:x"])
def test_receipts(receipt: str) -> None:
    raw = f"RECEIPT\nreceipt-id:{receipt}\n\n\0\n".encode()
    for cut in range(len(raw)):
        decoder = Decoder("1.2")
        frames = decoder.feed(raw[:cut]) + decoder.feed(raw[cut:] + raw)
        first = receipt.split("\n", maxsplit=1)[0].replace("\\c", ":")
        assert [frame.headers["receipt-id"] for frame in frames] == [first, first]


@given(
    st.lists(st.integers(1, 10**9), min_size=1, max_size=12),
    st.sampled_from(["\n", "", "\n\n", "\r\n"]),
    st.lists(st.integers(0, 1000), max_size=6),
)
def test_receipts_in_a_row_between_other_frames(ids: list[int], beat: str, cuts: list[int]) -> None:
    receipts = "".join(f"RECEIPT\nreceipt-id:{each}\n\n\0{beat}" for each in ids)
    raw = f"MESSAGE\na:1\n\nx\0{receipts}ERROR\nreceipt-id:e\n\n\0{receipts}".encode()
    found = [frame.headers.get("receipt-id", "") for frame in _fed(Decoder("1.2"), raw, cuts)]
    assert found == ["", *map(str, ids), "e", *map(str, ids)]


def test_a_body_with_nul_needs_its_length() -> None:
    first, second = Decoder("1.2").feed(b"MESSAGE\ncontent-length:3\n\na\0b\0\n\nMESSAGE\n\nc\0")
    assert (first.body, second.body) == (b"a\0b", b"c")


def test_connected_is_not_escaped_and_sets_the_version() -> None:
    decoder = Decoder()
    connected, message = decoder.feed(b"CONNECTED\nversion:1.2\nserver:a\\cb:c\n\n\0MESSAGE\na:x\\cy\\\\n\n\n\0")
    assert connected.headers["server"] == "a\\cb:c"
    assert message.headers["a"] == "x:y\\n"


@pytest.mark.parametrize(("version", "value"), [("1.0", "a\\cb\\r"), ("1.1", None), ("1.2", "a:b\r")])
def test_each_version_has_its_own_escapes(version: str, value: str | None) -> None:
    (frame,) = Decoder(version).feed(b"MESSAGE\nh:a\\cb\\r\n\n\0")
    assert (value is None and "undefined escape" in frame.fault) or (frame.headers["h"], frame.fault) == (value, "")


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        *((b"h:" + raw, "undefined escape") for raw in (b"\\t", b"\\", b"\\cx\\q", b"\\\\\\")),
        (b"no colon", "without a colon"),
        (b"a:\xff", "no UTF-8"),
        (b"\xff:a", "no UTF-8"),
    ],
)
def test_an_odd_header_is_the_fault_of_its_frame_alone(line: bytes, fault: str) -> None:
    odd, after = Decoder("1.2").feed(b"MESSAGE\nack:7\n" + line + b"\n\nbody\0MESSAGE\na:b\n\nx\0")
    assert fault in odd.fault
    assert (odd.headers["ack"], odd.body) == ("7", b"body")
    assert (after.fault, after.headers, after.body) == ("", {"a": "b"}, b"x")


@pytest.mark.parametrize("length", ["-1", "1e3", "2", "", "1001", "9" * 30, "\u00b2"])
def test_a_content_length_that_can_t_be_right_is_a_property_of_that_name(length: str) -> None:
    raw = f"MESSAGE\ncontent-length:{length}\n\nabc\0".encode() + b"MESSAGE\ncontent-length:3\n\na\0b\0"
    first, second = Decoder("1.2", body=1000).feed(raw)
    assert (first.body, second.body) == (b"abc", b"a\0b")


@pytest.mark.parametrize(
    ("raw", "what"),
    [
        (b"HTTP/1.1 400 Bad Request\r\nServer: x\r\n\r\n", "no frame of a STOMP server"),
        (b"MESSAGE\n\n" + b"x" * 1001, "a body of"),
        (b"MESSAGE\na:" + b"x" * 100, "a head of more than"),
        (b"MESSAGE\na:" + b"x" * 100 + b"\n\n\0", "a head of more than"),
    ],
)
def test_what_is_no_stomp_is_said(raw: bytes, what: str) -> None:
    with pytest.raises(FrameError, match=what):
        Decoder("1.2", head=100, body=1000).feed(raw)


def test_a_long_text_body_is_bounded_while_it_comes() -> None:
    decoder = Decoder("1.2", body=1000)
    assert decoder.feed(b"MESSAGE\n\n" + b"x" * 600) == []
    with pytest.raises(FrameError, match="a body of"):
        decoder.feed(b"x" * 600)


def test_a_big_body_is_joined_once() -> None:
    """Linear in its size: 8 MiB in chunks of 1 KiB would take minutes otherwise."""
    decoder, body = Decoder("1.2"), b"x" * 8 * 1024 * 1024
    for raw in (Encoder("1.2").encode(Frame("MESSAGE", {}, body)), b"MESSAGE\n\n" + body + b"\0"):
        found = [frame for at in range(0, len(raw), 1024) for frame in decoder.feed(raw[at : at + 1024])]
        assert [frame.body == body for frame in found] == [True]


@pytest.mark.parametrize(
    "raw",
    [
        b"RECEIPT\r\nreceipt-id:7\r\n\r\n\0",
        b"RECEIPT\nreceipt-id:7\r\n\r\n\0",
        b"MESSAGE\r\na:b\r\n\r\nx\0",
        b"MESSAGE\na:b\n\nx\0",
        b"RECEIPT\nreceipt-id:7\n\nx\0",
        b"RECEIPT\nreceipt-id:7\n\n\0",
    ],
)
def test_each_byte_is_looked_at_a_few_times_however_lines_end(raw: bytes) -> None:
    """Some servers end lines by CR LF: a search for LF LF then went through all that had come, for every frame."""
    data = Counted(raw * 1000)
    assert len(Decoder("1.2").feed(data)) == 1000
    assert 0 < data.looked < 6 * len(data)


def test_version_1_0_refuses_what_it_cannot_write() -> None:
    assert Encoder("1.0").encode(Frame("SEND", {"a": "x:y"}, b"b")) == b"SEND\na:x:y\ncontent-length:1\n\nb\0"
    for name, value in (("a:b", "x"), ("a", "x\ny")):
        with pytest.raises(ValueError, match="escapes"):
            Encoder("1.0").encode(Frame("SEND", {name: value}))
