"""Declarations: names, keys, unions; what can't work is refused where it is declared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
from pydantic import BaseModel
from tests.models import Order, Refund
from typing_extensions import TypedDict

from msgbus import Queue, RegistrationError, Rpc, Topic
from msgbus.topic import type_name, union_members


@dataclass
class Point:
    """A dataclass."""

    x: int


class Struct(msgspec.Struct):
    """A msgspec Struct."""

    x: int


class Table(TypedDict):
    """A TypedDict."""

    x: int


class Other(TypedDict):
    """Another."""

    x: int
    y: int


@pytest.mark.parametrize("name", ["", "a b", "ä", "a/b", "x" * 81, "a\n", "²"])
@pytest.mark.parametrize("declare", [Topic, Queue, lambda name, type_: Rpc(name, type_, type_)])
def test_a_name_that_no_broker_can_carry_is_refused(name: str, declare: Any) -> None:
    with pytest.raises(RegistrationError, match=r"(Topic|Queue|Rpc) name .*1 to 80 ASCII letters"):
        declare(name, Order)


@pytest.mark.parametrize("name", ["a", "A-b_c.9", "x" * 80])
def test_other_names_are_fine(name: str) -> None:
    assert Topic(name, Order).name == name


@pytest.mark.parametrize(
    ("type_", "payload"),
    [
        (Point, Point(5)),
        (Struct, Struct(5)),
        (Table, Table(x=5)),
        pytest.param(Table | Other, Other(x=5, y=1)),
    ],
)
def test_the_key_is_a_field_as_text(type_: Any, payload: Any) -> None:
    key_of = Topic("t", type_, key="x").key_of
    assert key_of is not None
    assert key_of(payload) == "5"


def test_the_key_may_be_a_function() -> None:
    key_of = Topic("t", Order, key=lambda order: order.order_id[:1]).key_of
    assert key_of is not None
    assert key_of(Order(order_id="abc")) == "a"


@pytest.mark.parametrize("type_", [Order, Point, Struct, Table, Order | Point])
def test_a_key_that_is_no_field_is_refused_with_those_there_are(type_: Any) -> None:
    with pytest.raises(RegistrationError, match=r"Topic 't': key='nope' is no field of \w+; it has \["):
        Topic("t", type_, key="nope")


@pytest.mark.parametrize("declare", [Topic, Queue])
def test_order_needs_a_key(declare: Any) -> None:
    with pytest.raises(RegistrationError, match=r"ordered=True keeps order per key; say which with key="):
        declare("t", Order, ordered=True)


def test_one_member_of_a_union() -> None:
    both = Topic[Order | Refund]("both", Order | Refund, key="order_id", ordered=True)
    only = both.only(Refund)
    assert (only.name, only.type, only.ordered, only.key_of) == ("both", Refund, True, both.key_of)
    with pytest.raises(RegistrationError, match=r"Topic\('both'.*Point is no member of its type"):
        both.only(Point)


def test_a_type_says_its_own_name() -> None:
    class Event(BaseModel):
        __event_type__ = "com.example.event.v1"

    assert type_name(Event) == "com.example.event.v1"
    assert type_name(Order) == "Order"
    assert type_name(dict[str, int]) == "dict"
    assert union_members(Order | Refund) == (Order, Refund)
    assert union_members(Order) == (Order,)


def test_they_show_what_they_are() -> None:
    assert repr(Topic("t", Order)) == "Topic('t', Order)"
    assert repr(Queue("q", bytes)) == "Queue('q', bytes)"
    assert repr(Rpc("r", Order, Refund)) == "Rpc('r', Order, Refund)"
