"""What a user can set about the AWS client. Everything else comes from botocore's own chain."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from msgbus.brokers.aws.options import FLAGS, Parser, flag, positive, take, text, whole
from msgbus.errors import ConfigError


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
    def from_options(cls, options: Mapping[str, str], also: Iterable[str] = ()) -> AwsSettings:
        """Settings from the options of a broker URL: text by the names above. Raises ConfigError.

        `also`: the options that the broker itself takes and has taken, for the error to name.
        `verify` takes a flag or a path; flags are 1, true, on, 0, false, off. Proxies come from the
        environment.
        """
        left = dict(options)
        values = take(left, _PARSERS)
        if left:
            raise ConfigError(f"unknown option {next(iter(left))!r}: allowed are {', '.join((*also, *OPTIONS))}")
        return cls(**values)


def _verify(_name: str, value: str) -> bool | str:
    return FLAGS.get(value.lower(), value)


_PARSERS: Mapping[str, Parser] = {
    "region": text,
    "profile": text,
    "endpoint": text,
    "verify": _verify,
    "fast": flag,
    "timeout": positive,
    "connect_timeout": positive,
    "connections": whole(1),
    "keep_alive": positive,
    "max_response": whole(1),
}

OPTIONS = tuple(_PARSERS)
"""The names that `AwsSettings.from_options` takes."""
