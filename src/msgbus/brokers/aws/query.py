"""The AWS query protocol, as SNS speaks it: form-encoded requests, XML answers. Sans-IO.

Source: "AWS Query protocol" of the Smithy 2.0 specification (member.N for lists, entry.N for maps).
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator, Mapping
from typing import Any
from xml.parsers import expat

_SAFE = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~"
_ESCAPED = [b"%%%02X" % byte for byte in range(256)]
_BYTES = [bytes([byte]) for byte in range(256)]
_PERCENT = 0x25
_MAPS = frozenset({"MessageAttributes"})


def quote(text: bytes) -> bytes:
    """Percent-encode. One replace for each distinct byte is many times faster than going byte by byte."""
    unsafe = set(text.translate(None, _SAFE))
    if _PERCENT in unsafe:  # first, or it would escape the escapes
        text = text.replace(b"%", b"%25")
        unsafe.remove(_PERCENT)
    for byte in unsafe:
        text = text.replace(_BYTES[byte], _ESCAPED[byte])
    return text


def encode_form(action: str, version: str, params: Mapping[str, Any]) -> bytes:
    """The body of a request. Values: str, bytes (sent as base64), bool, numbers; lists and maps of them."""
    pairs = [f"Action={action}&Version={version}".encode()]
    for name, value in params.items():
        pairs.extend(b"%b=%b" % pair for pair in _flatten(name, name, value))
    return b"&".join(pairs)


def _flatten(path: str, name: str, value: Any) -> Iterator[tuple[bytes, bytes]]:
    if isinstance(value, Mapping):
        if name in _MAPS:
            for index, (key, item) in enumerate(value.items(), 1):
                yield from _flatten(f"{path}.entry.{index}.Name", "Name", key)
                yield from _flatten(f"{path}.entry.{index}.Value", "Value", item)
        else:
            for key, item in value.items():
                yield from _flatten(f"{path}.{key}", key, item)
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value, 1):
            yield from _flatten(f"{path}.member.{index}", "member", item)
    else:
        yield path.encode(), quote(_scalar(value))


def _scalar(value: object) -> bytes:
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, (bytes, bytearray, memoryview)):
        return b64encode(value)
    if isinstance(value, bool):
        return b"true" if value else b"false"
    if isinstance(value, (int, float)):
        return str(value).encode()
    raise TypeError(f"{type(value).__name__} is nothing that a query request can carry")


class _Tree:
    """Builds the value of the root element from expat's events."""

    def __init__(self) -> None:
        self.root: Any = None
        self._children: list[list[tuple[str, Any]]] = []
        self._text: list[list[str]] = []

    def start(self, tag: str, _attributes: object) -> None:
        self._children.append([])
        self._text.append([])

    def data(self, text: str) -> None:
        self._text[-1].append(text)

    def end(self, tag: str) -> None:
        children, text = self._children.pop(), "".join(self._text.pop())
        value: Any = text
        if children:
            names = {name for name, _ in children}
            value = [item for _, item in children] if names == {"member"} else dict(children)
        if self._children:
            self._children[-1].append((tag, value))
        else:
            self.root = {tag: value}

    def refuse(self, *_args: object) -> None:
        raise ValueError("a document type in an XML answer")


def parse_xml(data: bytes) -> dict[str, Any]:
    """An XML document: elements with children as dicts, of `member` elements as lists, the others as text.

    Raises ValueError for what is no XML, and for a document type: entities could blow it up.
    """
    tree = _Tree()
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = tree.start
    parser.EndElementHandler = tree.end
    parser.CharacterDataHandler = tree.data
    parser.StartDoctypeDeclHandler = tree.refuse
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise ValueError(f"not XML: {error}") from error
    root: dict[str, Any] = tree.root
    return root


def decode_result(action: str, data: bytes) -> dict[str, Any]:
    """The result of an answer; lists and flags of the batch operations as botocore gives them."""
    response = parse_xml(data).get(f"{action}Response")
    result = response.get(f"{action}Result") if isinstance(response, dict) else None
    if not isinstance(result, dict):
        raise ValueError(f"no {action}Result in the answer")
    for name in ("Successful", "Failed"):
        if name in result:
            result[name] = result[name] if isinstance(result[name], list) else []
    for entry in result.get("Failed", ()):
        entry["SenderFault"] = entry.get("SenderFault") == "true"
    return result
