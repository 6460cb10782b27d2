"""Schemas of message types: each kind of field, and what has no form in Avro."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import json
import uuid
from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any, Literal, NewType, NotRequired

import fastavro
import msgspec
import pytest
from pydantic import BaseModel, Field, NaiveDatetime, RootModel
from typing_extensions import TypedDict

from msgbus.codecs.avro.deriving import avro_schema, derive
from msgbus.codecs.avro.members import AvroField
from msgbus.codecs.avro.parsing import parse
from msgbus.codecs.avro.schema import canonical, fingerprint, to_json
from msgbus.errors import ConfigError


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1


class Spoken(enum.StrEnum):
    HELLO = "hello you"


Sku = NewType("Sku", str)


class Part(BaseModel):
    __avro_name__ = "shop.Part"
    __avro_aliases__ = ("shop.Piece",)
    sku: Sku
    inside: Part | None = None


@dataclasses.dataclass
class Point:
    x: float
    y: float = 1.5
    tags: list[str] = dataclasses.field(default_factory=list)


class Labels(TypedDict):
    one: str
    other: NotRequired[int]


class Struct(msgspec.Struct, rename="camel"):
    some_name: int
    more: str = "a"


class Order(BaseModel):
    id: uuid.UUID
    yes: bool
    count: Annotated[int, AvroField(name="qty", doc="how many", aliases=("n",))] = 1
    total: Annotated[Decimal, AvroField(precision=18, scale=2)]
    other_total: Decimal = Field(max_digits=9, decimal_places=3, description="a second")
    at: dt.datetime
    local: NaiveDatetime
    day: dt.date
    hour: dt.time
    lasts: dt.timedelta
    raw: bytes
    colour: Colour = Colour.BLUE
    level: Level
    spoken: Spoken
    kind: Literal["a", "b"]
    free: Literal["a b"]
    parts: list[Part]
    names: dict[str, int] = {}
    pair: tuple[int, str]
    many: tuple[int, ...]
    either: int | str | None = None
    by_default: int | str = "x"
    unique: set[int]
    point: Point
    labels: Labels


EXPECTED: dict[str, Any] = {
    "id": {"type": "string", "logicalType": "uuid"},
    "yes": "boolean",
    "qty": "long",
    "total": {"type": "bytes", "logicalType": "decimal", "precision": 18, "scale": 2},
    "other_total": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 3},
    "at": {"type": "long", "logicalType": "timestamp-micros"},
    "local": {"type": "long", "logicalType": "local-timestamp-micros"},
    "day": {"type": "int", "logicalType": "date"},
    "hour": {"type": "long", "logicalType": "time-micros"},
    "lasts": {"type": "long", "logicalType": "timedelta-micros"},
    "raw": "bytes",
    "colour": {"type": "enum", "name": "Colour", "symbols": ["red", "blue"]},
    "level": "long",
    "spoken": "string",
    "kind": {"type": "enum", "name": "Order_kind", "symbols": ["a", "b"]},
    "free": "string",
    "many": {"type": "array", "items": "long"},
    "names": {"type": "map", "values": "long"},
    "either": ["null", "long", "string"],
    "by_default": ["string", "long"],
    "unique": {"type": "array", "items": "long"},
    "pair": {
        "type": "record",
        "name": "Order_pair",
        "fields": [{"name": "item0", "type": "long"}, {"name": "item1", "type": "string"}],
    },
    "parts": {
        "type": "array",
        "items": {
            "type": "record",
            "name": "shop.Part",
            "aliases": ["shop.Piece"],
            "fields": [
                {"name": "sku", "type": "string"},
                {"name": "inside", "type": ["null", "shop.Part"], "default": None},
            ],
        },
    },
    "point": {
        "type": "record",
        "name": "Point",
        "fields": [
            {"name": "x", "type": "double"},
            {"name": "y", "type": "double", "default": 1.5},
            {"name": "tags", "type": {"type": "array", "items": "string"}, "default": []},
        ],
    },
    "labels": {
        "type": "record",
        "name": "Labels",
        "fields": [
            {"name": "one", "type": "string"},
            {"name": "other", "type": ["null", "long"], "default": None},
        ],
    },
}


def test_every_kind_of_field() -> None:
    fields = {field["name"]: field for field in json.loads(avro_schema(Order))["fields"]}
    assert {name: field["type"] for name, field in fields.items()} == EXPECTED
    assert fields["qty"] == {"name": "qty", "type": "long", "doc": "how many", "aliases": ["n"], "default": 1}
    assert (fields["other_total"]["doc"], fields["colour"]["default"]) == ("a second", "blue")
    assert (fields["names"]["default"], fields["by_default"]["default"]) == ({}, "x")


def test_a_struct_of_msgspec() -> None:
    assert [(field["name"], field.get("default")) for field in to_json(derive(Struct))["fields"]] == [
        ("some_name", None),
        ("more", "a"),
    ]


def test_what_is_derived_is_what_others_and_we_ourselves_read() -> None:
    text = avro_schema(Order)
    fastavro.parse_schema(json.loads(text))
    assert to_json(parse(text)) == json.loads(text)
    expected = fastavro.schema.to_parsing_canonical_form(json.loads(text))
    assert canonical(derive(Order)) == canonical(parse(text)) == expected
    printed = fastavro.schema.fingerprint(expected, "CRC-64-AVRO")
    assert fingerprint(derive(Order)).to_bytes(8, "little").hex() == printed


def _model(annotation: Any, **more: Any) -> type[BaseModel]:
    return type("M", (BaseModel,), {"__annotations__": {"field": annotation}, "__module__": __name__, **more})


class _Plain:
    pass


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (Decimal, "M.field: a Decimal in Avro has so many digits: say Annotated"),
        (dict[int, str], r"M.field: the keys of an Avro map are text, not int; use dict\[str"),
        (Mapping[Any, str], "M.field: the keys of an Avro map are text"),
        (Any, "M.field: Any has no form in Avro"),
        (complex, "M.field: complex has no form in Avro"),
        (object, "M.field: object has no form in Avro"),
        (list[int] | list[str], "M.field: members of one Avro type can't be told apart"),
        (str | uuid.UUID, "M.field: members of one Avro type"),
        (Literal["a", 1], "M.field: Literal.*several types"),
        (RootModel[int], "a RootModel has no fields"),
        (Annotated[Decimal, AvroField(precision=2, scale=3)], "precision 2, scale 3"),
        (Annotated[int, AvroField(name="a-b")], "'a-b' is no name"),
        (Annotated[int, AvroField(aliases=("a b",))], "'a b' is no name"),
    ],
)
def test_what_has_no_form_in_avro(annotation: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        derive(_model(annotation))


def test_digits_are_found_deep_in_a_type() -> None:
    node = derive(_model(list[Annotated[Decimal, Field(max_digits=5, decimal_places=1)] | None]))
    decimal = {"type": "bytes", "logicalType": "decimal", "precision": 5, "scale": 1}
    assert to_json(node.fields[0].type) == {"type": "array", "items": ["null", decimal]}


def test_a_message_is_a_record() -> None:
    with pytest.raises(ConfigError, match="an Avro message is a record"):
        derive(list[int])
    with pytest.raises(ConfigError, match="has no form in Avro"):
        derive(_Plain)


def test_two_types_of_one_name() -> None:
    first, second = _model(int), _model(str)
    with pytest.raises(ConfigError, match="two types are called 'M'; give one an __avro_name__"):
        derive(type("Both", (BaseModel,), {"__annotations__": {"a": first, "b": second}, "__module__": __name__}))


def test_fields_that_no_schema_names() -> None:
    with pytest.raises(ConfigError, match="extra='allow'"):
        derive(_model(int, model_config={"extra": "allow"}))


def test_a_field_with_a_name_that_avro_has_not() -> None:
    with pytest.raises(ConfigError, match=r"M\.größe .name it by Annotated.*is no name"):
        derive(type("M", (BaseModel,), {"__annotations__": {"größe": int}, "__module__": __name__}))
