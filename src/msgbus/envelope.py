"""Fits a message to what a broker can carry, and opens what comes back. The only place that knows how.

Native headers where there are enough; one packed header where there are few; CloudEvents structured JSON
(https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md) where there are none;
base64 where bodies must be text.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pydantic_core

from msgbus import headers as h
from msgbus.broker import Capabilities
from msgbus.errors import ConfigError, DecodeError
from msgbus.message import Delivery, Outgoing

STRUCTURED = "application/cloudevents+json"

_PROMOTED = (h.CONTENT_TYPE, h.CORRELATION, h.REPLY_TO)  # native wherever any header is: foreign consumers read them
_ATTRIBUTES = {
    h.ID: "id",
    h.TYPE: "type",
    h.SOURCE: "source",
    h.TIME: "time",
    h.SPEC: "specversion",
    h.KEY: "partitionkey",
    h.CONTENT_TYPE: "datacontenttype",
    h.CORRELATION: "correlationid",
    h.CAUSATION: "causationid",
}
_HEADERS = {attribute: header for header, attribute in _ATTRIBUTES.items()}
_NO_CHARACTERS = b"\xef\xbf"  # how U+FFFE and U+FFFF begin, which XML, and so SQS, refuses
_REST = "msgbusheaders"  # extension attribute: the headers whose names CloudEvents does not allow, as JSON

Fit = Callable[[Outgoing], None]
Open = Callable[[Delivery], None]


def fitter(what: str, capabilities: Capabilities, filter_on: Sequence[str] = ()) -> Fit | None:
    """The function that fits one message in place; None where there is nothing to do.

    Raises ConfigError where `filter_on` names more headers than the broker has room for.
    """
    steps: list[Fit] = []
    limit = capabilities.headers
    if not capabilities.binary and limit != 0:
        steps.append(_to_text)
    if limit == 0:
        if filter_on:
            raise ConfigError(f"{what}: filter_on={list(filter_on)} needs headers, and this broker has none")
        steps.append(structure)
    elif limit is not None:
        room = limit - len(_PROMOTED) - 1
        if len(filter_on) > room:
            raise ConfigError(f"{what}: filter_on names {len(filter_on)} headers, this broker has room for {room}")
        steps.append(_packer(frozenset((*_PROMOTED, *filter_on))))
    return _in_turn(steps) if len(steps) > 1 else steps[0] if steps else None


def _in_turn(steps: Sequence[Fit]) -> Fit:
    def fit(out: Outgoing) -> None:
        for step in steps:
            step(out)

    return fit


def opener(capabilities: Capabilities) -> Open | None:
    """The function that opens one delivery in place, before its handler; None where headers and bodies are native.

    Structured CloudEvents of foreign producers are opened on every broker, by their content type.
    It raises DecodeError where the envelope is damaged.
    """
    if capabilities.headers is None and capabilities.binary:
        return None
    return open_delivery


def open_delivery(delivery: Delivery) -> None:
    """Undo every step that `fitter` may have taken; a message without our headers is left as it is.

    Opening twice changes nothing: a delivery may be tried again in hand.
    """
    if h.PACKED in delivery.headers:
        delivery.headers = _unpack(delivery.headers)
    if delivery.headers.get(h.CONTENT_TYPE, "").startswith(STRUCTURED):
        delivery.headers, delivery.body = unstructure(delivery.headers, delivery.body)
    elif _looks_structured(delivery):
        with contextlib.suppress(DecodeError):  # then it only looked like it
            delivery.headers, delivery.body = unstructure(delivery.headers, delivery.body)
    if delivery.headers.get(h.ENCODING) == "base64":
        delivery.body = _from_base64(delivery.body)
        delivery.headers = {name: value for name, value in delivery.headers.items() if name != h.ENCODING}


def _to_text(out: Outgoing) -> None:
    kind = out.headers.get(h.CONTENT_TYPE, "")
    if "json" in kind and (_NO_CHARACTERS not in out.body or _is_plain(out.body)):  # JSON has no control characters
        return
    if kind.startswith("text/") and _is_plain(out.body):
        return
    out.body = base64.b64encode(out.body)
    out.headers[h.ENCODING] = "base64"


def _is_plain(body: bytes) -> bool:
    """UTF-8 without the control characters that XML, and so SQS, refuses."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return False
    return bool(text) and all(c >= " " or c in "\t\n\r" for c in text) and "\ufffe" not in text and "\uffff" not in text


def _from_base64(body: bytes) -> bytes:
    try:
        return base64.b64decode(body, validate=True)
    except binascii.Error as error:
        raise DecodeError(f"header {h.ENCODING} says base64, the body is not: {error}") from error


def _packer(native: frozenset[str]) -> Fit:
    def pack(out: Outgoing) -> None:
        kept: dict[str, str] = {}
        packed: dict[str, str] = {}
        for name, value in out.headers.items():
            (kept if name in native else packed)[name] = value
        kept[h.PACKED] = json.dumps(packed, separators=(",", ":"))
        out.headers = kept

    return pack


def _unpack(headers: Mapping[str, str]) -> dict[str, str]:
    try:
        packed = json.loads(headers[h.PACKED])
        opened = {str(name): str(value) for name, value in packed.items()}
    except (ValueError, AttributeError, RecursionError) as error:
        raise DecodeError(f"header {h.PACKED} is no JSON object: {error}") from error
    opened.update((name, value) for name, value in headers.items() if name != h.PACKED)
    return opened


def structure(out: Outgoing) -> None:
    """Put headers and body into one CloudEvents JSON object. JSON data is inlined as it is, byte for byte."""
    event = {"specversion": "1.0"}  # first: an envelope without headers is known by how it begins
    event |= {_ATTRIBUTES[name]: value for name, value in out.headers.items() if name in _ATTRIBUTES}
    if rest := {name: value for name, value in out.headers.items() if name not in _ATTRIBUTES}:
        event[_REST] = json.dumps(rest, separators=(",", ":"))
    head = json.dumps(event, separators=(",", ":")).encode()[:-1]
    kind = out.headers.get(h.CONTENT_TYPE, "")
    if "json" in kind and _is_json(out.body):
        data = b',"data":' + out.body
    elif kind.startswith("text/") and _is_plain(out.body):
        data = b',"data":' + json.dumps(out.body.decode()).encode()
    else:
        data = b',"data_base64":"' + base64.b64encode(out.body) + b'"'
    out.body = head + data + b"}"
    out.headers = {h.CONTENT_TYPE: STRUCTURED}


def _is_json(body: bytes) -> bool:
    """Whether it can be inlined: a `bytes` payload may only claim to be JSON."""
    try:
        pydantic_core.from_json(body)
        body.decode()
    except ValueError:
        return False
    return True


def _looks_structured(delivery: Delivery) -> bool:
    """Where there are no headers at all, our envelope is known by its first bytes."""
    return not delivery.headers and delivery.body.startswith(b'{"specversion":"1.0"')


def unstructure(headers: Mapping[str, str], body: bytes) -> tuple[dict[str, str], bytes]:
    """Headers and body of a structured CloudEvent; native headers win. Raises DecodeError."""
    try:
        members = _members(body.decode())
        opened = {name: value for name, value in headers.items() if name != h.CONTENT_TYPE}
        data = _data(members)
        for attribute, (value, _) in members.items():
            if attribute == _REST:
                opened |= {str(name): str(header) for name, header in json.loads(value).items()}
            elif attribute not in ("data", "data_base64") and value is not None:
                opened.setdefault(_HEADERS.get(attribute, f"ce-{attribute}"), _text(value))
    except (ValueError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise DecodeError(f"not a structured CloudEvent: {error}") from error
    return opened, data


def _data(members: Mapping[str, tuple[Any, str]]) -> bytes:
    if "data_base64" in members:
        return base64.b64decode(members["data_base64"][0], validate=True)
    value, raw = members.get("data", (None, ""))
    is_json = "json" in (members.get("datacontenttype", ("json", ""))[0] or "json")
    return value.encode() if isinstance(value, str) and not is_json else raw.encode()


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _members(text: str) -> dict[str, tuple[Any, str]]:
    """The members of a JSON object: each value parsed, and as it was written (a number keeps its digits)."""
    decoder = json.JSONDecoder()
    members: dict[str, tuple[Any, str]] = {}
    at = _expect(text, 0, "{")
    while text[at] != "}":
        if members:
            at = _expect(text, at, ",")
        name, at = decoder.raw_decode(text, at)
        start = _expect(text, at, ":")
        value, end = decoder.raw_decode(text, start)
        members[str(name)] = (value, text[start:end])
        at = _skip(text, end)
    if text[at + 1 :].strip():
        raise ValueError("text after the object")
    return members


def _expect(text: str, at: int, char: str) -> int:
    at = _skip(text, at)
    if text[at] != char:
        raise ValueError(f"expected {char!r} at {at}")
    return _skip(text, at + 1)


def _skip(text: str, at: int) -> int:
    while text[at] in " \t\r\n":
        at += 1
    return at
