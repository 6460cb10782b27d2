"""`stomp://` and `stomp+ssl://` URLs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from msgbus.brokers.mq import target
from msgbus.errors import ConfigError

_PORTS = {"stomp": (61613, False), "stomp+ssl": (61614, True)}
_LEAST = {"heartbeat": 0.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Options(target.Options):
    """What may follow the `?` of a URL, beside what mq.target.Options has.

    `client`: the wire. `version`: the highest STOMP to speak. `heartbeat`: seconds; silence of twice as long is a dead
    peer, 0 for none. `selectors`: "on" has ActiveMQ filter what a group asks for, which needs `selectorAware="true"` on
    its virtual topics.
    """

    client: Literal["lean", "stomp.py"] = "lean"
    version: Literal["1.2", "1.1", "1.0"] = "1.2"
    heartbeat: float = 20.0
    selectors: Literal["off", "on"] = "off"

    @property
    def beat(self) -> int:
        """The heart-beat in milliseconds."""
        return int(self.heartbeat * 1000)


Target = target.Target[Options]
"""`user` "": none is named."""


def connect_headers(to: Target) -> dict[str, str]:
    """Of the CONNECT frame, without the heart-beat."""
    versions = [version for version in ("1.0", "1.1", "1.2") if version <= to.options.version]
    headers = {"accept-version": ",".join(versions), "host": to.vhost}
    return headers | ({"login": to.user, "passcode": to.password} if to.user else {})


def parse(url: str) -> Target:
    """See mq.target.target_of. Raises ConfigError."""
    found = target.target_of(url, _PORTS, ("", ""), Options(), _LEAST)
    options = found.options
    if options.client == "stomp.py" and options.version != "1.2":
        raise ConfigError(
            f"{found.scheme}: client=stomp.py speaks 1.2 here, version={options.version} is for client=lean"
        )
    return found
