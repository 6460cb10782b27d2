"""From a registration to what runs for a delivery: decode, choose, call the user's function."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

from msgbus import headers as h
from msgbus.codecs import Codec
from msgbus.envelope.foreign import EventBatch, open_foreign
from msgbus.errors import ConfigError, Reject
from msgbus.handlers.binding import Bound
from msgbus.handlers.context import CURRENT
from msgbus.handlers.decoding import Decode, decoder
from msgbus.handlers.middleware import Handle, HandleBatch, compose, compose_batch
from msgbus.handlers.registration import Registration
from msgbus.handlers.stats import Stats
from msgbus.message import Delivery, Message
from msgbus.options import Failed
from msgbus.topic import Queue, Rpc, Topic, field_getter, type_name

CallOf = Callable[[Bound], Callable[[Any], Awaitable[Any]]]
"""What calls a user's function with the one argument that it is given."""


def handler(members: Sequence[Registration], calls: CallOf, stats: Stats) -> Handle:
    """What runs for a delivery of a subscription: its one handler, or that of the delivery's type.

    What `select` or nobody asks for is counted as skipped.
    """
    return _filtered(members, _by_type(members, calls, stats), stats)


def _by_type(members: Sequence[Registration], calls: CallOf, stats: Stats) -> Handle:
    if len(members) == 1 and not _is_narrowed(members[0]):
        return _single(members[0], calls, stats)
    by_type = {type_name(m.target.type): _single(m, calls, stats) for m in members if isinstance(m.target, Topic)}

    open_ = _opening(members)

    async def handle(delivery: Delivery) -> None:
        try:
            open_(delivery)
        except EventBatch as batch:
            await _each(handle, batch)
            return
        chosen = by_type.get(delivery.headers.get(h.TYPE, ""))
        if chosen is None:  # another member of the union, that nobody in this group asked for
            stats.skip(delivery)
            return
        await chosen(delivery)

    return handle


def _opening(members: Sequence[Registration]) -> Callable[[Delivery], None]:
    """Opens a foreign event before it is decoded: it has its type and its other headers inside."""
    coders = [member.target.codec.bind(_type_of(member.target)) for member in members]
    ours, max_bytes = {coder.content_type for coder in coders}, max(coder.max_bytes for coder in coders)

    def open_(delivery: Delivery) -> None:
        if delivery.headers.get(h.CONTENT_TYPE) not in ours:
            open_foreign(delivery, max_bytes)

    return open_


async def _each(handle: Handle, batch: EventBatch) -> None:
    """The events of one message, in turn; the first that fails fails the message, and all come again with it."""
    for event in batch.events:
        CURRENT.set(event)
        await handle(event)


def _filtered(members: Sequence[Registration], handle: Handle, stats: Stats) -> Handle:
    first = members[0]
    where = [(name, tuple(values)) for name, values in (first.select.where or {}).items()]
    if not where:
        return handle
    if first.bound.wants_list:
        raise ConfigError(f"{first.target!r}: select.where can't be used with a batch handler")
    return _selecting(where, handle, stats, _opening(members))


def _selecting(
    where: Sequence[tuple[str, tuple[str, ...]]], handle: Handle, stats: Stats, open_: Callable[[Delivery], None]
) -> Handle:
    """What a broker without filters lets through is skipped here; costs nothing where nothing is filtered."""

    async def select(delivery: Delivery) -> None:
        try:
            open_(delivery)
        except EventBatch as batch:
            await _each(select, batch)
            return
        if all(delivery.headers.get(name) in values for name, values in where):
            await handle(delivery)
        else:
            stats.skip(delivery)

    return select


def _is_narrowed(registration: Registration) -> bool:
    return isinstance(registration.target, Topic) and registration.target.narrowed


def _single(registration: Registration, calls: CallOf, stats: Stats) -> Handle:
    """Its function with the middlewares that are its own; those of a call stand around its reply."""
    handle = _bare(registration, calls, stats)
    return handle if isinstance(registration.target, Rpc) else compose(registration.middlewares, handle)


def _bare(registration: Registration, calls: CallOf, stats: Stats) -> Handle:
    """Plain functions that return the user's coroutine: one coroutine less a message."""
    call, decode = _parts(registration, calls)
    if registration.select.fields:
        return _choosing(registration, call, decode, stats)
    each = _refuse if isinstance(registration.target, Rpc) else _each
    return (_messages if registration.bound.wants_message else _payloads)(call, decode, each)


_InTurn = Callable[[Handle, EventBatch], Awaitable[Any]]


def _refuse(_: Handle, batch: EventBatch) -> Awaitable[Any]:
    raise batch  # one request has one reply


def _messages(call: Callable[[Any], Awaitable[Any]], decode: Decode, each: _InTurn) -> Handle:
    def handle(delivery: Delivery) -> Awaitable[Any]:
        try:
            payload = decode(delivery)
        except EventBatch as batch:
            return each(handle, batch)
        return call(Message(payload, delivery))

    return handle


def _payloads(call: Callable[[Any], Awaitable[Any]], decode: Decode, each: _InTurn) -> Handle:
    def handle(delivery: Delivery) -> Awaitable[Any]:
        try:
            payload = decode(delivery)
        except EventBatch as batch:
            return each(handle, batch)
        return call(payload)

    return handle


def _choosing(
    registration: Registration, call: Callable[[Any], Awaitable[Any]], decode: Decode, stats: Stats
) -> Handle:
    chosen, wants_message = _chooser(registration), registration.bound.wants_message

    async def choose(delivery: Delivery) -> None:
        try:
            payload = decode(delivery)
        except EventBatch as batch:
            await _each(choose, batch)
            return
        if chosen(payload):
            await call(Message(payload, delivery) if wants_message else payload)
        else:
            stats.skip(delivery)

    return choose


def _chooser(registration: Registration) -> Callable[[Any], bool]:
    """Whether a payload has the values that `select.fields` lets through."""
    type_ = cast(Topic[Any], registration.target).type
    fields = registration.select.fields or {}
    wanted = [(field_getter(type_, name), _is_among(tuple(values))) for name, values in fields.items()]
    return lambda payload: all(is_among(get(payload)) for get, is_among in wanted)


def _is_among(values: tuple[object, ...]) -> Callable[[object], bool]:
    """As JSON has it: true is neither 1 nor 1.0, though Python's True is both."""
    if not any(value in (0, 1) for value in values):
        return values.__contains__
    flags = [value for value in values if isinstance(value, bool)]
    others = [value for value in values if not isinstance(value, bool)]
    return lambda value: value in (flags if isinstance(value, bool) else others)


def _parts(registration: Registration, calls: CallOf) -> tuple[Callable[[Any], Awaitable[Any]], Decode]:
    target = registration.target
    codec: Codec = target.codec
    return calls(registration.bound), decoder(repr(target), _type_of(target), codec)


def _type_of(target: Topic[Any] | Queue[Any] | Rpc[Any, Any]) -> Any:
    return target.request if isinstance(target, Rpc) else target.type


def batch_handler(registration: Registration, calls: CallOf, stats: Stats) -> HandleBatch:
    """What runs for a batch: an entry that can't be decoded, or that the handler says `Failed` of, fails alone."""
    call, decode = _parts(registration, calls)
    chosen = _chooser(registration) if registration.select.fields else None
    wants_message = registration.bound.wants_message

    async def handle(batch: Sequence[Delivery]) -> Sequence[Exception | None]:
        results: list[Exception | None] = [None] * len(batch)
        places: list[int] = []
        payloads: list[Any] = []
        for place, delivery in enumerate(batch):
            try:
                decoded = _decoded(delivery, decode)
            except Exception as error:  # this entry alone is bad
                results[place] = error
                continue
            for payload, part in decoded:
                if chosen is not None and not chosen(payload):
                    stats.skip(part)
                    continue
                places.append(place)
                payloads.append(Message(payload, part) if wants_message else payload)
        if payloads:
            for failed in await call(payloads) or ():
                results[places[_index(failed, len(payloads))]] = failed.error or Reject("the batch handler said Failed")
        return results

    return compose_batch(registration.middlewares, handle)


def _decoded(delivery: Delivery, decode: Decode) -> Sequence[tuple[Any, Delivery]]:
    """Its payload; several where it holds several events."""
    try:
        return ((decode(delivery), delivery),)
    except EventBatch as batch:
        return [(decode(event), event) for event in batch.events]


def _index(failed: Failed, count: int) -> int:
    if not 0 <= failed.index < count:
        raise IndexError(f"Failed({failed.index}): the batch has {count} entries")
    return failed.index
