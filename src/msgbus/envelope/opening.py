"""Opens what comes in: undoes every step that fitting may have taken, in place."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Mapping
from typing import Any

import pydantic_core

from msgbus import headers as h
from msgbus.broker import Capabilities
from msgbus.envelope.structured import STRUCTURED, unstructure
from msgbus.envelope.text import are_text
from msgbus.errors import DecodeError
from msgbus.message import Delivery

Open = Callable[[Delivery], None]


def opener(capabilities: Capabilities) -> Open | None:
    """The function that opens one delivery in place, before its handler; None where headers and bodies are native.

    Structured CloudEvents of foreign producers are opened on every broker when they are decoded, see `foreign`.
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
        _open_ours(delivery)
    else:
        if h.PACKED in headers:
            headers = delivery.headers = _unpack(headers)
        if headers.get(h.CONTENT_TYPE, "").startswith(STRUCTURED):
            delivery.headers, delivery.body = unstructure(headers, delivery.body)
    if delivery.headers.get(h.ENCODING) == "base64":
        delivery.body = _from_base64(delivery.body)
        delivery.headers = {name: value for name, value in delivery.headers.items() if name != h.ENCODING}


def _open_ours(delivery: Delivery) -> None:
    """Where there are no headers at all, our envelope is known by its first bytes; others by `foreign`."""
    if delivery.body.startswith(b'{"specversion":"1.0"'):
        try:
            delivery.headers, delivery.body = unstructure({}, delivery.body)
        except DecodeError:
            return  # then it only looked like it


def _from_base64(body: bytes) -> bytes:
    try:
        return base64.b64decode(body, validate=True)
    except binascii.Error as error:
        raise DecodeError(f"header {h.ENCODING} says base64, the body is not: {error}") from error


def _unpack(headers: Mapping[str, str]) -> dict[str, str]:
    try:
        opened: dict[str, str] = _from_json(headers[h.PACKED])
        if not are_text(opened.values()):
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
