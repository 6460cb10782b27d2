"""What URLs of message brokers have in common: several hosts, typed options, the files of TLS."""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar, get_args, get_type_hints
from urllib.parse import unquote, urlsplit

from msgbus.brokers.hiding import parts_of
from msgbus.errors import ConfigError

T = TypeVar("T")
Hosts = tuple[tuple[str, int], ...]


def hosts_of(url: str, port: int) -> Hosts:
    """(host, port) of each of `HOST[:PORT][,HOST[:PORT]...]`, tried in turn. Raises ConfigError."""
    places = parts_of(url).netloc.rpartition("@")[2]
    return tuple(_host(place, port) for place in (places or "localhost").split(","))


def account_of(url: str, default: tuple[str, str]) -> tuple[str, str]:
    """User and password."""
    account, _, _ = parts_of(url).netloc.rpartition("@")
    user, _, password = account.partition(":")
    return (unquote(user), unquote(password)) if account else default


def query_of(url: str) -> list[tuple[str, str]]:
    """The options of a URL, percent-decoded. A `+` is one: a URL is no form, and drivers are `postgresql+asyncpg`."""
    pairs = (pair.partition("=") for pair in parts_of(url).query.split("&") if pair)
    return [(unquote(name), unquote(text)) for name, _, text in pairs]


def options_of(url: str, defaults: T, least: Mapping[str, float]) -> T:
    """The dataclass `defaults` with what follows the `?`, each of its default's type, or one of its Literal's values.

    `least`: the smallest value of each number. Raises ConfigError.
    """
    scheme = parts_of(url).scheme
    known = get_type_hints(type(defaults))
    for name, text in query_of(url):
        if name not in known:
            raise ConfigError(f"{scheme}: no option {name!r}; there are {', '.join(sorted(known))}")
        value = _value(f"{scheme}: {name}={text!r}", text, getattr(defaults, name), get_args(known[name]))
        if name in least and not value >= least[name]:
            raise ConfigError(f"{scheme}: {name}={text!r}, allowed are {least[name]} and more")
        defaults = replace(defaults, **{name: value})  # type: ignore[type-var]
    return defaults


def tls_context(where: str, ca: str, cert: str, key: str) -> ssl.SSLContext:
    """The server's certificate and name are always checked; `ca`, `cert` and `key` are PEM files or ""."""
    try:
        context = ssl.create_default_context(cafile=ca or None)
        if cert:
            context.load_cert_chain(cert, key or None)
    except (OSError, ValueError) as error:  # ValueError: no path, as with a NUL in it
        raise ConfigError(f"{where}: can't read the certificates of ?ca=, ?cert= and ?key=: {error}") from error
    return context


def _host(place: str, port: int) -> tuple[str, int]:
    try:
        one = urlsplit(f"//{place}")
        return one.hostname or "localhost", one.port or port
    except ValueError as error:
        raise ConfigError(f"{place!r} is no host:port: {error}") from error


def _value(what: str, text: str, default: Any, choices: Sequence[str]) -> Any:
    if choices and text not in choices:
        raise ConfigError(f"{what}, allowed are {', '.join(choices)}")
    try:
        return type(default)(text)
    except ValueError as error:
        raise ConfigError(f"{what} is no {type(default).__name__}") from error
