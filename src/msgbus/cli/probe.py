"""What brokers say of themselves without a connection, and which commands they allow."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterable

from msgbus.broker import Capabilities
from msgbus.brokers import broker_for
from msgbus.bus import Bus
from msgbus.cli.output import location
from msgbus.clock import SystemClock
from msgbus.errors import ConfigError
from msgbus.publishing.link import Link


def capabilities_of(url: str) -> Capabilities | None:
    """None where only the server can tell. Needs a running event loop. Raises ConfigError for a bad URL."""
    broker = broker_for(url, SystemClock())
    try:
        return broker.capabilities()
    except ConfigError:
        raise
    except Exception:  # "valid after connect": a broker may know nothing before, and fail in a way of its own
        return None


@contextlib.asynccontextmanager
async def connected(bus: Bus, name: str, purpose: str) -> AsyncIterator[Link]:
    """The connected bus's link for a topic, queue or call; refused where another process can't reach the broker."""
    async with all_connected(bus, [name], purpose):
        yield bus.link_for(name)


@contextlib.asynccontextmanager
async def all_connected(bus: Bus, names: Iterable[str], purpose: str) -> AsyncIterator[None]:
    """The bus is connected, nothing of what it declares made; refused where a broker of these can't be reached."""
    settings = bus.settings
    urls = {settings.routes.get(name, settings.url) for name in names}
    for url in urls:
        _refuse_private(url, capabilities_of(url), purpose)
    async with bus.connected():
        for url in urls:
            _refuse_private(url, bus.links[url].broker.capabilities(), purpose)
        yield


def _refuse_private(url: str, capabilities: Capabilities | None, purpose: str) -> None:
    if capabilities is not None and not capabilities.shared:
        raise ConfigError(
            f"{purpose}: {location(url)} lives inside the process that uses it, so this one would find it empty;"
            " set MSGBUS_URL to a broker that processes share"
        )
