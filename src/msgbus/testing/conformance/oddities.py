"""What the hostile chapter tries: entries that can't be written, headers that lie, errors that are hard to handle."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from msgbus import headers as h
from msgbus.errors import RetryLater
from msgbus.message import Outgoing

Oddity = Callable[[Outgoing], object]

_HALF = "\ud800"  # of a surrogate pair: text in Python, and on no wire


def _header(name: Any, value: Any) -> Oddity:
    def set_header(out: Outgoing) -> None:
        out.headers[name] = value

    return set_header


def _attribute(name: str, value: Any) -> Oddity:
    return lambda out: setattr(out, name, value)


ENTRIES: Mapping[str, Oddity] = {
    "header name that is a number": _header(5, "x"),
    "header name that is empty": _header("", "x"),
    "header name of 300 characters": _header("n" * 300, "x"),
    "header name with a line feed": _header("a\nb:c", "x"),
    "header name with half a surrogate pair": _header(f"a{_HALF}", "x"),
    "header value that is a number": _header("x", 5),
    "header value that is None": _header("x", None),
    "header value with half a surrogate pair": _header("x", f"a{_HALF}"),
    "header value with NUL": _header("x", "a\0b"),
    "header value of a megabyte": _header("x", "v" * 1_000_000),
    "headers that brokers know": lambda out: out.headers.update(
        {"CC": "x", "BCC": "x", "reply_to": "x", "destination": "x", "content-length": "3", "receipt": "x"}
    ),
    "content type that is a number": _header(h.CONTENT_TYPE, 5),
    "id that is a number": _attribute("id", 5),
    "id with half a surrogate pair": _attribute("id", f"a{_HALF}"),
    "id of 1,000 characters": _attribute("id", "i" * 1000),
    "key that is a number": _attribute("key", 5),
    "key with half a surrogate pair": _attribute("key", f"a{_HALF}"),
    "body that is text": _attribute("body", "odd"),
    "body that is None": _attribute("body", None),
    "expiry that is infinite": _attribute("expires_at", float("inf")),
    "expiry that is no number": _attribute("expires_at", float("nan")),
    "expiry in the year 30 million": _attribute("expires_at", 1e15),
    "delay that is no number": _attribute("delay", float("nan")),
    "native options of another broker": _attribute("native", object()),
}
"""By what is odd with it. A broker sends it as well as it can, or answers Refused for it alone."""

FORGED = (
    {h.ATTEMPT: "99999999999999999999"},
    {h.ATTEMPT: "-1"},
    {h.ATTEMPT: "x"},
    {h.ATTEMPT: "²"},
    {h.SENT: "inf"},
    {h.SENT: "-1e308"},
    {h.FIRST_FAILED: "never"},
    {h.HOP: "9" * 5000},
    {h.EXPIRES: "nan"},
    {h.EXPIRES: "1e400"},
    {h.DEAD_REASON: "forged", h.ORIGIN: "queue/other"},
    {h.PACKED: "no JSON"},
    {h.PACKED: "[1, 2]"},
    {h.PACKED: '{"a": {"b": 1}, "ce-id": 5}'},
    {h.PACKED: "[" * 10_000},
    {h.ENCODING: "base64"},
    {h.CLAIM: "../../etc/passwd"},
    {h.CONTENT_TYPE: "application/cloudevents+json"},
    {h.CONTENT_TYPE: "application/vnd.msgbus.claim+json"},
    {h.TYPE: "NoSuchType"},
    {h.REPLY_TO: "nowhere", h.CORRELATION: "x"},
)
"""Headers of our own that somebody else has written."""


class Speechless(Exception):
    """An error whose text can't be had."""

    def __str__(self) -> str:
        raise RuntimeError("no words")

    __repr__ = __str__


class Fatal(BaseException):
    """No Exception."""


def errors() -> Mapping[str, BaseException | None]:
    """By what is odd with it; None: the task is cancelled."""
    return {
        "has no text": Speechless(),
        "has half a surrogate pair in its text": ValueError(f"a{_HALF}b"),
        "has two megabytes of text": ValueError("x" * 2_000_000),
        "has control characters": ValueError("a\0b\x1b[2J\r\nc"),
        "is no Exception": Fatal("fatal"),
        "is a group": ExceptionGroup("several", [ValueError("one"), Speechless()]),
        "ends an iteration": StopAsyncIteration("x"),
        "is a cancellation that nobody asked for": asyncio.CancelledError("x"),
        "cancels its own task": None,
        "retry later": RetryLater(delay=float("nan")),
    }


async def odd_error(kind: str) -> None:
    """Fail in that way."""
    error = errors()[kind]
    if error is not None:
        raise error
    task = asyncio.current_task()
    if task is not None:
        task.cancel()
    await asyncio.sleep(0)
