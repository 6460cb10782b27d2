"""The frame of the Kinesis Producer Library: as protobuf itself reads and writes it, and never fooled by others."""

import hashlib
from functools import cache
from typing import Any

import pytest
from google.protobuf import (  # type: ignore[import-untyped]
    descriptor_pb2,
    descriptor_pool,
    message_factory,
)
from hypothesis import given
from hypothesis import strategies as st
from tests.kinesis.strategies import UNHURRIED, USER_RECORDS

from msgbus.brokers.kinesis.aggregation import FRAME, MAGIC, UserRecord, decode, encode, size_of

OPTIONAL, REQUIRED, REPEATED = 1, 2, 3
UINT64, STRING, MESSAGE, BYTES = 4, 9, 11, 12
FIELDS = {
    "AggregatedRecord": [
        ("partition_key_table", 1, REPEATED, STRING, ""),
        ("explicit_hash_key_table", 2, REPEATED, STRING, ""),
        ("records", 3, REPEATED, MESSAGE, ".Record"),
    ],
    "Tag": [("key", 1, REQUIRED, STRING, ""), ("value", 2, OPTIONAL, STRING, "")],
    "Record": [
        ("partition_key_index", 1, REQUIRED, UINT64, ""),
        ("explicit_hash_key_index", 2, OPTIONAL, UINT64, ""),
        ("data", 3, REQUIRED, BYTES, ""),
        ("tags", 4, REPEATED, MESSAGE, ".Tag"),
    ],
}
"""As aggregation-format.md of the Kinesis Producer Library declares them."""


@cache
def message_class() -> Any:
    """The AggregatedRecord of Google's own implementation."""
    file = descriptor_pb2.FileDescriptorProto(name="kpl.proto", syntax="proto2")
    for name, fields in FIELDS.items():
        message = file.message_type.add(name=name)
        for field, number, label, kind, type_name in fields:
            added = message.field.add(name=field, number=number, label=label, type=kind)
            if type_name:
                added.type_name = type_name
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("AggregatedRecord"))


def by_google(records: list[UserRecord]) -> bytes:
    """An aggregate as another producer writes it: every key and hash in the tables again and again."""
    message = message_class()()
    for record in records:
        message.partition_key_table.append(record.key)
        added = message.records.add(partition_key_index=len(message.partition_key_table) - 1, data=record.data)
        if record.explicit:
            message.explicit_hash_key_table.append(record.explicit)
            added.explicit_hash_key_index = len(message.explicit_hash_key_table) - 1
        for name, value in record.tags:
            added.tags.add(key=name, value=value)
    body: bytes = message.SerializeToString()
    return MAGIC + body + hashlib.md5(body, usedforsecurity=False).digest()


def read_by_google(data: bytes) -> list[UserRecord]:
    message = message_class()()
    message.ParseFromString(data[len(MAGIC) : -16])
    assert hashlib.md5(data[len(MAGIC) : -16], usedforsecurity=False).digest() == data[-16:]
    return [
        UserRecord(
            message.partition_key_table[record.partition_key_index],
            record.data,
            message.explicit_hash_key_table[record.explicit_hash_key_index]
            if record.HasField("explicit_hash_key_index")
            else "",
            tuple((tag.key, tag.value) for tag in record.tags),
        )
        for record in message.records
    ]


@UNHURRIED
@given(st.lists(USER_RECORDS, max_size=10))
def test_what_is_written_is_read_by_us_and_by_protobuf(records: list[UserRecord]) -> None:
    data = encode(records)
    assert decode(data) == records
    assert read_by_google(data) == records
    assert len(data) <= FRAME + sum(map(size_of, records))


@UNHURRIED
@given(st.lists(USER_RECORDS, max_size=10))
def test_what_protobuf_writes_is_read(records: list[UserRecord]) -> None:
    assert decode(by_google(records)) == records


@UNHURRIED
@given(st.binary(max_size=200), st.booleans())
def test_any_other_bytes_are_an_ordinary_record(data: bytes, magic: bool) -> None:
    assert decode(MAGIC + data if magic else data) is None


@UNHURRIED
@given(st.binary(max_size=200))
def test_a_right_sum_over_anything_never_raises(data: bytes) -> None:
    framed = MAGIC + data + hashlib.md5(data, usedforsecurity=False).digest()
    assert decode(framed) is None or isinstance(decode(framed), list)


@UNHURRIED
@given(st.lists(USER_RECORDS, min_size=1, max_size=5), st.data())
def test_a_damaged_aggregate_is_an_ordinary_record(records: list[UserRecord], data: st.DataObject) -> None:
    whole = bytearray(encode(records))
    place = data.draw(st.integers(0, len(whole) - 1))
    whole[place] ^= data.draw(st.integers(1, 255))
    assert decode(bytes(whole)) is None


@pytest.mark.parametrize("cut", [1, 15, 16, 17])
def test_a_cut_aggregate_is_an_ordinary_record(cut: int) -> None:
    assert decode(encode([UserRecord("k", b"x")])[:-cut]) is None
