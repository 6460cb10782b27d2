"""fastavro reads what we write, and we read what it writes, for types and values that hypothesis draws.

`AVRO_EXAMPLES=5000` for more of them.
"""

from __future__ import annotations

import datetime as dt
import enum
import io
import json
import os
import uuid
from decimal import Decimal
from typing import Annotated, Any, Literal

import fastavro
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, create_model

from msgbus import Avro, AvroField, avro_schema

EXAMPLES = int(os.environ.get("AVRO_EXAMPLES", "200"))


class Suit(enum.Enum):
    HEARTS = "hearts"
    SPADES = "spades"


class Leaf(BaseModel):
    text: str
    more: list[Leaf] = []


_LONGS = st.integers(-(2**63), 2**63 - 1)
_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=80)
_AWARE = st.datetimes(dt.datetime(1800, 1, 1), dt.datetime(2200, 1, 1), timezones=st.just(dt.UTC))
_LEAVES = st.recursive(
    st.builds(Leaf, text=_TEXT),
    lambda inner: st.builds(Leaf, text=_TEXT, more=st.lists(inner, max_size=3)),
    max_leaves=5,
)
_SIMPLE: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (bool, st.booleans()),
    (int, _LONGS),
    (float, st.floats(allow_nan=False)),
    (str, _TEXT),
    (bytes, st.binary(max_size=200)),
    (uuid.UUID, st.uuids()),
    (dt.datetime, _AWARE),
    (dt.date, st.dates(dt.date(1600, 1, 1))),
    (dt.time, st.times()),
    (dt.timedelta, st.timedeltas(dt.timedelta(-(10**5)), dt.timedelta(10**5))),
    (Suit, st.sampled_from(Suit)),
    (Leaf, _LEAVES),
    (
        Annotated[Decimal, AvroField(precision=12, scale=3)],
        st.decimals(-(10**8), 10**8, places=3, allow_nan=False).filter(lambda value: abs(value) < 10**9),
    ),
]
_Typed = tuple[Any, st.SearchStrategy[Any]]


def _around(typed: _Typed) -> st.SearchStrategy[_Typed]:
    type_, values = typed
    forms: list[_Typed] = [
        (list[type_], st.lists(values, max_size=4)),  # type: ignore[valid-type]
        (dict[str, type_], st.dictionaries(_TEXT, values, max_size=4)),  # type: ignore[valid-type]
        (tuple[type_, ...], st.lists(values, max_size=4).map(tuple)),  # type: ignore[valid-type]
        (type_ | None if not hasattr(type_, "__metadata__") else type_, values),
    ]
    return st.sampled_from(forms)


_TYPES = st.recursive(st.sampled_from(_SIMPLE), lambda inner: inner.flatmap(_around), max_leaves=3)
_UNIONS: list[_Typed] = [
    (int | str | None, st.none() | _LONGS | _TEXT),
    (bool | float | bytes | Leaf, st.booleans() | st.floats(allow_nan=False) | st.binary() | _LEAVES),
    (Literal["a", "b"] | int, st.sampled_from(["a", "b"]) | _LONGS),
    (list[int] | Suit, st.lists(_LONGS, max_size=3) | st.sampled_from(Suit)),
]


@st.composite
def messages(draw: st.DrawFn) -> BaseModel:
    """A value of a model that is made for it."""
    found = draw(st.lists(_TYPES | st.sampled_from(_UNIONS), min_size=1, max_size=6))
    fields: dict[str, Any] = {f"field{place}": (type_, ...) for place, (type_, _) in enumerate(found)}
    model: type[BaseModel] = create_model("Message", **fields)
    return model.model_construct(**{f"field{place}": draw(values) for place, (_, values) in enumerate(found)})


@settings(
    max_examples=EXAMPLES, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)
@given(messages())
def test_what_we_write_is_read_and_what_is_written_we_read(message: BaseModel) -> None:
    coder = Avro().bind(type(message))
    schema = fastavro.parse_schema(json.loads(avro_schema(type(message))))
    body = coder.encode(message)
    assert coder.decode(body) == message
    seen = io.BytesIO(body)
    theirs: Any = fastavro.schemaless_reader(seen, schema, return_record_name=True, return_named_type=True)
    assert seen.read() == b""
    out = io.BytesIO()
    fastavro.schemaless_writer(out, schema, theirs)
    assert coder.decode(out.getvalue()) == message
