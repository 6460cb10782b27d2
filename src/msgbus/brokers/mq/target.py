"""Where and as whom to connect, as a URL says it."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeVar
from urllib.parse import unquote

from msgbus.brokers.hiding import parts_of
from msgbus.brokers.urls import Hosts, account_of, hosts_of, options_of, tls_context
from msgbus.errors import ConfigError

PATIENCE = 30.0
"""Seconds that a call may take: a quorum queue without a leader never answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What may follow the `?` of every URL. Times in seconds, sizes in bytes.

    `ca`, `cert`, `key`: PEM files: who may sign the server's certificate, and the client's own. `timeout`: of one
    attempt to connect. `max_bytes`: the largest body, at most the server's own limit. RabbitMQ alone: `queue_type`: of
    queues that are made here; `consumer_timeout`: the server's: how long a delivery may stay unsettled.
    """

    ca: str = ""
    cert: str = ""
    key: str = ""
    timeout: float = 10.0
    max_bytes: int = 16 * 1024 * 1024
    queue_type: Literal["quorum", "classic"] = "quorum"
    consumer_timeout: float = 1800.0


_LEAST = {"timeout": 0.001, "max_bytes": 1, "consumer_timeout": 1.0}
OptionsT = TypeVar("OptionsT", bound=Options)


@dataclass(frozen=True, slots=True)
class Target(Generic[OptionsT]):
    """`hosts` are (host, port), tried in turn."""

    scheme: str
    hosts: Hosts
    user: str
    password: str = field(repr=False)
    vhost: str
    tls: bool
    options: OptionsT

    def __str__(self) -> str:
        """Without the password."""
        places = ",".join(f"{host}:{port}" for host, port in self.hosts)
        return f"{self.scheme}://{places}/{'' if self.vhost == '/' else self.vhost}"

    def context(self) -> ssl.SSLContext | None:
        """The TLS settings; None without TLS."""
        options = self.options
        return tls_context(str(self), options.ca, options.cert, options.key) if self.tls else None


def target_of(
    url: str,
    ports: Mapping[str, tuple[int, bool]],
    account: tuple[str, str],
    options: OptionsT,
    least: Mapping[str, float],
) -> Target[OptionsT]:
    """`SCHEME://[USER:PASSWORD@]HOST[:PORT][,HOST[:PORT]...][/VHOST][?OPTION=VALUE...]`.

    `ports`: scheme -> port, and whether it means TLS. `account`: user and password where the URL has none. `options`:
    the defaults. `least`: the smallest values of options that are not in Options. Raises ConfigError.
    """
    parts = parts_of(url)
    options = options_of(url, options, {**_LEAST, **least})
    if options.key and not options.cert:
        raise ConfigError(f"{parts.scheme}: key= needs cert=")
    port, tls = ports[parts.scheme]
    user, password = account_of(url, account)
    vhost = unquote(parts.path[1:]) or "/"
    return Target(parts.scheme, hosts_of(url, port), user, password, vhost, tls, options)
