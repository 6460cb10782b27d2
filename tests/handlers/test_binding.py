"""Signatures are read once, at registration; what can't be bound is refused there, naming handler and parameter."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any, Protocol

import pytest
from tests.models import Order, Refund
from typing_extensions import TypedDict

from msgbus import Depends, Json, Message, RegistrationError
from msgbus import headers as h
from msgbus.envelope.structured import STRUCTURED
from msgbus.errors import DecodeError
from msgbus.handlers.binding import bind
from msgbus.handlers.decoding import decoder
from msgbus.message import Delivery, Source

SOURCE = Source("queue", "work")


class Db:
    """A dependency."""


class Table(TypedDict):
    """A TypedDict."""

    x: int


class OtherTable(TypedDict):
    """Another."""

    y: int


def get_db() -> Db:
    """Its maker."""
    return Db()


async def payload(order: Order) -> None: ...
async def base(order: object) -> None: ...
async def wider(order: Order | Refund) -> None: ...
async def anything(order: Any) -> None: ...
async def bare(order) -> None: ...  # type: ignore[no-untyped-def]
async def message(order: Message[Order]) -> None: ...
async def any_message(order: Message) -> None: ...  # type: ignore[type-arg]
async def batch(order: list[Order]) -> None: ...
async def sequence(order: Sequence[Order]) -> None: ...
async def messages(order: list[Message[Order]]) -> None: ...
async def defaulted(order: Order, limit: int = 5) -> None: ...
async def injected(order: Order, db: Annotated[Db, Depends(get_db)]) -> None: ...
async def starred(order: Order, *args: object, **more: object) -> None: ...


class Service:
    """Handlers as methods and as instances."""

    async def handle(self, order: Order) -> None: ...

    async def __call__(self, order: Message[Order]) -> None: ...


@pytest.mark.parametrize(
    ("handler", "wants_message", "wants_list", "injects"),
    [
        (payload, False, False, False),
        (base, False, False, False),
        (wider, False, False, False),
        (anything, False, False, False),
        (bare, False, False, False),
        (message, True, False, False),
        (any_message, True, False, False),
        (batch, False, True, False),
        (sequence, False, True, False),
        (messages, True, True, False),
        (defaulted, False, False, False),
        (injected, False, False, True),
        (starred, False, False, False),
        (Service().handle, False, False, False),
        (Service(), True, False, False),
        (functools.partial(defaulted, limit=3), False, False, False),
    ],
)
def test_what_a_handler_asks_for(
    handler: Callable[..., Awaitable[Any]], wants_message: bool, wants_list: bool, injects: bool
) -> None:
    bound = bind(handler, Order, "Queue 'work'")
    assert (bound.wants_message, bound.wants_list, bound.injects) == (wants_message, wants_list, injects)


def test_a_topic_of_lists_gives_lists_and_no_batches() -> None:
    async def handle(order: list[Order]) -> None: ...
    async def many(order: list[list[Order]]) -> None: ...

    assert not bind(handle, list[Order], "Queue 'work'").wants_list
    assert bind(many, list[Order], "Queue 'work'").wants_list


class Unit:
    """A dependency that is a class."""

    def __init__(self, order: Order, session: object) -> None: ...


def get_name() -> str:
    """A dependency."""
    return "name"


def needs_name(name: str) -> Db:
    return Db()


def needs_message(message: Order) -> Db:
    return Db()


async def nothing() -> None: ...
async def only_stars(*args: object) -> None: ...
async def keyword_only(*, order: Order) -> None: ...
async def wrong(order: Refund) -> None: ...
async def wrong_list(order: list[Refund]) -> None: ...
async def wrong_message(order: Message[Refund]) -> None: ...
async def unbound(order: Order, db: Db) -> None: ...
async def wrong_dependency(order: Order, db: Annotated[int, Depends(get_db)]) -> None: ...
def needs_session(session: object) -> Db:
    return Db()


def needs_other(order: Refund) -> Db:
    return Db()


def needs_both(order: Order, db: Annotated[Db, Depends(get_db)], limit: int = 5) -> Db:
    return Db()


def nested(db: Annotated[Db, Depends(needs_session)]) -> Db:
    return Db()


async def dependency_unbound(order: Order, db: Annotated[Db, Depends(needs_session)]) -> None: ...
async def dependency_of_another(order: Order, db: Annotated[Db, Depends(needs_other)]) -> None: ...
async def dependency_of_a_message(message: Message[Order], db: Annotated[Db, Depends(needs_message)]) -> None: ...
async def dependency_nested(order: Order, db: Annotated[Db, Depends(nested)]) -> None: ...
async def dependency_class(order: Order, unit: Annotated[Unit, Depends(Unit)]) -> None: ...
async def dependency_too_late(
    order: Order, db: Annotated[Db, Depends(needs_name)], name: Annotated[str, Depends(get_name)]
) -> None: ...
async def dependency_in_turn(
    order: Order, name: Annotated[str, Depends(get_name)], db: Annotated[Db, Depends(needs_name)]
) -> None: ...
async def dependency_bound(order: Order, db: Annotated[Db, Depends(needs_both)]) -> None: ...
async def unknown(order: NoSuchThing) -> None: ...  # type: ignore[name-defined]  # noqa: F821


@pytest.mark.parametrize(
    ("handler", "text"),
    [
        (nothing, "handler nothing takes no parameter; the first one receives the payload"),
        (only_stars, "handler only_stars takes no parameter"),
        (keyword_only, "handler keyword_only.*'order'"),
        (wrong, "handler wrong: parameter 'order' is Refund, the messages are Order"),
        (wrong_list, "handler wrong_list: parameter 'order'.*the messages are Order"),
        (wrong_message, "handler wrong_message: parameter 'order'.*the messages are Order"),
        (unbound, r"handler unbound: nothing binds parameter 'db'; use Annotated\[..., Depends\(...\)\]"),
        (wrong_dependency, "handler wrong_dependency: parameter 'db' is int, its dependency gives Db"),
        (
            dependency_unbound,
            r"handler dependency_unbound: .* 'session' of its dependency needs_session: .* by name \(order\), Depends",
        ),
        (dependency_nested, "nothing binds parameter 'session' of its dependency needs_session"),
        (dependency_class, "nothing binds parameter 'session' of its dependency Unit"),
        (dependency_too_late, "nothing binds parameter 'name' of its dependency needs_name"),
        (dependency_of_another, "dependency needs_other: parameter 'order' is Refund, the handler's is Order"),
        (dependency_of_a_message, "dependency needs_message: parameter 'message' is Order, the handler's is Message"),
        (unknown, "handler unknown: an annotation can't be resolved at run time.*NoSuchThing"),
    ],
)
def test_what_can_t_be_bound_is_refused(handler: Any, text: str) -> None:
    with pytest.raises(RegistrationError, match=text) as refused:
        bind(handler, Order, "Queue 'work'")
    assert "Queue 'work'" in str(refused.value)


@pytest.mark.parametrize("handler", [dependency_bound, dependency_in_turn])
def test_dependencies_get_what_is_bound_before_them(handler: Any) -> None:
    assert bind(handler, Order, "Queue 'work'").injects


class Store(Protocol):
    """What a handler needs, said as a protocol."""

    def get(self) -> int: ...


class SqlStore:
    """Its implementation."""

    def get(self) -> int:
        return 1


def get_store() -> SqlStore:
    """Its maker."""
    return SqlStore()


async def by_protocol(order: Order, store: Annotated[Store, Depends(get_store)]) -> None: ...
async def by_any(order: Order, store: Annotated[Any, Depends(get_store)]) -> None: ...


@pytest.mark.parametrize("handler", [by_protocol, by_any])
def test_a_dependency_may_be_declared_by_a_protocol_or_as_any(handler: Any) -> None:
    assert bind(handler, Order, "Queue 'work'").injects


def test_a_handler_of_a_narrower_type_than_the_union_is_refused() -> None:
    with pytest.raises(RegistrationError, match="the messages are"):
        bind(payload, Order | Refund, "Topic 'both'")


def test_another_typed_dict_is_refused() -> None:
    async def handle(table: Table) -> None: ...

    with pytest.raises(RegistrationError, match="parameter 'table' is Table, the messages are OtherTable"):
        bind(handle, OtherTable, "Queue 'tables'")


def test_an_annotation_may_name_a_payload_class_of_a_function() -> None:
    class Local(Order):
        """Made in a function: its name is found by the topic's type."""

    async def handle(order: Local) -> None: ...

    assert not bind(handle, Local, "Queue 'work'").wants_message


def delivered(body: bytes, **headers: str) -> Delivery:
    """A delivery with a body; header names are written with `_` for `-`."""
    return Delivery(body, SOURCE, {name.replace("_", "-"): value for name, value in headers.items()})


def test_a_body_is_decoded_by_its_type_where_it_says_one() -> None:
    decode = decoder("Topic 'both'", Order | Refund, Json())
    assert decode(delivered(b'{"order_id": "1"}', ce_type="Refund")) == Refund(order_id="1")
    assert decode(delivered(b'{"order_id": "1"}', ce_type="Order")) == Order(order_id="1")
    assert decode(delivered(b'{"order_id": "1", "amount": 5}')) == Refund(order_id="1", amount=5)


def test_a_foreign_message_with_no_header_is_decoded() -> None:
    assert decoder("Queue 'work'", Order, Json())(delivered(b'{"order_id": "1"}')) == Order(order_id="1")


def test_a_foreign_event_is_opened_by_its_content_type() -> None:
    body = b'{"specversion":"1.0","id":"7","data":{"order_id":"1"}}'
    event = delivered(body, content_type=STRUCTURED)
    assert decoder("Queue 'work'", Order, Json())(event) == Order(order_id="1")
    assert event.headers[h.ID] == "7"


@pytest.mark.parametrize(
    ("body", "kind", "texts"),
    [
        (b'{"order_id": 5}', "application/json", ["Queue 'work'", "order_id: Input should be a valid string"]),
        (b"{}", "application/json", ["Queue 'work'", "the body does not fit its type: order_id: Field required"]),
        (b"{", "application/json", ["Queue 'work'", "the body is no valid application/json: "]),
        (b"<order/>", "text/xml", ["Queue 'work'", "application/json", "(content-type 'text/xml')"]),
        (b"\xff", "application/json", ["Queue 'work'"]),
        (b'{"specversion":', STRUCTURED, ["not a structured CloudEvent"]),
    ],
)
def test_a_bad_body_is_a_decode_error_that_names_topic_and_field(body: bytes, kind: str, texts: list[str]) -> None:
    with pytest.raises(DecodeError) as bad:
        decoder("Queue 'work'", Order, Json())(delivered(body, content_type=kind))
    for text in texts:
        assert text in str(bad.value)


def test_the_error_does_not_show_the_data() -> None:
    with pytest.raises(DecodeError) as bad:
        decoder("Queue 'work'", Order, Json())(delivered(b'{"order_id": 4111111111111111}'))
    assert "4111111111111111" not in str(bad.value)


def test_a_body_over_the_codec_s_limit_is_refused_with_both_figures() -> None:
    with pytest.raises(DecodeError, match="Queue 'work': the body has 2,000 bytes, the codec allows 1,000"):
        decoder("Queue 'work'", Order, Json(max_bytes=1000))(delivered(b" " * 2000))


def test_text_that_is_none() -> None:
    with pytest.raises(DecodeError, match="text/plain"):
        decoder("Queue 'notes'", str, Json())(delivered(b"\xff"))
