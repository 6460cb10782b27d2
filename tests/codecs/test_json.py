"""The JSON codec: what it carries, what it refuses, and that it says why."""

from __future__ import annotations

import enum
import json
import math
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, ValidationError
from typing_extensions import TypedDict

from msgbus import Json
from msgbus.codecs import json as json_codec
from msgbus.errors import ConfigError


class Colour(enum.Enum):
    """An enum, as many payloads have."""

    RED = "red"


class Time(enum.IntEnum):
    """Another one."""

    NOON = 12


class Model(BaseModel):
    """Everyday fields."""

    name: str
    ratio: float = 0.0
    note: str | None = None
    at: datetime | None = None
    total: Decimal = Decimal(1)
    id: UUID | None = None
    more: dict[str, Any] = {}


class Coloured(BaseModel):
    """Enums refer to their class, and that to them."""

    note: str | None = None
    ratio: float = 0.0
    colour: Colour = Colour.RED
    time: Time = Time.NOON


class Loose(BaseModel):
    """A bare dict."""

    data: dict  # type: ignore[type-arg]


@dataclass
class Point:
    """A dataclass."""

    x: float
    label: str = ""


class Table(TypedDict):
    """A TypedDict."""

    rows: list[float]


class Struct(msgspec.Struct):
    """A msgspec Struct."""

    x: float
    nested: list[Any] = []


DEEP = 250


def round_trip(type_: Any, value: Any, codec: Json | None = None) -> Any:
    """Encode and decode."""
    coder = (codec or Json()).bind(type_)
    return coder.decode(coder.encode(value))


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        (Model, Model(name="a", at=datetime(2026, 1, 1), id=UUID(int=1), more={"a": [1, None]})),
        (Point, Point(1.5, "a")),
        (Table, Table(rows=[1.0, 2.0])),
        (Struct, Struct(1.5)),
        (dict[str, int], {"a": 1}),
        (list[Model], [Model(name="a")]),
        (int, 5),
        (bytes, b"\x00\xff"),
        (str, "hällo"),
        (Model | Point, Point(2.0)),
    ],
)
def test_round_trips(type_: Any, value: Any) -> None:
    assert round_trip(type_, value) == value


def test_bytes_and_text_are_the_body_itself() -> None:
    assert Json().bind(bytes).content_type == "application/octet-stream"
    assert Json().bind(str).content_type == "text/plain"
    assert Json().bind(str).encode("ä") == b"\xc3\xa4"


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    "make",
    [
        lambda x: (Model, Model(name="a", ratio=x)),
        lambda x: (Model, Model(name="a", more={"deep": [{"x": x}]})),
        lambda x: (Point, Point(x)),
        lambda x: (Table, Table(rows=[1.0, x])),
        lambda x: (Struct, Struct(x)),
        lambda x: (float, x),
        lambda x: (Loose, Loose(data={"x": x})),
    ],
    ids=["field", "any", "dataclass", "typed dict", "struct", "float", "bare dict"],
)
def test_what_is_no_json_number_is_refused_on_the_way_out(make: Any, number: float) -> None:
    type_, value = make(number)
    with pytest.raises(ValueError, match=r"is no JSON; Json\(allow_nan=True\) lets it pass"):
        Json().bind(type_).encode(value)


def test_the_refusal_names_the_field() -> None:
    with pytest.raises(ValueError, match=r"more\.deep\.0\.x is nan"):
        Json().bind(Model).encode(Model(name="a", more={"deep": [{"x": math.nan}]}))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-1E+999"])
@pytest.mark.parametrize("template", ['{"name": "a", "ratio": %s}', '{"name": "a", "more": {"x": [%s]}}'])
def test_what_is_no_json_number_is_refused_on_the_way_in(number: str, template: str) -> None:
    with pytest.raises(ValueError, match=r"is no JSON|finite"):
        Json().bind(Model).decode((template % number).encode())


def test_a_large_integer_is_json() -> None:
    assert Json().bind(Model).decode(b'{"name": "a", "more": {"x": 1' + b"0" * 400 + b"}}").more == {"x": 10**400}


@given(
    st.from_regex(r"-?(0|[1-9][0-9]{0,320})(\.[0-9]{1,5})?([eE][+-]?[0-9]{1,5})?", fullmatch=True)
    | st.sampled_from(["NaN", "Infinity", "-Infinity", '"NaN"', '"Infinity"', '"-inf"', '"1e999"'])
)
@example("1e0999")
@example("1" + "0" * 400)
@example("1" + "0" * 300 + "e99")
def test_no_float_field_is_ever_infinite(number: str) -> None:
    try:
        value = Json().bind(Model).decode(f'{{"name": "a", "ratio": {number}}}'.encode())
    except ValueError:
        return
    assert math.isfinite(value.ratio)


class Measured(BaseModel):
    """Its floats are its own fields: they are looked at one by one."""

    ratio: float
    other: float | None = None
    note: str = ""


class Wide(Measured):
    model_config = ConfigDict(extra="allow")


@given(
    st.from_regex(r"-?(0|[1-9][0-9]{0,320})(\.[0-9]{1,5})?([eE][+-]?[0-9]{1,5})?", fullmatch=True)
    | st.sampled_from(["NaN", "Infinity", "-Infinity", '"NaN"', '"Infinity"', '"-inf"', '"1e999"'])
)
@example("1e999")
def test_no_float_field_of_a_plain_model_is_ever_infinite(number: str) -> None:
    coder = Json().bind(Measured)
    for body in (f'{{"ratio": {number}}}', f'{{"ratio": 1, "other": {number}}}'):
        try:
            value = coder.decode(body.encode())
        except ValueError:
            continue
        assert math.isfinite(value.ratio)
        assert math.isfinite(value.other or 0.0)


@pytest.mark.parametrize("number", ["NaN", "-Infinity"])
def test_what_is_no_json_is_refused_in_fields_that_nobody_reads(number: str) -> None:
    with pytest.raises(ValueError, match="is no JSON"):
        Json().bind(Measured).decode(f'{{"ratio": 1, "unknown": [{number}]}}'.encode())


def test_fields_beyond_the_declared_ones_are_looked_at_where_they_are_kept() -> None:
    with pytest.raises(ValueError, match=r"finite|is no JSON"):
        Json().bind(Wide).decode(b'{"ratio": 1, "more": 1e999}')


def test_they_pass_where_they_are_asked_for() -> None:
    codec = Json(allow_nan=True)
    assert math.isnan(codec.bind(Model).decode(b'{"name": "a", "ratio": NaN}').ratio)
    assert math.isinf(codec.bind(Point).decode(b'{"x": 1e999}').x)


def test_words_that_look_like_them_are_harmless() -> None:
    value = Model(name="Infinity and NaN: information, finance, 1e999", note=None)
    assert round_trip(Model, value) == value


@pytest.mark.parametrize("note", [None, "information about finance"])
def test_an_enum_beside_them_is_harmless(note: str | None) -> None:
    value = Coloured(note=note)
    assert round_trip(Coloured, value) == value


@given(
    st.builds(
        Model,
        name=st.text(st.characters(exclude_categories=["Cs"])),
        ratio=st.floats(allow_nan=False, allow_infinity=False),
        note=st.none() | st.sampled_from(["null", "nan", "inf", "1e999"]),
        more=st.dictionaries(st.text(max_size=3), st.none() | st.integers(-5, 5), max_size=3),
    )
)
def test_every_valid_model_round_trips(value: Model) -> None:
    assert round_trip(Model, value) == value


@pytest.mark.parametrize(("type_", "field"), [(Model, "more"), (Struct, "nested")])
def test_what_is_nested_too_deep_is_refused(type_: Any, field: str) -> None:
    start = {"name": "a", "x": 1.0}
    deep = json.dumps({**start, field: "@"}).replace('"@"', '{"a":' + "[" * DEEP + "]" * DEEP + "}")
    if field == "nested":
        deep = deep.replace('{"a":', "[", 1).replace("]}", "]]", 1)
    with pytest.raises(ValueError, match=r"(?i)nested|recursion"):
        Json().bind(type_).decode(deep.encode())


@given(st.integers(1, 60), st.integers(1, 60))
def test_the_depth_limit_is_exact(depth: int, limit: int) -> None:
    body = b"[" * depth + b'"}]["' + b"]" * depth
    coder = Json(max_depth=limit).bind(Any)
    if depth > limit:
        with pytest.raises(ValueError, match=f"nested deeper than {limit}"):
            coder.decode(body)
    else:
        coder.decode(body)


@pytest.mark.parametrize("depth", [0, 201])
def test_a_depth_that_can_t_be_kept_is_refused(depth: int) -> None:
    with pytest.raises(ConfigError, match=r"max_depth=\d+\): allowed are 1 to 200"):
        Json(max_depth=depth)


def test_a_type_that_can_t_be_carried_says_what_can() -> None:
    class Odd:
        pass

    with pytest.raises(ConfigError, match=r"Odd.*use a pydantic model, a dataclass"):
        Json().bind(Odd)


@pytest.mark.parametrize(
    ("type_", "yes", "no"),
    [
        (Model, Model(name="a"), Point(1.0)),
        (Point, Point(1.0), Model(name="a")),
        (Struct, Struct(1.0), 5),
        (dict[str, int], {"a": 1}, {"a": "1"}),
        (Table, {"rows": [1.0]}, {"rows": ["x"]}),
        (list[int], [1], (1,)),
        (int, 5, "5"),
    ],
)
def test_whether_a_value_is_of_the_type(type_: Any, yes: Any, no: Any) -> None:
    accepts = Json().bind(type_).accepts
    assert accepts(yes)
    assert not accepts(no)


def test_a_bad_body_is_one_of_the_errors_that_the_coder_names() -> None:
    for type_ in (Model, Point, Struct, Table, int):
        coder = Json().bind(type_)
        for body in (b"", b"{", b"\xff", b'"x"', b"[]"):
            with pytest.raises(coder.errors):
                coder.decode(body)
    assert issubclass(ValidationError, ValueError)


def _parts_looked_at(monkeypatch: pytest.MonkeyPatch, depth: int, leaves: int) -> int:
    """How many parts of a payload are looked at for a NaN: counted, not timed."""
    counted = 0
    children = json_codec._children

    def count(value: Any) -> Any:
        nonlocal counted
        for each in children(value):
            counted += 1
            yield each

    monkeypatch.setattr(json_codec, "_children", count)
    value: Any = [None] * leaves
    for _ in range(depth):
        value = [value]
    Json().bind(Any).encode(value)
    monkeypatch.setattr(json_codec, "_children", children)
    return counted


def test_the_search_for_nan_looks_at_each_part_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _parts_looked_at(monkeypatch, 150, 1_000) == 1_150
