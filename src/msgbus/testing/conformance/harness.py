"""What the suite must know about one broker and the server that it talks to."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import AbstractAsyncContextManager
from typing import ClassVar, Literal

import pytest

from msgbus.broker import Broker
from msgbus.brokers import Factory, broker_for
from msgbus.clock import Clock, SystemClock
from msgbus.message import Outgoing, Source

Ability = Literal["cut", "restart", "spoil", "places", "put_odd", "outage", "remove", "put_foreign"]


class Harness:
    """Joins one broker to the suite. Subclass it; `url` is enough for a start, each hook brings more tests.

    Every test uses names of its own, so one server can serve a whole run. Times in seconds.
    """

    url: str
    """A Bus opens the broker by this; two brokers with the same URL share the server."""

    brokers: ClassVar[Mapping[str, Factory]] = {}
    """Schemes known while a test runs, beside those that are installed: scheme -> `factory(url, clock=...)`."""

    unreachable: str = ""
    """Optional. A URL where no server is: connecting must raise Disconnected or Unavailable."""

    unauthorized: str = ""
    """Optional. A URL with a wrong password, or whatever the server turns away: connecting must raise Refused."""

    clock: Clock = SystemClock()
    """The time of the suite and of its brokers."""

    patience: float = 10.0
    """The longest wait for something that must happen."""

    quiet: float = 0.2
    """How long to look before saying that nothing comes."""

    lease: float = 1.0
    """The shortest lease that can be asked for (only where `Capabilities.lease` says that there are leases)."""

    delay: float = 1.0
    """A short delay that the broker can measure; several `retry_resolution`."""

    retry_copies: bool = True
    """Whether RETRY comes back with `Settlement.headers`; not where the server itself hands the message out again."""

    counts_crashes: bool = True
    """Whether a delivery that was never settled is an attempt too; not where the server's count tells no crash from
    a release, or a log comes back from its last checkpoint."""

    purges_in_flight: bool = False
    """Whether the server can't purge what waits without what is in flight."""

    wrong: ClassVar[Mapping[str, str]] = {}
    """Tests that fail because the server or emulator is at fault: name -> reason. They are expected to fail.

    A name with its parameters (`test_x[text]`) means that case alone.
    """

    def broker(self, url: str = "") -> Broker:
        """A new broker on the server (or of `url`), independent of others and not yet connected."""
        return broker_for(url or self.url, self.clock)

    async def cut(self) -> None:
        """Optional. Break every connection to the server, so that clients notice; new ones can be made at once."""
        raise NotImplementedError

    async def restart(self) -> None:
        """Optional. Kill the server and start it again with what it had stored."""
        raise NotImplementedError

    def outage(self) -> AbstractAsyncContextManager[None]:
        """Optional. Until its exit the server can't be reached: connections are broken, new ones refused."""
        raise NotImplementedError

    async def remove(self, source: Source) -> None:
        """Optional. With a raw client, delete the queue or stream that `source` reads, as an operator might."""
        raise NotImplementedError

    def spoil(self, out: Outgoing) -> None:
        """Optional. Change a message that is about to be sent, so that the server itself refuses it, and it alone.

        The broker must find out by the server's answer: no capability may tell it before.
        """
        raise NotImplementedError

    async def put_odd(self, source: Source) -> int:
        """Optional. With a raw client, put messages there that msgbus would never write; how many.

        One of each kind that the protocol allows: odd types, lengths and encodings, envelopes that lie. No good ones.
        """
        raise NotImplementedError

    async def put_foreign(self, source: Source) -> Mapping[str, object]:
        """Optional. With a raw client, put one message there as only others write it; what a copy of it must keep.

        By names of the harness's own: body, types and values of headers, native properties. None of them is ours.
        """
        raise NotImplementedError

    async def take_foreign(self, place: Source) -> Mapping[str, object]:
        """With `put_foreign`: with a raw client, take the one message that is there; the same of it, or more."""
        raise NotImplementedError

    async def places(self) -> Collection[str]:
        """Optional. The names of all that stands on the server now: queues, topics, inboxes."""
        raise NotImplementedError

    async def clean(self, prefix: str) -> None:
        """Optional. After each test: remove what it left, whose names begin with `prefix`."""

    def needs(self, ability: Ability) -> None:
        """Skip a test where this harness does not override that method."""
        if getattr(type(self), ability) is getattr(Harness, ability):
            pytest.skip(f"the harness has no {ability}()")
