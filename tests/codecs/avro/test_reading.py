"""What one schema wrote and another reads; and bodies that nobody should have written."""

from __future__ import annotations

import io
import json
from typing import Any

import fastavro
import pytest
from pydantic import BaseModel

from msgbus import Avro
from msgbus.codecs.avro.parsing import parse
from msgbus.codecs.avro.reading import compile_reader
from msgbus.codecs.avro.schema import Record
from msgbus.errors import ConfigError


def record(type_: Any, default: Any = ..., **more: Any) -> dict[str, Any]:
    """A record with one field, `a`."""
    field = {"name": "a", "type": type_} | ({} if default is ... else {"default": default})
    return {"type": "record", "name": "R", "fields": [{**field, **more}]}


def node(given: Any) -> Record:
    found = parse(json.dumps(given))
    assert isinstance(found, Record)
    return found


def through(writer: Any, reader: Any, value: Any) -> tuple[Any, Any]:
    """What we read, and what fastavro does."""
    out = io.BytesIO()
    fastavro.schemaless_writer(out, writer, value)
    ours = compile_reader(node(writer), node(reader), lambda cls: cls)(out.getvalue())
    return ours, fastavro.schemaless_reader(io.BytesIO(out.getvalue()), writer, reader)


ENUM = {"type": "enum", "name": "E", "symbols": ["x", "y"]}
FEWER = {"type": "enum", "name": "E", "symbols": ["y"], "default": "y"}
DECIMAL = {"type": "bytes", "logicalType": "decimal", "precision": 6, "scale": 2}
MILLIS = {"type": "long", "logicalType": "timestamp-millis"}
MICROS = {"type": "long", "logicalType": "timestamp-micros"}


@pytest.mark.parametrize(
    ("writer", "reader", "value"),
    [
        ("int", "long", -5),
        ("int", "float", 3),
        ("long", "double", 2**40),
        ("float", "double", 1.5),
        ("string", "bytes", "ä"),
        ("bytes", "string", b"abc"),
        ("int", ["null", "long"], 7),
        (["null", "int"], ["string", "long", "null"], 7),
        (["null", "int"], "long", 7),
        (ENUM, FEWER, "x"),
        ({"type": "array", "items": "int"}, {"type": "array", "items": "double"}, [1, 2]),
        ({"type": "map", "values": "int"}, {"type": "map", "values": ["null", "long"]}, {"k": 1}),
        ({"type": "fixed", "name": "F", "size": 2}, {"type": "fixed", "name": "F", "size": 2}, b"ab"),
    ],
)
def test_resolution_as_fastavro_has_it(writer: Any, reader: Any, value: Any) -> None:
    ours, theirs = through(record(writer), record(reader), {"a": value})
    assert ours == theirs
    assert type(ours["a"]) is type(theirs["a"])


@pytest.mark.parametrize(
    ("writer", "reader", "words"),
    [
        ("string", "int", "string was written, which is not read as int"),
        ("long", "int", "long was written"),
        ("string", ["int", "null"], "no member of the union that is read"),
        (["string", "bytes"], "int", "no member of the union that was written"),
        (DECIMAL, {**DECIMAL, "scale": 3}, r"decimal\(6, 2\)\) was written, which is not read as .*decimal\(6, 3\)"),
        ("long", MICROS, "long was written, which is not read as long .timestamp-micros"),
        (ENUM, {**ENUM, "name": "Other"}, "enum E was written"),
        ({"type": "array", "items": "null"}, {"type": "array", "items": "null"}, "takes no bytes"),
    ],
)
def test_what_does_not_resolve_is_told_when_it_is_compiled(writer: Any, reader: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        compile_reader(node(record(writer)), node(record(reader)), lambda cls: cls)


def test_fields_that_were_added_removed_and_renamed() -> None:
    writer = {"type": "record", "name": "R", "fields": [{"name": n, "type": "int"} for n in ("old", "gone", "kept")]}
    fields: list[dict[str, Any]] = [
        {"name": "kept", "type": "long"},
        {"name": "new", "type": "long", "aliases": ["old"]},
        {"name": "more", "type": "string", "default": "d"},
    ]
    ours, theirs = through(writer, {**writer, "fields": fields}, {"old": 1, "gone": 2, "kept": 3})
    assert ours | {"more": "d"} == theirs  # the reader's type fills it in
    fields[2].pop("default")
    with pytest.raises(ConfigError, match=r"R\.more was not written, and has no default"):
        compile_reader(node(writer), node({**writer, "fields": fields}), lambda cls: cls)


def test_millis_are_read_as_micros() -> None:
    decode = compile_reader(node(record(MILLIS)), node(record(MICROS)), lambda cls: cls)
    assert decode(b"\xd0\x0f")["a"].isoformat() == "1970-01-01T00:00:01+00:00"


class Deep(BaseModel):
    inside: Deep | None = None


class Holder(BaseModel):
    a: list[int] = []


def _reads(type_: Any) -> Any:
    given = record(type_)
    return compile_reader(node(given), node(given), lambda cls: cls)


@pytest.mark.parametrize(
    ("type_", "body", "words"),
    [
        ("long", "", "R.a at offset 0: the body is cut short"),
        ("long", "80", "cut short"),
        ("long", "8000", "longer than it need be"),
        ("long", "ffffffffffffffffffff01", "more than ten bytes"),
        ("long", "ffffffffffffffffff7f", "more than 64 bits"),
        ("int", "8080808020", "more than 32 bits"),
        ("long", "0200", "R ends at offset 1, and 1 bytes follow"),
        ("boolean", "02", "neither 0 nor 1"),
        ("string", "01", "a length that is negative"),
        ("string", "feffffffffffffffff01", "cut short"),
        ("string", "02ff", "utf-8"),
        ("double", "00", "cut short"),
        ("string", "0461", "R: the body is cut short, 3 bytes needed and 2 there"),
        (ENUM, "04", "no symbol has this index"),
        (ENUM, "01", "no symbol has this index"),
        (["null", "int"], "04", "no member of the union has this index"),
        (["null", "int"], "01", "no member of the union has this index"),
        (DECIMAL, "08ffffffff00", "ends at offset 5"),
        (DECIMAL, "0a7fffffffff", "more digits"),
        ({"type": "fixed", "name": "F", "size": 4}, "0000", "cut short"),
        ({"type": "array", "items": "int"}, "fcffffff0f", "items are said to follow"),
        ({"type": "array", "items": "int"}, "0104020400", "not as long as it says|longer than the body"),
        ({"type": "array", "items": "int"}, "0101", "longer than the body"),
        ({"type": "int", "logicalType": "date"}, "ffffffff0f", "."),
        ({"type": "string", "logicalType": "uuid"}, "0261", "badly formed"),
        (MICROS, "ffffffffffffffffff01", "."),
    ],
)
def test_a_body_that_is_none(type_: Any, body: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        _reads(type_)(bytes.fromhex(body))


def test_blocks_with_their_size_are_read() -> None:
    assert _reads({"type": "array", "items": "int"})(bytes.fromhex("03040204" + "020600")) == {"a": [1, 2, 3]}


@pytest.mark.parametrize(("depth", "is_read"), [(100, True), (101, False), (100_000, False)])
def test_depth_has_a_limit(depth: int, is_read: bool) -> None:
    decode, body = Avro().bind(Deep).decode, b"\x02" * depth + b"\x00"
    if is_read:
        assert decode(body)
        return
    with pytest.raises(ValueError, match="Deep at offset 101: nested deeper than 100"):
        decode(body)


def test_every_cut_of_a_body_is_refused() -> None:
    coder = Avro().bind(Holder)
    body = coder.encode(Holder(a=list(range(-200, 200))))
    for end in range(len(body)):
        with pytest.raises(ValueError, match="offset"):
            coder.decode(body[:end])
