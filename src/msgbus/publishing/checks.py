"""What a publisher gives beside the payload, looked at before anything is sent: types can't tell all of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from msgbus import headers as h
from msgbus.broker import Result
from msgbus.errors import Refused, shown
from msgbus.message import Outgoing
from msgbus.publishing.middleware import SendNext

LONGEST_EXPIRY = 100 * 365 * 86_400.0
"""Seconds: what is meant to stay has no expiry."""

_YEAR_10000 = 253_402_300_800.0
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
        _check_text(name, value, what)
        own[name] = value
    return own


def vetting(send: SendNext) -> SendNext:
    """`send` behind middlewares, which may put anything into a message: what can't be carried is Refused alone."""

    async def vetted(batch: Sequence[Outgoing]) -> Sequence[Result]:
        flaws = [_flaw_of(out) for out in batch]
        if not any(flaws):
            return await send(batch)
        good = [out for out, flaw in zip(batch, flaws, strict=True) if flaw is None]
        sent = iter(await send(good) if good else ())
        return [next(sent) if flaw is None else flaw for flaw in flaws]

    return vetted


def checked_id(value: object, what: str) -> str:
    """An id that every broker can carry. Raises Refused."""
    if isinstance(value, str) and 0 < len(value) <= _ID_CHARACTERS and value.isprintable():
        return value
    raise Refused(f"{what} is {value!a:.200}: give 1 to {_ID_CHARACTERS} printable characters")


def _check_text(name: str, value: str, what: object) -> None:
    if not 0 < len(name) <= _NAME_CHARACTERS or not name.isprintable():
        raise Refused(f"{what}: header {name!a:.200}: a name has 1 to {_NAME_CHARACTERS} printable characters")
    if not value.isascii() and not _is_text(value):
        raise Refused(f"{what}: header {name!r} is {value!a:.200}: half a surrogate pair is no text")


def _flaw_of(out: Outgoing) -> Refused | None:
    try:
        _check(out)
    except Refused as error:
        return error
    except Exception as error:  # headers that are no mapping, say
        flaw = Refused(f"{out.address}: a middleware made it odd: {shown(error)}")
        flaw.__cause__ = error
        return flaw
    return None


def _check(out: Any) -> None:
    """Takes anything: middlewares are not bound to the types."""
    what = f"{out.address}: behind its middlewares"
    checked_id(out.id, f"{what}: id")
    for name, value in out.headers.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise Refused(f"{what}: header {name!r} is {value!r:.200}: names and values are text")
        _check_text(name, value, what)
    for name in ("key", "lane", "dedup_id"):
        value = getattr(out, name)
        if value is not None and not (isinstance(value, str) and _is_text(value)):
            raise Refused(f"{what}: {name} is {value!a:.200}: give text or None")
    if not isinstance(out.body, bytes):
        raise Refused(f"{what}: the body is {type(out.body).__name__}: give bytes")
    if not 0 <= out.delay < math.inf:
        raise Refused(f"{what}: delay is {out.delay!r}: give seconds, from 0")
    if out.expires_at is not None and not 0 < out.expires_at < _YEAR_10000:
        raise Refused(f"{what}: expires_at is {out.expires_at!r}: give a Unix time before the year 10000")


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
