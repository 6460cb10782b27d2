"""What is text, and what is JSON: asked when a message is fitted and when it is opened."""

from __future__ import annotations

from collections.abc import Iterable

import pydantic_core


def is_plain(body: bytes) -> bool:
    """UTF-8 without the control characters that XML, and so SQS, refuses."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return False
    return bool(text) and all(c >= " " or c in "\t\n\r" for c in text) and "\ufffe" not in text and "\uffff" not in text


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
