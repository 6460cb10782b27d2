"""Fits a message to what a broker can carry.

Native headers where there are enough; one packed header where there are few; CloudEvents structured JSON where there
are none; base64 where bodies must be text.
"""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Callable, Sequence

import pydantic_core

from msgbus import headers as h
from msgbus.broker import Capabilities
from msgbus.envelope.structured import structure, structure_valid
from msgbus.envelope.text import is_plain
from msgbus.errors import ConfigError
from msgbus.message import Outgoing

Fit = Callable[[Outgoing], None]

_PROMOTED = (h.CONTENT_TYPE, h.CORRELATION, h.REPLY_TO)  # native wherever any header is: foreign consumers read them
_NO_CHARACTERS = b"\xef\xbf"  # how U+FFFE and U+FFFF begin, which XML, and so SQS, refuses


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


def _to_text(out: Outgoing) -> None:
    kind = out.headers.get(h.CONTENT_TYPE, "")
    if "json" in kind and (_NO_CHARACTERS not in out.body or is_plain(out.body)):  # JSON has no control characters
        return
    if kind.startswith("text/") and is_plain(out.body):
        return
    out.body = base64.b64encode(out.body)
    out.headers[h.ENCODING] = "base64"


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
