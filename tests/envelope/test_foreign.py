"""What others write: events in any JSON, several in one message, compressed bodies, a mark before JSON."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from msgbus import DecodeError
from msgbus import headers as h
from msgbus.envelope.foreign import EventBatch, open_foreign
from msgbus.message import Delivery, Source

SOURCE = Source("queue", "work")
EVENT: dict[str, Any] = {"id": "7", "source": "/shop", "type": "OrderPlaced", "specversion": "1.0"}
LIMIT = 10_000


def opened(body: bytes, **headers: str) -> Delivery:
    """Header names are written with `_` for `-`."""
    delivery = Delivery(body, SOURCE, {name.replace("_", "-"): value for name, value in headers.items()})
    open_foreign(delivery, LIMIT)
    return delivery


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_an_event_without_a_content_type_is_known_in_any_order_and_spacing(
    indent: int | None, first: bool, mark: bytes
) -> None:
    event = {"data": {"a": 1}, **EVENT} if first else {**EVENT, "data": {"a": 1}}
    delivery = opened(mark + json.dumps(event, indent=indent).encode())
    assert json.loads(delivery.body) == {"a": 1}
    assert delivery.headers == {h.ID: "7", h.SOURCE: "/shop", h.TYPE: "OrderPlaced", h.SPEC: "1.0"}


def test_what_the_event_says_wins_over_what_the_broker_knows() -> None:
    body = json.dumps({**EVENT, "partitionkey": "k", "time": "2020-01-01T00:00:00Z"}).encode()
    delivery = Delivery(body, SOURCE, {h.KEY: "hash", h.ID: "native", "beside": "it"})
    open_foreign(delivery, LIMIT)
    assert (delivery.headers[h.KEY], delivery.headers[h.ID], delivery.headers["beside"]) == ("k", "7", "it")


@pytest.mark.parametrize("missing", sorted(EVENT))
def test_an_object_that_lacks_an_attribute_is_no_event(missing: str) -> None:
    body = json.dumps({**{n: v for n, v in EVENT.items() if n != missing}, "data": {missing: "x"}}).encode()
    delivery = opened(body)
    assert (delivery.body, delivery.headers) == (body, {})


@pytest.mark.parametrize("odd", [5, None, [], {}])
def test_an_object_whose_attribute_is_no_text_is_no_event(odd: object) -> None:
    body = json.dumps({**EVENT, "id": odd}).encode()
    assert opened(body).body == body


def test_what_says_that_it_is_json_is_left_as_it_is() -> None:
    body = json.dumps(EVENT).encode()
    assert opened(body, content_type="application/json").body == body


@pytest.mark.parametrize("kind", ["Application/CloudEvents+JSON", " application/cloudevents+json; charset=UTF-8"])
def test_the_content_type_is_known_without_regard_to_case(kind: str) -> None:
    assert opened(json.dumps({**EVENT, "data": 5}).encode(), content_type=kind).body == b"5"


def test_another_format_of_events_is_named() -> None:
    with pytest.raises(DecodeError, match=r"cloudevents\+protobuf"):
        opened(b"\x0a", content_type="application/cloudevents+protobuf")


@pytest.mark.parametrize("headers", [{"content_type": "application/cloudevents-batch+json"}, {}])
def test_a_batch_is_handed_out_event_by_event(headers: dict[str, str]) -> None:
    numbers = ["1.10", "1e400", "[]"]
    texts = [f'{json.dumps({**EVENT, "id": str(i)})[:-1]}, "data": {data}}}' for i, data in enumerate(numbers)]
    with pytest.raises(EventBatch) as batch:
        opened(f"[ {' , '.join(texts)} ]".encode(), tenant="t", **headers)
    assert [event.body.decode() for event in batch.value.events] == numbers
    assert [event.headers[h.ID] for event in batch.value.events] == ["0", "1", "2"]
    assert all(event.headers["tenant"] == "t" for event in batch.value.events)
    assert all(h.CONTENT_TYPE not in event.headers for event in batch.value.events)


@pytest.mark.parametrize("body", [b"", b"[", b"{}", b"[1]", b"[{}]", b"[" * 100_000, b"[] x", b"\xff"])
def test_a_damaged_batch_is_a_decode_error(body: bytes) -> None:
    with pytest.raises(DecodeError) as error:
        opened(body, content_type="application/cloudevents-batch+json")
    assert not isinstance(error.value, EventBatch)


def test_an_array_that_merely_contains_an_event_is_left_as_it_is() -> None:
    body = json.dumps([EVENT, 5]).encode()
    assert opened(body).body == body


# -- compression


def _raw_deflate(body: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return compressor.compress(body) + compressor.flush()


CODINGS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "GZip": gzip.compress,
    "deflate": zlib.compress,
    " deflate ": _raw_deflate,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "gzip, identity": gzip.compress,
    "deflate, gzip": lambda body: gzip.compress(zlib.compress(body)),
}


@pytest.mark.parametrize("coding", sorted(CODINGS))
@pytest.mark.parametrize("body", [b"", b"{}", b"x" * LIMIT])
def test_a_content_encoding_is_undone(coding: str, body: bytes) -> None:
    delivery = opened(CODINGS[coding](body), content_encoding=coding, content_type="text/plain")
    assert (delivery.body, delivery.headers) == (body, {h.CONTENT_TYPE: "text/plain"})


@pytest.mark.parametrize("kombu", ["application/x-gzip", "application/x-bz2"])
def test_kombu_s_header_is_understood(kombu: str) -> None:
    compress = zlib.compress if "gzip" in kombu else bz2.compress
    delivery = opened(compress(b"{}"), compression=kombu, content_encoding="utf-8")
    assert (delivery.body, delivery.headers) == (b"{}", {})


@pytest.mark.parametrize("charset", ["utf-8", "UTF-8", "binary", "identity", ""])
def test_a_character_set_is_no_compression(charset: str) -> None:
    assert opened(b"{}", content_encoding=charset).body == b"{}"


def test_an_event_may_be_compressed_as_a_whole() -> None:
    body = gzip.compress(json.dumps({**EVENT, "data": 5}).encode())
    assert opened(body, content_encoding="gzip").body == b"5"


def test_gzip_s_further_members_are_read() -> None:
    assert opened(gzip.compress(b"a") + gzip.compress(b"b"), content_encoding="gzip").body == b"ab"


BAD: dict[str, tuple[bytes, str, list[str]]] = {
    "brotli": (b"x", "br", ["'br'", "not known", "gzip"]),
    "chunks": (b"x", "aws-chunked", ["aws-chunked"]),
    "no gzip": (b"no gzip", "gzip", ["gzip", "is not"]),
    "cut": (gzip.compress(b"{}")[:-9], "gzip", ["too early"]),
    "with more": (gzip.compress(b"{}") + b"more", "gzip", ["is not"]),
    "a thousand members": (gzip.compress(b"") * 1000, "gzip", ["too many parts"]),
    "a byte too large": (gzip.compress(bytes(LIMIT + 1)), "gzip", ["10,000 bytes"]),
    "a bomb": (gzip.compress(bytes(50_000_000)), "gzip", ["10,000 bytes"]),
    "bzip2 cut": (bz2.compress(b"{}")[:-1], "bzip2", ["too early"]),
    "six codings": (b"x", ",".join(["gzip"] * 6), ["6 content codings"]),
    "xz cut": (b"\xfd7zXZ\x00", "xz", ["xz"]),
}


@pytest.mark.parametrize("name", sorted(BAD))
def test_what_can_t_be_undone_is_a_decode_error_that_says_why(name: str) -> None:
    body, coding, texts = BAD[name]
    with pytest.raises(DecodeError) as error:
        opened(body, content_encoding=coding)
    for text in texts:
        assert text in str(error.value)
