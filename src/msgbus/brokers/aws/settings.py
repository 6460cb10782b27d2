"""What a user can set about the AWS client. Everything else comes from botocore's own chain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from msgbus.errors import ConfigError

_FLAGS = {"1": True, "true": True, "on": True, "0": False, "false": False, "off": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class AwsSettings:
    """Settings of an `AwsClient`. Times in seconds, sizes in bytes.

    `region`, `profile`, `endpoint`: None leaves them to botocore (environment, configuration files);
    `endpoint` is one URL for all services. `verify`: True for botocore's certificate authorities or those of
    `AWS_CA_BUNDLE`, a path to others, False for none (tests only). `proxies`: as in botocore's Config.
    `fast`: False sends everything through aiobotocore. `timeout`: of one call, a long poll's wait not
    included. `connections`: of each endpoint, for calls and for long polls each. `max_response`: one
    answer's body, decompressed.
    """

    region: str | None = None
    profile: str | None = None
    endpoint: str | None = None
    verify: bool | str = True
    proxies: Mapping[str, str] | None = None
    fast: bool = True
    timeout: float = 30.0
    connect_timeout: float = 5.0
    connections: int = 32
    keep_alive: float = 20.0
    max_response: int = 32 * 1024 * 1024

    @classmethod
    def from_options(cls, options: Mapping[str, str]) -> AwsSettings:
        """Settings from the options of a broker URL: text by the names above. Raises ConfigError.

        `verify` takes a flag or a path; flags are 1, true, on, 0, false, off. Proxies come from the
        environment.
        """
        return cls(**{name: _value(name, text) for name, text in options.items()})


def _value(name: str, text: str) -> Any:
    if name in ("region", "profile", "endpoint"):
        return text
    if name == "fast":
        return _flag(name, text)
    if name == "verify":
        return _FLAGS.get(text.lower(), text)
    if name in ("timeout", "connect_timeout", "keep_alive"):
        return _positive(name, text, float)
    if name in ("connections", "max_response"):
        return _positive(name, text, int)
    raise ConfigError(f"unknown AWS option {name!r}: allowed are {', '.join(OPTIONS)}")


def _flag(name: str, text: str) -> bool:
    if text.lower() not in _FLAGS:
        raise ConfigError(f"{name}={text!r}: allowed are {', '.join(_FLAGS)}")
    return _FLAGS[text.lower()]


def _positive(name: str, text: str, kind: type[int] | type[float]) -> int | float:
    try:
        value = kind(text)
    except ValueError:
        value = 0
    if not 0 < value < float("inf"):
        raise ConfigError(f"{name}={text!r}: not a {'whole ' if kind is int else ''}number above 0")
    return value


OPTIONS = tuple(name for name in AwsSettings.__slots__ if name != "proxies")
"""The names that `AwsSettings.from_options` takes."""
