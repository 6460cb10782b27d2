"""The envelope: what msgbus and others put around a body; and the body as JSON."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import zlib
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any

from pydantic import BaseModel
from tests.fuzz.target import Target, check_delivery, each

from msgbus import headers as h
from msgbus.codecs.json import Json
from msgbus.envelope.foreign import EventBatch, open_foreign
from msgbus.envelope.opening import open_delivery
from msgbus.handlers.decoding import decoder
from msgbus.message import Delivery, Source

_LIMIT = 64 * 1024
_MEMORY = 160 << 20  # an xz stream may ask for 128 MiB
_SOURCE = Source("queue", "orders")
_EVENT = {"specversion": "1.0", "id": "a", "source": "s", "type": "Order", "time": "2026-11-24T09:30:00Z"}
_OURS = json.dumps(_EVENT, separators=(",", ":")).encode()[:-1]
_EVENTS = [
    *(_OURS + b',"msgbussize":7,"data":{"n":1}}', _OURS + b',"data":[1,2]}', _OURS + b',"data_base64":"AAEC"}'),
    *(
        _OURS + b',"datacontenttype":"text/plain","data":"x"}',
        _OURS + b',"n":5,"ok":true,"msgbusheaders":"{\\"a\\":\\"b\\"}"}',
    ),
    json.dumps({"data": {"n": 1.50}, **_EVENT}, indent=2).encode(),
    json.dumps([{**_EVENT, "data": n} for n in range(3)]).encode(),
]
_KINDS = (
    "application/cloudevents+json",
    "application/cloudevents-batch+json",
    "application/json",
    "application/cloudevents",
)


class Line(BaseModel):
    """A part of a payload."""

    sku: str
    price: float = 0.0
    tags: list[str] = []


class Order(BaseModel):
    """A payload."""

    n: int
    lines: list[Line] = []
    more: dict[str, Any] = {}


_decode_order = decoder("orders", Order, Json())
_decode_any = decoder("orders", Any, Json())


def _open(data: bytes, kind: str | None, more: dict[str, str]) -> None:
    delivery = Delivery(data, _SOURCE, {**more, **({h.CONTENT_TYPE: kind} if kind else {})})
    open_delivery(delivery)
    check_delivery(delivery)
    try:
        open_foreign(delivery, _LIMIT)
    except EventBatch as batch:
        for event in batch.events:
            check_delivery(event)
    check_delivery(delivery)
    h.has_expired(delivery.headers, 0.0)
    h.number_of(delivery.headers, h.SENT)


def _events(data: bytes) -> None:
    each(*(partial(_open, data, kind, {}) for kind in (None, *_KINDS)))


def _packed(data: bytes) -> None:
    """The header with all other headers, and others that are no plain text; a body as text."""
    text = data.decode("utf-8", "replace")
    times = {h.EXPIRES: text, h.SENT: text, h.ATTEMPT: text}
    encoded = partial(_open, data, None, {h.ENCODING: "base64"})
    each(partial(_open, b"AAEC", None, {h.PACKED: text}), partial(_open, b"{}", None, times), encoded)


def _make_event(random: Random) -> bytes:
    """JSON with members of the wrong types, in any order."""
    odd: tuple[Any, ...] = (
        None,
        5,
        True,
        [],
        {},
        "text",
        1e300,
        "\ud800",
        {"a": "b"},
        "AAEC",
        '{"a":1}',
        '{"a":[]}',
        "application/json",
    )
    names = [*_EVENT, "data", "data_base64", "datacontenttype", "msgbusheaders", "msgbussize", "expirytime", "a b", ""]
    event: dict[str, Any] = dict(_EVENT)
    for name in random.choices(names, k=random.randint(1, 4)):
        event[name] = random.choice(odd)
    text = json.dumps(
        event if random.random() < 0.8 else [event, _EVENT], separators=random.choice(((",", ":"), (", ", ": ")))
    )
    return text.encode()


_CODINGS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
}


def _compressed(coding: str) -> Target:
    """Each seed is a body, and a bomb."""
    compress = _CODINGS[coding]

    def run(data: bytes) -> None:
        delivery = Delivery(data, _SOURCE, {"content-encoding": f"utf-8, {coding}"})
        open_foreign(delivery, _LIMIT)
        assert len(delivery.body) <= _LIMIT

    seeds = [compress(b"{}"), compress(b"x" * 10_000), compress(b"a") * 5, compress(bytes(10_000_000))]
    return Target(name=f"envelope-{coding}", run=run, seeds=seeds, room=_MEMORY if coding == "xz" else 8 << 20)


def _json(data: bytes) -> None:
    deliveries = [Delivery(data, _SOURCE, {h.CONTENT_TYPE: "application/json"}) for _ in range(2)]
    each(partial(_decode_order, deliveries[0]), partial(_decode_any, deliveries[1]))


def _make_json(random: Random) -> bytes:
    values = (b"1e999", b"-0", b"NaN", b"9" * 250, b"5", b'"\\ud800"', b"[[]]", b"null", b'{"sku":1}', b'[{"sku":"a"}]')
    names = (b"n", b"lines", b"more", b"x")
    return b"{" + b",".join(b'"%b":%b' % (random.choice(names), random.choice(values)) for _ in range(4)) + b"}"


def _times(part: bytes) -> Callable[[int], bytes]:
    return lambda size: part * (size // len(part))


TARGETS = (
    Target(
        name="envelope-events",
        run=_events,
        seeds=_EVENTS,
        make=_make_event,
        grow=(
            lambda size: b"[" + b",".join([_OURS + b"}"] * (size // len(_OURS))) + b"]",
            lambda size: _OURS + b',"data":' + b"[" * (size // 2) + b"]" * (size // 2) + b"}",
            lambda size: _OURS + b'"data":1,' * (size // 9) + b"}",
        ),
    ),
    Target(
        name="envelope-packed",
        run=_packed,
        seeds=[b'{"a":"b","n":5}', b"AAEC", b"2026-11-24T09:30:00.125Z", b"1764000000.5", b"0001-01-01T00:00:00+14:00"],
    ),
    *map(_compressed, _CODINGS),
    Target(
        name="json",
        run=_json,
        seeds=[b'{"n":1,"lines":[{"sku":"a","price":1.5,"tags":["x"]}],"more":{"a":[1e5]}}', b"[]", b"null", b'"text"'],
        make=_make_json,
        grow=(_times(b"["), _times(b'{"a":'), _times(b"e+000"), _times(b"1"), _times(b'"'), _times(b'\\"')),
        room=8 << 20,
    ),
)
