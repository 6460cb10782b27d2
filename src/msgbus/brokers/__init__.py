"""From a URL to a broker. Clients are imported when their scheme is first used, never by `import msgbus`."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import entry_points
from typing import Any, cast

from msgbus.broker import Broker
from msgbus.brokers.hiding import parts_of, shown
from msgbus.clock import Clock
from msgbus.errors import ConfigError, missing_extra

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


Factory = Callable[..., Broker]
"""Makes a broker that is not yet connected: called as `factory(url, clock=clock)`."""

_registered: dict[str, Factory] = {}


def register(scheme: str, factory: Factory) -> None:
    """Have URLs with `scheme` opened by `factory(url, clock=clock)`, in this process and from now on.

    For a program or a test with a broker of its own; a package that is installed names it as an entry point. A
    scheme that is built in, or an entry point's, is taken over.
    """
    _registered[scheme] = factory


@contextmanager
def registered(factories: Mapping[str, Factory]) -> Iterator[None]:
    """`register` for the length of a block; what the schemes meant before, they mean again."""
    before = dict(_registered)
    _registered.update(factories)
    try:
        yield
    finally:
        _registered.clear()
        _registered.update(before)


def broker_for(url: str, clock: Clock) -> Broker:
    """The broker for a URL, not yet connected. Raises ConfigError for an unknown scheme or a missing extra."""
    scheme = parts_of(url).scheme
    factory: Factory
    if scheme in _registered:
        factory = _registered[scheme]
    elif scheme in BUILT_IN:
        module, name, extra = BUILT_IN[scheme]
        factory = _load(url, module, name, extra)
    else:
        factory = _third_party(url, scheme)
    return factory(url, clock=clock)


def known_schemes() -> list[str]:
    """Every scheme that can be opened here: registered, built in, an entry point's."""
    return sorted({*_registered, *BUILT_IN, *(entry.name for entry in entry_points(group=ENTRY_POINTS))})


def _load(url: str, module: str, name: str, extra: str) -> Factory:
    try:
        return cast(Factory, getattr(importlib.import_module(module), name))
    except ModuleNotFoundError as error:
        raise missing_extra(shown(url), error, extra) from error


def _third_party(url: str, scheme: str) -> Factory:
    for entry in entry_points(group=ENTRY_POINTS, name=scheme):
        loaded: Any = entry.load()
        return cast(Factory, loaded)
    raise ConfigError(f"{shown(url)!r}: no broker for the scheme {scheme!r}; there are {', '.join(known_schemes())}")
