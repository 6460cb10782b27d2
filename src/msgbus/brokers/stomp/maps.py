"""MapMessages of JMS as JSON. ActiveMQ shows one only where it is asked for, as XStream's XML (see looking.py).

Of the forms that it has, XML alone tells all: its JSON makes numbers of strings that look like some, "007" among them.
"""

from __future__ import annotations

import binascii
import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from typing import Any
from xml.etree.ElementTree import Element, ParseError, fromstring

from msgbus.brokers.mq.errors import Hidden

FORM = "jms-map-xml"
"""The header `transformation`: of a SUBSCRIBE it asks for this form, of a SEND it says that this is one."""

_LOST = "\ufffd"  # what the server writes for each half of a character beyond U+FFFF, and for NUL


def is_map(body: bytes) -> bool:
    """Whether the server shows a map."""
    return body.startswith((b"<map>", b"<map/>"))


def json_of(xml: bytes) -> bytes:
    """The map as a JSON object: bytes as base64, infinities and NaN as strings.

    Raises Hidden where the XML says less than the map did, or what no MapMessage says.
    """
    try:
        if _LOST in xml.decode():
            raise Hidden("a JMS MapMessage with text that ActiveMQ shows over STOMP as U+FFFD alone")
        root = fromstring(xml)  # noqa: S314 - `is_map`: where it begins so, no DTD can follow
        return json.dumps(_map(root), ensure_ascii=False, separators=(",", ":")).encode()
    except (ParseError, ValueError, LookupError, RecursionError, binascii.Error) as error:
        raise Hidden(f"a JMS MapMessage that ActiveMQ shows in a form that is not known: {error}") from error


def _map(element: Element) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for entry in element:
        key, value = entry
        if key.tag != "string":
            raise ValueError(f"a key is {key.tag[:40]}")
        found[key.text or ""] = _value(value)
    return found


def _value(element: Element) -> Any:
    read = _READ.get(element.tag)
    if read is None or element.attrib:  # an attribute refers to another element, or names a class
        raise ValueError(f"a value is {element.tag[:40]} {sorted(element.attrib)}")
    return read(element)


def _text(element: Element) -> str:
    return element.text or ""


def _integer(element: Element) -> int:
    return int(_text(element))


def _number(element: Element) -> float | str:
    text = _text(element)
    return text if text.endswith(("NaN", "Infinity")) else float(text)


def _bytes(element: Element) -> str:
    return b64encode(b64decode(_text(element))).decode()


_READ: Mapping[str, Callable[[Element], Any]] = {
    **dict.fromkeys(("string", "char"), _text),
    **dict.fromkeys(("byte", "short", "int", "long"), _integer),
    **dict.fromkeys(("float", "double"), _number),
    **dict.fromkeys(("list", "linked-list"), lambda element: [_value(each) for each in element]),
    "boolean": lambda element: {"true": True, "false": False}[_text(element)],
    "byte-array": _bytes,
    "null": lambda _: None,
    "map": _map,
}
