"""`make bench-codecs`: Avro beside fastavro and pydantic, model in and model out; CPU, best of 15."""

from __future__ import annotations

import gc
import io
import json
import time
from collections.abc import Callable
from typing import Any

import fastavro
from pydantic import BaseModel

from msgbus import Avro, avro_schema


class Flat(BaseModel):
    """Ten fields."""

    name: str
    customer: str
    count: int
    at: int
    price: float
    paid: bool
    note: str | None = None
    text: str
    change: int
    weight: float


class Item(BaseModel):
    """A part of an order."""

    sku: str
    quantity: int
    price: float
    tags: list[str]


class Nested(BaseModel):
    """About half a kibibyte in Avro."""

    id: str
    head: Flat
    items: list[Item]
    labels: dict[str, str]
    note: str | None = None


FLAT = Flat(
    name="order-123456", customer="customer-99", count=42, at=1_700_000_000_000, price=19.9, paid=True,
    text="a text of some length", change=-5, weight=2.5,
)  # fmt: skip
ITEMS = [Item(sku=f"sku-{n}", quantity=n, price=n * 1.5, tags=["red", "new"]) for n in range(12)]
NESTED = Nested(id="n1", head=FLAT, items=ITEMS, labels={f"label{n}": f"value {n}" for n in range(6)})


def cost(run: Callable[[], object], times: int) -> float:
    """Microseconds of one call."""
    found = []
    for _ in range(15):
        begin = time.process_time()
        for _ in range(times):
            run()
        found.append(time.process_time() - begin)
    return min(found) / times * 1e6


def compare(value: BaseModel, times: int) -> None:
    """One row each way."""
    type_ = type(value)
    coder, schema = Avro().bind(type_), fastavro.parse_schema(json.loads(avro_schema(type_)))

    def encode() -> bytes:
        out = io.BytesIO()
        fastavro.schemaless_writer(out, schema, value.model_dump())
        return out.getvalue()

    def decode() -> Any:
        return type_.model_validate(fastavro.schemaless_reader(io.BytesIO(body), schema))

    body = encode()
    assert coder.encode(value) == body
    assert coder.decode(body) == decode() == value
    for what, ours, theirs in (
        ("encode", lambda: coder.encode(value), encode),
        ("decode", lambda: coder.decode(body), decode),
    ):
        mine, twin = cost(ours, times), cost(theirs, times)
        print(f"{type_.__name__:8}{len(body):5} B  {what}  {mine:7.2f} us  {twin:7.2f} us  {twin / mine:5.2f} times")


def main() -> None:
    """Both shapes."""
    gc.disable()
    print("                       msgbus      fastavro + pydantic")
    compare(FLAT, 2000)
    compare(NESTED, 400)


if __name__ == "__main__":
    main()
