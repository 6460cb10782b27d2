"""What a publisher gives beside the payload, looked at before anything is sent: types can't tell all of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgbus import headers as h
from msgbus.errors import Refused

LONGEST_EXPIRY = 100 * 365 * 86_400.0
"""Seconds: what is meant to stay has no expiry."""

_NAME_CHARACTERS = 128  # every broker takes names of so many; a copy with failure headers must fit too
_ID_CHARACTERS = 256
_ENVELOPE = (h.PACKED, h.ENCODING)
# What msgbus writes itself, of this message. They come back with `headers=message.headers`, and are of that message.
_OURS = frozenset((h.ID, h.TYPE, h.SOURCE, h.TIME, h.SPEC, h.KEY, h.EXPIRES, h.CONTENT_TYPE))
_OUR_PREFIX = "msgbus-"


def own_headers(headers: Mapping[Any, Any], what: object) -> dict[str, str]:
    """Those that are the user's to set: what msgbus writes itself is left out.

    Raises Refused for a name or value that some broker could not carry.
    """
    own: dict[str, str] = {}
    for name, value in headers.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise Refused(f"{what}: header {name!r} is {value!r:.200}: names and values are text")
        if name in _ENVELOPE:
            raise Refused(f"{what}: header {name!r} is of the envelope: give yours another name")
        if name in _OURS or name.startswith(_OUR_PREFIX):
            continue
        if not 0 < len(name) <= _NAME_CHARACTERS or not name.isprintable():
            raise Refused(f"{what}: header {name!a:.200}: a name has 1 to {_NAME_CHARACTERS} printable characters")
        if not value.isascii() and not _is_text(value):
            raise Refused(f"{what}: header {name!r} is {value!a:.200}: half a surrogate pair is no text")
        own[name] = value
    return own


def checked_id(value: object, what: str) -> str:
    """An id that every broker can carry. Raises Refused."""
    if isinstance(value, str) and 0 < len(value) <= _ID_CHARACTERS and value.isprintable():
        return value
    raise Refused(f"{what} is {value!a:.200}: give 1 to {_ID_CHARACTERS} printable characters")


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
