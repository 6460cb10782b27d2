"""Avro as the codec of topics and queues: framings, faults, and what cannot be written."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from decimal import Decimal
from typing import Annotated, Any

import fastavro
import msgspec
import pytest
from pydantic import BaseModel
from typing_extensions import TypedDict

from msgbus import Avro, AvroField, Bus, ConfigError, Queue, Refused, avro_schema
from msgbus.codecs.avro.codec import validator_of
from msgbus.codecs.avro.deriving import derive
from msgbus.codecs.avro.reading import compile_reader
from msgbus.codecs.avro.writing import compile_writer
from msgbus.errors import DecodeError
from msgbus.handlers.decoding import decoder
from msgbus.message import Delivery, Source
from msgbus.testing import TestBus


class Order(BaseModel):
    id: str
    total: Annotated[Decimal, AvroField(precision=9, scale=2)]
    note: str | None = None


class Refund(BaseModel):
    id: str


@dataclasses.dataclass
class Point:
    x: float


class Labels(TypedDict):
    one: str


class Struct(msgspec.Struct, rename="camel"):
    some_name: int
    at: dt.datetime


OLD = json.dumps({"type": "record", "name": "Order", "fields": [{"name": "id", "type": "string"}]})
ORDER = Order(id="a", total=Decimal("1.50"))


@pytest.mark.parametrize("framing", ["bare", "single-object"])
@pytest.mark.parametrize(
    "value",
    [ORDER, Point(1.5), Struct(1, dt.datetime(2026, 1, 1, tzinfo=dt.UTC))],
    ids=lambda value: type(value).__name__,
)
def test_all_kinds_of_types_come_back(value: Any, framing: Any) -> None:
    coder = Avro(framing=framing).bind(type(value))
    assert coder.decode(coder.encode(value)) == value


def test_a_typed_dict_comes_back() -> None:
    coder = Avro().bind(Labels)
    assert coder.decode(coder.encode({"one": "a"})) == {"one": "a"}


def test_single_object_framing_is_the_standards() -> None:
    body = Avro(framing="single-object").bind(Order).encode(ORDER)
    form = fastavro.schema.to_parsing_canonical_form(json.loads(avro_schema(Order)))
    assert body[:10] == b"\xc3\x01" + bytes.fromhex(fastavro.schema.fingerprint(form, "CRC-64-AVRO"))
    assert body[10:] == Avro().bind(Order).encode(ORDER)


def test_an_older_schema_is_read() -> None:
    @dataclasses.dataclass
    class Newer:
        id: str
        more: int = 5
        __avro_aliases__ = ("Refund",)

    coder = Avro(framing="single-object", reads=[avro_schema(Refund), OLD]).bind(Newer)
    assert coder.decode(Avro(framing="single-object").bind(Refund).encode(Refund(id="x"))) == Newer("x", 5)
    with pytest.raises(ValueError, match=r"Newer: no schema with fingerprint .* give it to Avro"):
        coder.decode(Avro(framing="single-object").bind(Order).encode(ORDER))


def test_an_older_schema_that_cannot_be_read_is_told_at_once() -> None:
    with pytest.raises(ConfigError, match=r"Order\.total was not written, and has no default"):
        Avro(framing="single-object", reads=[OLD]).bind(Order)


@pytest.mark.parametrize(
    ("options", "words"),
    [({"framing": "x"}, "allowed are"), ({"reads": [OLD]}, "framing='single-object'")],
)
def test_options_that_cannot_work(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Avro(**options)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"id": 5}, "Order.id: text is expected, not int"),
        ({"id": "\ud800"}, "Order.id: .*surrogates"),
        ({"total": Decimal("1.555")}, "Order.total: it has more than 2 digits behind the point"),
        ({"total": Decimal("NaN")}, "Order.total: a finite Decimal"),
        ({"total": Decimal("1e999999")}, "Order.total: it has more than 9 digits"),
        ({"note": 5}, "Order.note: text is expected"),
    ],
)
def test_what_is_not_of_its_type_is_not_written(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Avro().bind(Order).encode(ORDER.model_copy(update=change))


async def test_over_a_bus_with_a_union_and_a_dead_letter() -> None:
    queue = Queue("orders", Order | Refund, codec=Avro())
    bus, seen = Bus("memory://"), []

    @bus.consumer(queue)
    async def handle(order: Order | Refund) -> None:
        seen.append(order)

    async with TestBus(bus) as test:
        await bus.send(queue, ORDER)
        await bus.send(queue, Refund(id="b"))
        await test.settled()
        with pytest.raises(Refused, match=r"Order\.total: it has more than 2 digits"):
            await bus.send(queue, ORDER.model_copy(update={"total": Decimal("0.001")}))
    assert seen == [ORDER, Refund(id="b")]


def _delivery(body: bytes, **headers: str) -> Delivery:
    return Delivery(body, Source("queue", "orders"), {k.replace("_", "-"): v for k, v in headers.items()}, None)


def test_a_body_of_another_kind_is_not_tried() -> None:
    decode, body = decoder("Queue('orders')", Order, Avro()), Avro().bind(Order).encode(ORDER)
    for kind in ("application/avro", "Application/Avro; x=y", "application/octet-stream"):
        assert decode(_delivery(body, content_type=kind)) == ORDER
    assert decode(_delivery(body)) == ORDER
    with pytest.raises(DecodeError, match=r"orders.*'application/json', and application/avro is expected"):
        decode(_delivery(body, content_type="application/json"))
    with pytest.raises(DecodeError, match=r"orders.*Order.total at offset 2: "):
        decode(_delivery(body[:2], content_type="application/avro"))


def test_names_that_are_hostile_never_become_code() -> None:
    """A validator's name for a field, and that of an attribute, may be any text."""
    hostile = "x']; __import__('os').abort(); ['"
    node = derive(Order)
    node.fields[0].read_as = hostile
    node.fields[0].attribute = "__class__.__name__"
    assert compile_reader(node, node, validator_of)(Avro().bind(Order).encode(ORDER))[hostile] == "a"
    with pytest.raises(ValueError, match="has no attribute"):
        compile_writer(node)(ORDER)
