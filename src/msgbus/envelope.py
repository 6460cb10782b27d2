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
from collections.abc import Callable, Iterable, Mapping, Sequence
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

_SIZE = b',"msgbussize":'  # extension attribute: the bytes of the JSON data, which is the last member then
_DATA = b',"data":'
_NO_HEADERS = ("data", "data_base64", "msgbussize")
_BEGINNINGS = b"{", b"["  # of data that can't be taken for text

Fit = Callable[[Outgoing], None]
Open = Callable[[Delivery], None]


def fitter(
    what: str, capabilities: Capabilities, filter_on: Sequence[str] = (), *, valid_json: bool = False
) -> Fit | None:
    """The function that fits one message in place; None where there is nothing to do.

    `valid_json`: bodies that say they are JSON surely are; others are looked at.
    Raises ConfigError where `filter_on` names more headers than the broker has room for.
    """
    steps: list[Fit] = []
    limit = capabilities.headers
    if not capabilities.binary and limit != 0:
        steps.append(_to_text)
    if limit == 0:
        if filter_on:
            raise ConfigError(f"{what}: filter_on={list(filter_on)} needs headers, and this broker has none")
        steps.append(structure_valid if valid_json else structure)
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
    headers = delivery.headers
    if not headers:
        _open_what_looks_structured(delivery)
    else:
        if h.PACKED in headers:
            headers = delivery.headers = _unpack(headers)
        if headers.get(h.CONTENT_TYPE, "").startswith(STRUCTURED):
            delivery.headers, delivery.body = unstructure(headers, delivery.body)
    if delivery.headers.get(h.ENCODING) == "base64":
        delivery.body = _from_base64(delivery.body)
        delivery.headers = {name: value for name, value in delivery.headers.items() if name != h.ENCODING}


def _open_what_looks_structured(delivery: Delivery) -> None:
    """Where there are no headers at all, our envelope is known by its first bytes."""
    if delivery.body.startswith(b'{"specversion":"1.0"'):
        try:
            delivery.headers, delivery.body = unstructure({}, delivery.body)
        except DecodeError:
            return  # then it only looked like it


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
        packed = dict(out.headers)
        kept = {name: packed.pop(name) for name in native if name in packed}
        kept[h.PACKED] = _to_ascii(packed)
        out.headers = kept

    return pack


def _to_ascii(packed: dict[str, str]) -> str:
    """JSON in ASCII, which every broker takes. The quick writer leaves other characters as they are."""
    with contextlib.suppress(ValueError):  # half a surrogate pair
        text = pydantic_core.to_json(packed)
        if text.isascii():
            return text.decode()
    return json.dumps(packed, separators=(",", ":"))


def _unpack(headers: Mapping[str, str]) -> dict[str, str]:
    try:
        opened: dict[str, str] = _from_json(headers[h.PACKED])
        if not _is_text(opened.values()):
            opened = {name: str(value) for name, value in opened.items()}
    except (ValueError, AttributeError, RecursionError) as error:
        raise DecodeError(f"header {h.PACKED} is no JSON object: {error}") from error
    opened.update(headers)
    del opened[h.PACKED]
    return opened


def _from_json(text: str) -> Any:
    try:
        return pydantic_core.from_json(text)
    except ValueError:
        return json.loads(text)  # which takes half a surrogate pair too


def structure(out: Outgoing) -> None:
    """Put headers and body into one CloudEvents JSON object. JSON data is inlined as it is, byte for byte."""
    if _says_json(out) and _is_json(out.body):
        _inline(out)
    else:
        _quote(out)


def structure_valid(out: Outgoing) -> None:
    """The same where what says it is JSON needs no look."""
    if _says_json(out):
        _inline(out)
    else:
        _quote(out)


def _says_json(out: Outgoing) -> bool:
    return "json" in out.headers.get(h.CONTENT_TYPE, "")


def _inline(out: Outgoing) -> None:
    """Its size says where the data ends, so that readers need not look for that."""
    _put(out, b'%b%d,"data":%b' % (_SIZE, len(out.body), out.body))


def _quote(out: Outgoing) -> None:
    if out.headers.get(h.CONTENT_TYPE, "").startswith("text/") and _is_plain(out.body):
        _put(out, b',"data":' + json.dumps(out.body.decode()).encode())
    else:
        _put(out, b',"data_base64":"' + base64.b64encode(out.body) + b'"')


def _put(out: Outgoing, data: bytes) -> None:
    out.body = b"%b%b}" % (_attributes(out.headers)[:-1], data)
    out.headers = {h.CONTENT_TYPE: STRUCTURED}


def _attributes(headers: Mapping[str, str]) -> bytes:
    """A JSON object that begins with the version: an envelope without headers is known by how it begins."""
    try:
        event = {"specversion": "1.0"} | {_ATTRIBUTES[name]: value for name, value in headers.items()}
    except KeyError:
        event = {"specversion": "1.0"} | {_ATTRIBUTES[n]: value for n, value in headers.items() if n in _ATTRIBUTES}
        rest = {name: value for name, value in headers.items() if name not in _ATTRIBUTES}
        event[_REST] = json.dumps(rest, separators=(",", ":"))
    try:
        return pydantic_core.to_json(event)
    except ValueError:  # a lone surrogate, which JSON can only carry escaped
        return json.dumps(event, separators=(",", ":")).encode()


def _is_json(body: bytes) -> bool:
    """Whether it can be inlined: a `bytes` payload may only claim to be JSON."""
    try:
        pydantic_core.from_json(body)
        body.decode()
    except ValueError:
        return False
    return True


def unstructure(headers: Mapping[str, str], body: bytes) -> tuple[dict[str, str], bytes]:
    """Headers and body of a structured CloudEvent; native headers win. Raises DecodeError."""
    split = _split(body)
    if split is None:
        return unstructure_carefully(headers, body)
    try:
        return _as_headers(headers, split[0]), split[1]
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise DecodeError(f"not a structured CloudEvent: {error}") from error


def unstructure_carefully(headers: Mapping[str, str], body: bytes) -> tuple[dict[str, str], bytes]:
    """The same for any order of members, any spaces and any kind of data."""
    try:
        members = _members(body.decode())
        data = _data(members)
        return _as_headers(headers, {name: value for name, (value, _) in members.items()}), data
    except (ValueError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise DecodeError(f"not a structured CloudEvent: {error}") from error


def _as_headers(headers: Mapping[str, str], attributes: Mapping[str, Any]) -> dict[str, str]:
    try:
        opened: dict[str, str] = {_HEADERS[name]: value for name, value in attributes.items()}
    except KeyError:
        opened = _as_headers_carefully(attributes)
    else:
        if not _is_text(opened.values()):
            opened = _as_headers_carefully(attributes)
    for header, text in headers.items():
        if header != h.CONTENT_TYPE:
            opened[header] = text
    return opened


def _is_text(values: Iterable[object]) -> bool:
    """Whether each is a str; to join them is the quickest way to ask."""
    try:
        "".join(values)  # type: ignore[arg-type]
    except TypeError:
        return False
    return True


def _as_headers_carefully(attributes: Mapping[str, Any]) -> dict[str, str]:
    opened: dict[str, str] = {}
    for attribute, value in attributes.items():
        name = _HEADERS.get(attribute)
        if name is not None and value.__class__ is str:
            opened[name] = value
        elif attribute == _REST:
            opened |= {str(header): str(text) for header, text in json.loads(value).items()}
        elif attribute not in _NO_HEADERS and value is not None:
            opened[name or f"ce-{attribute}"] = _text(value)
    return opened


def _split(body: bytes) -> tuple[dict[str, Any], bytes] | None:
    """Attributes and JSON data where "data" is the last member, as `structure` writes it: by far the usual case.

    Outside of strings a quote has no backslash before it, so the first `,"data":` is a member's name; what is before
    it, closed, must be an object, and what follows up to the last brace one value: of the size that was said, or it
    must be looked at.
    """
    at, size = body.find(_SIZE), -1
    data_at = body.find(_DATA, max(at, 0))
    if data_at < 0 or body[-1:] != b"}":
        return None
    data = body[data_at + len(_DATA) : -1]
    try:
        if at >= 0:
            size = int(body[at + len(_SIZE) : data_at])
        attributes = pydantic_core.from_json(body[: at if at >= 0 else data_at] + b"}")
        if "json" not in attributes.get("datacontenttype", "json"):
            return None
        if size != len(data) and not (data[:1] in _BEGINNINGS and _is_json(data)):
            return None
    except (ValueError, AttributeError, TypeError):
        return None
    return attributes, data


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
