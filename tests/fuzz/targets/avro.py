"""Avro: bodies that a codec reads, of its own schema and of an older one, and schemas given as text."""

from __future__ import annotations

import datetime as dt
import uuid
from decimal import Decimal
from random import Random
from typing import Annotated, Literal

from pydantic import BaseModel
from tests.fuzz.target import Target

from msgbus import Avro, AvroField, avro_schema
from msgbus.codecs.avro.parsing import parse
from msgbus.handlers.decoding import decoder
from msgbus.message import Delivery, Source


class Tree(BaseModel):
    """A part, with parts in it."""

    name: str
    kind: Literal["leaf", "branch"] = "leaf"
    below: list[Tree] = []


class Everything(BaseModel):
    """One field of each kind."""

    id: uuid.UUID
    at: dt.datetime
    day: dt.date
    hour: dt.time
    lasts: dt.timedelta
    total: Annotated[Decimal, AvroField(precision=12, scale=2)]
    ratio: float
    yes: bool
    raw: bytes
    names: dict[str, int]
    either: int | str | Tree | None
    tree: Tree


_TREE = Tree(name="a", below=[Tree(name="b", kind="branch", below=[Tree(name="c")]), Tree(name="d")])


def _value(random: Random) -> Everything:
    return Everything(
        id=uuid.UUID(int=random.getrandbits(128)),
        at=dt.datetime.fromtimestamp(random.randrange(2**31), dt.UTC),
        day=dt.date.fromordinal(random.randrange(1, 3_000_000)),
        hour=dt.time(random.randrange(24), random.randrange(60)),
        lasts=dt.timedelta(microseconds=random.randrange(-(2**40), 2**40)),
        total=Decimal(random.randrange(-(10**9), 10**9)) / 100,
        ratio=random.random(),
        yes=random.random() < 0.5,
        raw=random.randbytes(random.randrange(20)),
        names={"a": random.getrandbits(63), "b": -1},
        either=random.choice((None, 5, "text", _TREE)),
        tree=_TREE,
    )


_CODER = Avro().bind(Everything)
_SEEDS = [_CODER.encode(_value(Random(seed))) for seed in range(20)]
_DECODE = decoder("Queue('orders')", Everything, Avro())
_HEADERS = {"content-type": "application/avro"}


def _body(data: bytes) -> None:
    value = _DECODE(Delivery(data, Source("queue", "orders"), _HEADERS, None))
    body = _CODER.encode(value)
    assert _CODER.encode(_CODER.decode(body)) == body


def _schema(data: bytes) -> None:
    parse(data.decode(errors="replace"))


TARGETS = (
    Target(name="avro-bodies", run=_body, seeds=_SEEDS, make=lambda random: _CODER.encode(_value(random)), factor=400),
    Target(name="avro-schemas", run=_schema, seeds=[avro_schema(Everything).encode(), avro_schema(Tree).encode()]),
)
