"""CloudEvents structured JSON: headers and body in one object, and back.

https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from typing import Any

import pydantic_core

from msgbus import headers as h
from msgbus.envelope.text import are_text, is_json, is_plain
from msgbus.errors import DecodeError
from msgbus.message import Outgoing

STRUCTURED = "application/cloudevents+json"

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
_OURS = "msgbus-"
_REST = "msgbusheaders"  # extension attribute: the headers whose names CloudEvents does not allow, as JSON

_SIZE = b',"msgbussize":'  # extension attribute: the bytes of the JSON data, which is the last member then
_DATA = b',"data":'
_REQUIRED = ("specversion", "id", "source", "type")
_NO_HEADERS = ("data", "data_base64", "msgbussize")
_BEGINNINGS = b"{", b"["  # of data that can't be taken for text


def structure(out: Outgoing) -> None:
    """Put headers and body into one CloudEvents JSON object. JSON data is inlined as it is, byte for byte."""
    if _says_json(out) and is_json(out.body):
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
    if out.headers.get(h.CONTENT_TYPE, "").startswith("text/") and is_plain(out.body):
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


def unstructure(headers: Mapping[str, str], body: bytes) -> tuple[dict[str, str], bytes]:
    """Headers and body of a structured CloudEvent. Raises DecodeError.

    What the event says wins over native headers, which may be what its broker made up; of what msgbus writes (attempts,
    failures) the native ones are newer.
    """
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


def event(body: bytes) -> tuple[dict[str, str], bytes] | None:
    """Headers and data of a JSON object that has all that an event must have; None where it is none."""
    try:
        members = _members(body.decode())
        if not all(isinstance(members[name][0], str) for name in _REQUIRED):
            return None
        return _as_headers({}, {name: value for name, (value, _) in members.items()}), _data(members)
    except (ValueError, TypeError, AttributeError, LookupError, RecursionError):
        return None


def elements(body: bytes) -> Iterator[bytes]:
    """Those of a JSON array, as they were written. Raises DecodeError where it is none."""
    decoder = json.JSONDecoder()
    try:
        text = body.decode()
        at, closing = _expect(text, 0, "["), "]"
        while text[at] != closing:
            _, end = decoder.raw_decode(text, at)
            yield text[at:end].encode()
            at = _skip(text, end)
            if text[at] != closing:
                at = _expect(text, at, ",")
        if text[at + 1 :].strip():
            raise ValueError("text after the array")
    except (ValueError, LookupError, RecursionError) as error:
        raise DecodeError(f"not a batch of CloudEvents: {error}") from error


def _as_headers(headers: Mapping[str, str], attributes: Mapping[str, Any]) -> dict[str, str]:
    try:
        opened: dict[str, str] = {_HEADERS[name]: value for name, value in attributes.items()}
    except KeyError:
        opened = _as_headers_carefully(attributes)
    else:
        if not are_text(opened.values()):
            opened = _as_headers_carefully(attributes)
    for header, text in headers.items():
        if (header not in opened and header != h.CONTENT_TYPE) or header.startswith(_OURS):
            opened[header] = text
    return opened


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
        if size != len(data) and not (data[:1] in _BEGINNINGS and is_json(data)):
            return None
    except (ValueError, AttributeError, TypeError):
        return None
    return attributes, data


def _data(members: Mapping[str, tuple[Any, str]]) -> bytes:
    if "data_base64" in members:
        return base64.b64decode(members["data_base64"][0], validate=True)
    value, raw = members.get("data", (None, ""))
    says_json = "json" in (members.get("datacontenttype", ("json", ""))[0] or "json")
    return value.encode() if isinstance(value, str) and not says_json else raw.encode()


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
