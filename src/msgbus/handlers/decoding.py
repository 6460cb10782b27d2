"""From a delivery's bytes to the payload that its topic declares."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import ValidationError

from msgbus import headers as h
from msgbus.codecs import OCTETS, Codec, Coder
from msgbus.envelope.compression import COMPRESSION, CONTENT_ENCODING
from msgbus.envelope.foreign import BOM, open_foreign
from msgbus.errors import DecodeError, said
from msgbus.message import Delivery
from msgbus.topic import type_name, union_members

_SHOWN = 20  # errors of one body: there may be as many as it has bytes

Decode = Callable[[Delivery], Any]


def decoder(what: str, type_: Any, codec: Codec) -> Decode:
    """The function that turns a delivery into a payload of `type_`. It raises DecodeError naming topic and field."""
    members = union_members(type_)
    coders = {type_name(member): codec.bind(member) for member in members}
    whole = next(iter(coders.values())) if len(coders) == 1 else codec.bind(type_)
    if len(coders) == 1:
        return _single(what, whole)

    decoders = {name: _single(f"{what} ({name})", coder) for name, coder in coders.items()}
    any_of_them = _single(what, whole)

    def decode(delivery: Delivery) -> Any:
        return decoders.get(delivery.headers.get(h.TYPE, ""), any_of_them)(delivery)

    return decode


def _single(what: str, coder: Coder) -> Decode:
    from_bytes, errors, max_bytes, expected = coder.decode, coder.errors, coder.max_bytes, coder.content_type
    content_type, encoding, strict = h.CONTENT_TYPE, CONTENT_ENCODING, coder.strict

    def decode(delivery: Delivery) -> Any:
        headers = delivery.headers
        kind = headers.get(content_type)
        if kind != expected or (encoding in headers and (headers[encoding] != "binary" or COMPRESSION in headers)):
            open_foreign(delivery, max_bytes)
            if strict:
                _same_kind(what, expected, delivery.headers.get(content_type, expected))
        body = delivery.body
        if len(body) > max_bytes:
            raise DecodeError(f"{what}: the body has {len(body):,} bytes, the codec allows {max_bytes:,}")
        try:
            return from_bytes(body)
        except errors as error:
            if body.startswith(BOM) and not (strict or body.startswith(BOM, len(BOM))):  # one, and no more
                delivery.body = body.removeprefix(BOM)
                return decode(delivery)
            raise DecodeError(_explain(what, expected, kind or expected, error)) from error

    return decode


def _same_kind(what: str, expected: str, kind: str) -> None:
    """Some bytes of one format would be read as another without an error."""
    if kind.partition(";")[0].strip().lower() not in (expected, OCTETS):
        raise DecodeError(f"{what}: the body is {kind!a:.200}, and {expected} is expected")


def _explain(what: str, expected: str, kind: str, error: Exception) -> str:
    got = f" (content-type {kind!r})" if kind != expected else ""
    if isinstance(error, ValidationError):
        found = error.errors(include_url=False, include_input=False, include_context=False)
        fields = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'body'}: {e['msg']}" for e in found[:_SHOWN])
        more = f"; and {len(found) - _SHOWN:,} more" if len(found) > _SHOWN else ""
        if any(e["type"] == "json_invalid" for e in found):
            return f"{what}: the body is no valid {expected}{got}: {fields}{more}"
        return f"{what}: the body does not fit its type{got}: {fields}{more}"
    return f"{what}: the body is no valid {expected}{got}: {said(error)}"
