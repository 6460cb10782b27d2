"""Frames to the byte, with the bytes that other clients write; what is no frame is a DecodeError."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from uuid import UUID

import pytest

from msgbus.codecs import framing
from msgbus.errors import ConfigError, DecodeError

ID = UUID("1b47eb4a-0000-4000-8000-0123456789ab")
GLUE_ZLIB = b"\x03\x05" + ID.bytes


@pytest.mark.parametrize(
    ("schema", "prefix"),
    [(2, "0000000002"), (2**32 - 1, "00ffffffff"), (ID, "01" + ID.hex)],
)
def test_confluent(schema: int | UUID, prefix: str) -> None:
    assert framing.confluent_prefix(schema) == bytes.fromhex(prefix)
    assert framing.read_confluent(bytes.fromhex(prefix) + b"body") == (schema, b"body")


@pytest.mark.parametrize(
    ("indexes", "prefix"),
    [  # confluent-kafka's for Header, Order, Order.Item and Other.In.Deep
        ((0,), "00"),
        ((1,), "0202"),
        ((1, 0), "040200"),
        ((2, 0, 0), "06040000"),
        ((64, 2**31 - 1), "048001feffffff0f"),
        ((0,) * 100, "c801" + "00" * 100),
    ],
)
def test_message_indexes(indexes: tuple[int, ...], prefix: str) -> None:
    assert framing.indexes_prefix(indexes) == bytes.fromhex(prefix)
    assert framing.read_indexes(bytes.fromhex(prefix) + b"body") == (indexes, b"body")


def test_the_long_form_of_the_first_message_is_read_too() -> None:
    assert framing.read_indexes(b"\x02\x00body") == ((0,), b"body")


def test_glue() -> None:
    assert framing.glue_prefix(ID) == b"\x03\x00" + ID.bytes
    assert framing.read_glue(framing.glue_prefix(ID) + b"body") == (ID, b"body")
    assert framing.read_glue(GLUE_ZLIB + zlib.compress(b"body")) == (ID, b"body")


def test_glue_inflates_to_the_limit_and_no_further() -> None:
    data = GLUE_ZLIB + zlib.compress(bytes(1000))
    assert framing.read_glue(data, max_bytes=1000).body == bytes(1000)
    with pytest.raises(DecodeError, match="more than 999 bytes"):
        framing.read_glue(data, max_bytes=999)


def test_single_object() -> None:
    """The specification's CRC-64-AVRO of "int" is 7275d51a3f395c8f; it goes out with its low byte first."""
    prefix = bytes.fromhex("c3018f5c393f1ad57572")
    assert framing.single_object_prefix(0x7275D51A3F395C8F) == prefix
    assert framing.read_single_object(prefix + b"body") == (0x7275D51A3F395C8F, b"body")


READERS: list[tuple[Callable[[bytes], object], bytes]] = [
    (framing.read_confluent, framing.confluent_prefix(7)),
    (framing.read_confluent, framing.confluent_prefix(ID)),
    (framing.read_glue, framing.glue_prefix(ID)),
    (framing.read_glue, GLUE_ZLIB + zlib.compress(b"body")),
    (framing.read_single_object, framing.single_object_prefix(7)),
    (framing.read_indexes, framing.indexes_prefix((300, 2))),
]


@pytest.mark.parametrize(("read", "frame"), READERS)
def test_a_frame_cut_anywhere_is_refused(read: Callable[[bytes], object], frame: bytes) -> None:
    read(frame)
    for end in range(len(frame)):
        with pytest.raises(DecodeError):
            read(frame[:end])


@pytest.mark.parametrize("read", [framing.read_confluent, framing.read_glue, framing.read_single_object])
def test_a_wrong_magic_byte_is_named(read: Callable[[bytes], object]) -> None:
    with pytest.raises(DecodeError, match=r"starts with 7b.* at offset 0"):
        read(b'{"id": "a body in JSON without a frame"}')


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ("01", "offset 0"),  # -1 of them
        ("0203", "offset 1"),  # index -2
        ("8000", "offset 0"),  # zero in two bytes
        ("02ffffffffff01", "offset 1"),
        ("02feffffff1f", "offset 1"),  # 33 bits
        ("ca01" + "00" * 101, "101 of them"),
    ],
)
def test_bad_message_indexes(data: str, reason: str) -> None:
    with pytest.raises(DecodeError, match=reason):
        framing.read_indexes(bytes.fromhex(data))


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"body", "broken"),
        (zlib.compress(b"body") + b"x", "bytes behind it"),
        (zlib.compress(b"body")[:-1], "cut short"),
    ],
)
def test_a_bad_zlib_stream(body: bytes, reason: str) -> None:
    with pytest.raises(DecodeError, match=reason):
        framing.read_glue(GLUE_ZLIB + body)


@pytest.mark.parametrize(
    "write",
    [
        lambda: framing.confluent_prefix(-1),
        lambda: framing.confluent_prefix(2**32),
        lambda: framing.single_object_prefix(2**64),
        lambda: framing.indexes_prefix(()),
        lambda: framing.indexes_prefix((0,) * 101),
        lambda: framing.indexes_prefix((1, -1)),
        lambda: framing.indexes_prefix((2**31,)),
    ],
)
def test_what_no_frame_can_hold_is_refused(write: Callable[[], bytes]) -> None:
    with pytest.raises(ConfigError, match="allowed are"):
        write()
