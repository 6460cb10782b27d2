"""Schemas given as text: what is read, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import fastavro
import pytest

from msgbus.codecs.avro.parsing import parse
from msgbus.codecs.avro.schema import Fixed, Plain, Record, canonical, fingerprint, to_json
from msgbus.errors import ConfigError

ORDER: dict[str, Any] = {
    "type": "record",
    "name": "Order",
    "namespace": "shop",
    "doc": "an order",
    "aliases": ["Old"],
    "fields": [
        {"name": "id", "type": {"type": "fixed", "name": "Id", "size": 4}, "order": "ignore"},
        {"name": "next", "type": ["null", "Order"], "default": None},
        {"name": "sum", "type": {"type": "bytes", "logicalType": "decimal", "precision": 4, "scale": 1}},
        {"name": "odd", "type": {"type": "bytes", "logicalType": "decimal", "precision": 1, "scale": 4}},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-nanos"}},
        {"name": "kind", "type": {"type": "enum", "name": "other.Kind", "symbols": ["A"], "default": "A"}},
        {"name": "kinds", "type": {"type": "array", "items": {"type": "map", "values": "other.Kind"}}},
    ],
}


def test_names_are_full_and_what_is_not_known_is_left_out() -> None:
    node = parse(json.dumps(ORDER))
    assert isinstance(node, Record)
    assert (node.name, node.aliases, node.doc) == ("shop.Order", ["shop.Old"], "an order")
    fields = {field.name: field.type for field in node.fields}
    assert isinstance(fields["id"], Fixed)
    assert fields["id"].name == "shop.Id"
    assert [type(each) for each in (fields["odd"], fields["at"])] == [Plain, Plain]
    assert [getattr(fields[name], "logical", None) for name in ("sum", "odd", "at")] == ["decimal", "", ""]


@pytest.mark.parametrize("logical", [[], {}, 1, None])
def test_a_logical_type_that_is_none_is_left_out(logical: Any) -> None:
    node = parse(json.dumps({"type": "string", "logicalType": logical}))
    assert isinstance(node, Plain)
    assert node.logical == ""


def test_form_and_fingerprint_are_those_of_fastavro() -> None:
    node = parse(json.dumps(ORDER))
    plain = {
        **ORDER,
        "fields": [{**each, "type": "bytes"} if each["name"] == "odd" else each for each in ORDER["fields"]],
    }
    expected = fastavro.schema.to_parsing_canonical_form(plain)  # which refuses what the specification says to ignore
    assert canonical(node) == expected
    assert canonical(parse(json.dumps(to_json(node)))) == expected
    assert fingerprint(node).to_bytes(8, "little").hex() == fastavro.schema.fingerprint(expected, "CRC-64-AVRO")
    assert fingerprint(parse('"int"')) == 0x7275D51A3F395C8F


def _record(*fields: Any) -> dict[str, Any]:
    return {"type": "record", "name": "R", "fields": list(fields)}


def _nested(depth: int) -> Any:
    given: Any = "int"
    for _ in range(depth):
        given = {"type": "array", "items": given}
    return given


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (5, "a type is a name, a list, or an object"),
        ({}, "a type is a name"),
        ("unheard", "'unheard' is no type"),
        ({"type": "record", "fields": []}, "it has no `name`"),
        (_record({"name": "a; import os", "type": "int"}), "is no name"),
        (_record({"name": "a\n", "type": "int"}), "is no name"),
        (_record({"name": "ä", "type": "int"}), "is no name"),
        ({"type": "record", "name": "a..b", "fields": []}, "is no name"),
        ({"type": "enum", "name": "E", "symbols": ["a b"]}, "is no name"),
        ({"type": "enum", "name": "E", "symbols": ["a", "a"]}, "a symbol twice"),
        ({"type": "enum", "name": "E", "symbols": []}, "or none"),
        ({"type": "enum", "name": "E", "symbols": ["a"], "default": "b"}, "'b' is no symbol"),
        ({"type": "fixed", "name": "F", "size": -1}, "size -1"),
        ({"type": "fixed", "name": "F", "size": 2**40}, "size"),
        (_record({"name": "a", "type": "int"}, {"name": "a", "type": "int"}), "a field twice"),
        (_record({"name": "a", "type": "int", "default": "x"}), "the default 'x' is none of its type"),
        (_record({"name": "a", "type": "int", "default": 2**31}), "the default"),
        (_record({"name": "a", "type": "boolean", "default": 1}), "the default"),
        (_record({"name": "a"}), "`type` is missing"),
        (_record({"name": "a", "type": _record()}), "the name 'R' is taken"),
        ({"type": "record", "name": "R"}, "`fields` is a list"),
        (["int", "int"], "no int twice"),
        (["int", ["string"]], "no union"),
        ([], "not empty"),
        ({"type": "array"}, "`items` is missing"),
        (_nested(200), "levels"),
        (["null", {"type": []}], "union"),
    ],
)
def test_what_is_no_schema(given: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse(json.dumps(given))


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, '"' + "a" * 2**20 + '"'])
def test_what_is_no_json_or_too_much_of_it(text: str) -> None:
    with pytest.raises(ConfigError, match="Avro schema"):
        parse(text)
