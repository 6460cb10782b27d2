"""From a URL to a broker. Clients are imported when their scheme is first used, never by `import msgbus`."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any, cast
from urllib.parse import urlsplit

from msgbus.broker import Broker
from msgbus.clock import Clock
from msgbus.errors import ConfigError

ENTRY_POINTS = "msgbus.brokers"
"""Third parties register a scheme here: `my = "my_package:MyBroker"`, called as `MyBroker(url, clock=clock)`."""

BUILT_IN = {
    "memory": ("msgbus.brokers.memory", "MemoryBroker", ""),
    "sqs": ("msgbus.brokers.sqs", "SqsBroker", "aws"),
    "amqp": ("msgbus.brokers.amqp", "AmqpBroker", "amqp"),
    "amqps": ("msgbus.brokers.amqp", "AmqpBroker", "amqp"),
    "kinesis": ("msgbus.brokers.kinesis", "KinesisBroker", "aws"),
    "stomp": ("msgbus.brokers.stomp", "StompBroker", "stomp"),
    "stomp+ssl": ("msgbus.brokers.stomp", "StompBroker", "stomp"),
}
"""Scheme -> module, class, and the extra that installs what it needs.

A broker is named here once the conformance suite is green on its real server.
"""


def open_broker(url: str, clock: Clock) -> Broker:
    """The broker for a URL, not yet connected. Raises ConfigError for an unknown scheme or a missing extra."""
    scheme = urlsplit(url).scheme
    if scheme in BUILT_IN:
        module, name, extra = BUILT_IN[scheme]
        factory = _load(url, module, name, extra)
    else:
        factory = _third_party(url, scheme)
    return factory(url, clock=clock)


def shown(url: str) -> str:
    """A URL as logs and errors may show it: without credentials and options."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def known_schemes() -> list[str]:
    """Every scheme that can be opened here, built in and third-party."""
    return sorted({*BUILT_IN, *(entry.name for entry in entry_points(group=ENTRY_POINTS))})


def _load(url: str, module: str, name: str, extra: str) -> Callable[..., Broker]:
    try:
        return cast(Callable[..., Broker], getattr(importlib.import_module(module), name))
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"{shown(url)}: {error.name} is missing, install it with: pip install 'msgbus[{extra}]'"
        ) from error


def _third_party(url: str, scheme: str) -> Callable[..., Broker]:
    for entry in entry_points(group=ENTRY_POINTS, name=scheme):
        loaded: Any = entry.load()
        return cast(Callable[..., Broker], loaded)
    raise ConfigError(f"{shown(url)!r}: no broker for the scheme {scheme!r}; there are {', '.join(known_schemes())}")
