"""`amqp://` and `amqps://` URLs."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal
from urllib.parse import parse_qsl, unquote, urlsplit

from msgbus.errors import ConfigError

PATIENCE = 30.0
"""Seconds that a call may take: a quorum queue without a leader never answers."""

PORTS = {"amqp": 5672, "amqps": 5671}


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What may follow the `?` of a URL. Times in seconds, sizes in bytes.

    `client`: the wire. `auth`: "plain" with user and password, "external" with the client's certificate.
    `ca`, `cert`, `key`: PEM files: who may sign the server's certificate, and the client's own. `heartbeat`: silence
    of twice as long is a dead peer, 0 for none. `timeout`: of one attempt to connect. `frame_max`: the largest frame.
    `queue_type`: of queues that are made here. `max_bytes`: the largest body, at most the server's
    max_message_size. `consumer_timeout`: the server's: how long a delivery may stay unsettled.
    `name`: how the connection is called in the server's lists.
    """

    client: Literal["lean", "aio-pika"] = "lean"
    auth: Literal["plain", "external"] = "plain"
    ca: str = ""
    cert: str = ""
    key: str = ""
    heartbeat: int = 20
    timeout: float = 10.0
    frame_max: int = 131_072
    queue_type: Literal["quorum", "classic"] = "quorum"
    max_bytes: int = 16 * 1024 * 1024
    consumer_timeout: float = 1800.0
    name: str = "msgbus"


_CHOICES = {"client": ("lean", "aio-pika"), "auth": ("plain", "external"), "queue_type": ("quorum", "classic")}
_LEAST = {"heartbeat": 0, "timeout": 0.001, "frame_max": 4096, "max_bytes": 1, "consumer_timeout": 1.0}


@dataclass(frozen=True, slots=True)
class Target:
    """Where and as whom to connect: `hosts` are (host, port), tried in turn."""

    hosts: tuple[tuple[str, int], ...]
    user: str
    password: str
    vhost: str
    tls: bool
    options: Options

    def __str__(self) -> str:
        """Without the password."""
        places = ",".join(f"{host}:{port}" for host, port in self.hosts)
        return f"{'amqps' if self.tls else 'amqp'}://{places}/{'' if self.vhost == '/' else self.vhost}"

    def context(self) -> ssl.SSLContext | None:
        """The TLS settings; None without TLS. The server's certificate and name are always checked."""
        if not self.tls:
            return None
        options = self.options
        try:
            context = ssl.create_default_context(cafile=options.ca or None)
            if options.cert:
                context.load_cert_chain(options.cert, options.key or None)
        except OSError as error:
            raise ConfigError(f"{self}: can't read the certificates of ?ca=, ?cert= and ?key=: {error}") from error
        return context


def parse(url: str) -> Target:
    """`amqp://[USER:PASSWORD@]HOST[:PORT][,HOST[:PORT]...][/VHOST][?OPTION=VALUE...]`. Raises ConfigError."""
    parts = urlsplit(url)
    account, _, places = parts.netloc.rpartition("@")
    user, _, password = account.partition(":")
    hosts = tuple(_host(place, PORTS[parts.scheme]) for place in (places or "localhost").split(","))
    return Target(
        hosts=hosts,
        user=unquote(user) if account else "guest",
        password=unquote(password) if account else "guest",
        vhost=unquote(parts.path[1:]) or "/",
        tls=parts.scheme == "amqps",
        options=_options(parts.scheme, dict(parse_qsl(parts.query, keep_blank_values=True))),
    )


def _host(place: str, port: int) -> tuple[str, int]:
    try:
        one = urlsplit(f"//{place}")
        return one.hostname or "localhost", one.port or port
    except ValueError as error:
        raise ConfigError(f"amqp: {place!r} is no host:port: {error}") from error


def _options(scheme: str, given: Mapping[str, str]) -> Options:
    options = Options()
    known = {field.name for field in fields(Options)}
    for name, text in given.items():
        if name not in known:
            raise ConfigError(f"{scheme}: no option {name!r}; there are {', '.join(sorted(known))}")
        options = replace(options, **{name: _value(scheme, name, text, getattr(options, name))})
    if bool(options.key) > bool(options.cert):
        raise ConfigError(f"{scheme}: key= needs cert=")
    return options


def _value(scheme: str, name: str, text: str, default: Any) -> Any:
    choices = _CHOICES.get(name)
    if choices is not None and text not in choices:
        raise ConfigError(f"{scheme}: {name}={text!r}, allowed are {' and '.join(choices)}")
    try:
        value = type(default)(text)
    except ValueError as error:
        raise ConfigError(f"{scheme}: {name}={text!r} is no {type(default).__name__}") from error
    if name in _LEAST and not value >= _LEAST[name]:
        raise ConfigError(f"{scheme}: {name}={text!r}, allowed are {_LEAST[name]} and more")
    return value
