"""What the suite must know about one broker and the server that it talks to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import pytest

from msgbus.broker import Broker
from msgbus.brokers import open_broker
from msgbus.clock import SystemClock


class Harness:
    """Joins one broker to the suite. Subclass it; `url` is enough for a start.

    Every test uses names of its own, so one server can serve a whole run. Times in seconds.
    """

    url: str
    """A Bus opens the broker by this; two brokers with the same URL share the server."""

    patience: float = 10.0
    """The longest wait for something that must happen."""

    quiet: float = 0.2
    """How long to look before saying that nothing comes."""

    lease: float = 1.0
    """The shortest lease that can be asked for (only where `Capabilities.lease` says that there are leases)."""

    delay: float = 1.0
    """A short delay that the broker can measure; several `retry_resolution`."""

    wrong: ClassVar[Mapping[str, str]] = {}
    """Tests that fail because the server or emulator is at fault: name -> reason. They are expected to fail.

    A name with its parameters (`test_x[text]`) means that case alone.
    """

    def broker(self) -> Broker:
        """A new broker on the server, independent of others and not yet connected."""
        return open_broker(self.url, SystemClock())

    async def cut(self) -> None:
        """Optional. Break every connection to the server, so that clients notice; new ones can be made at once."""
        raise NotImplementedError

    async def restart(self) -> None:
        """Optional. Kill the server and start it again with what it had stored."""
        raise NotImplementedError

    def needs(self, ability: Literal["cut", "restart"]) -> None:
        """Skip a test where this harness does not override that method."""
        if getattr(type(self), ability) is getattr(Harness, ability):
            pytest.skip(f"the harness has no ability to {ability}")
