"""What is text, and what is JSON: asked when a message is fitted and when it is opened."""

from __future__ import annotations

import re
from collections.abc import Iterable

import pydantic_core

_NOT_PLAIN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")


def is_plain(body: bytes) -> bool:
    """UTF-8 without the control characters that XML, and so SQS, refuses."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return False
    return bool(text) and _NOT_PLAIN.search(text) is None


def are_text(values: Iterable[object]) -> bool:
    """Whether each is a str; to join them is the quickest way to ask."""
    try:
        "".join(values)  # type: ignore[arg-type]
    except TypeError:
        return False
    return True


def is_json(body: bytes) -> bool:
    """Whether it can be inlined: a `bytes` payload may only claim to be JSON."""
    try:
        pydantic_core.from_json(body)
        body.decode()
    except ValueError:
        return False
    return True
