"""What brokers on AWS have in common between `connect` and `close`: a client, and the receivers that are open."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Generic, Protocol, TypeVar

from msgbus.brokers.aws.calls import AwsClient
from msgbus.brokers.aws.settings import AwsSettings
from msgbus.clock import Clock
from msgbus.errors import Disconnected


class Closes(Protocol):
    """A receiver that gives back what it holds when it is closed."""

    async def close(self) -> None: ...


R = TypeVar("R", bound=Closes)


class Lifetime(Generic[R]):
    """There is no connection that could be lost: trouble on the way is Unavailable, entry by entry.

    `service`: whose endpoint must be known from the start. `receivers`: those that are open.
    """

    def __init__(self, service: str, settings: AwsSettings, clock: Clock) -> None:
        self.receivers: set[R] = set()
        self._service = service
        self._settings = settings
        self._clock = clock
        self._client: AwsClient | None = None

    @property
    def connected(self) -> bool:
        """Whether it has begun and not ended."""
        return self._client is not None

    @property
    def client(self) -> AwsClient:
        """Raises Disconnected outside of the lifetime."""
        if self._client is None:
            raise Disconnected(f"{self._service}: not connected")
        return self._client

    async def begin(self) -> AwsClient | None:
        """Find credentials, region and endpoint; nothing is sent yet. None: it has begun before.

        Raises Refused or Unavailable.
        """
        if self._client is not None:
            return None
        client = AwsClient(self._settings, self._clock)
        try:
            await client.open(self._service)
        except BaseException:
            await client.close()
            raise
        self._client = client
        return client

    async def end(self) -> None:
        """Receivers first: what they give back and write at last goes through this client."""
        client, self._client = self._client, None
        if client is not None:
            await asyncio.gather(*(receiver.close() for receiver in self.receivers))
            await client.close()

    @asynccontextmanager
    async def lend(self, receiver: R) -> AsyncIterator[R]:
        """The receiver until the exit, which closes it even when cancelled: `end` waits for it then.

        Its polls under way bring messages that must go back, its leases hold up others.
        """
        self.receivers.add(receiver)
        try:
            yield receiver
        finally:
            closing = asyncio.ensure_future(receiver.close())
            closing.add_done_callback(lambda _: self.receivers.discard(receiver))
            await asyncio.shield(closing)
