"""Between a client that pushes and a receiver that is asked: what came, in order, until it is taken.

And the receiver that is no more than that: an inbox of replies which the server itself acknowledges.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Generic, Protocol, TypeVar

from msgbus.brokers.wakeup import Wakeup
from msgbus.clock import Clock
from msgbus.errors import BusError
from msgbus.message import Delivery, Settlement, Source

T = TypeVar("T")


class Mailbox(Generic[T]):
    """Made inside a running event loop. One taker at a time; whoever fills it bounds it, with a prefetch or polls.

    `put` fills it; a hot path may append to `items` itself and `wake` once. `take` removes items only when it
    returns, so a cancelled one leaves them to the next.
    """

    def __init__(self, clock: Clock) -> None:
        self.items: deque[T] = deque()
        self.ended: BusError | None = None
        self.on_end: Callable[[Exception], None] | None = None
        self._wakeup = Wakeup(clock)
        self.wake = self._wakeup.wake  # something changed
        self._error: BusError | None = None
        self._open = True
        self._refusing = False

    def __len__(self) -> int:
        return len(self.items)

    def put(self, items: Iterable[T]) -> None:
        """Add items; never waits."""
        self.items.extend(items)
        self.wake()

    def fail(self, error: BusError) -> None:
        """Have `take` raise this, once, when everything that came before it was taken."""
        self._error = error
        self.wake()

    def end(self, error: BusError) -> None:
        """Its source is dead, and with it what was not taken: `take` raises from now on. The first error stays."""
        if self.ended is None:
            self.ended = error
            self.items.clear()
            if self.on_end is not None:
                self.on_end(error)
        self.wake()

    def close(self, *, refuse: bool = False) -> None:
        """Nothing waits any more: `take` gives what is there, then []. `refuse`: nor does it give what is there."""
        self._open = False
        self._refusing = refuse
        self.wake()

    async def take(self, limit: int, wait: float) -> list[T]:
        """Up to `limit` items as soon as there is one; [] after `wait` seconds. Raises what ended or failed it."""
        if wait > 0 and not self.items and self._open and self.ended is None and self._error is None:
            await self._wakeup.wait(wait)
        if self.ended is not None:
            raise self.ended
        items = self.items
        if self._refusing:
            items.clear()
        if not items and self._error is not None:
            error, self._error = self._error, None
            raise error
        if len(items) <= limit:
            taken = list(items)
            items.clear()
            return taken
        return [items.popleft() for _ in range(limit)]


class Reply(Protocol):
    """What a broker's reader makes of a message that came. `timestamp`: Unix time. `fault`: why it can't be read."""

    @property
    def body(self) -> bytes: ...
    @property
    def headers(self) -> Mapping[str, str]: ...
    @property
    def timestamp(self) -> float | None: ...
    @property
    def fault(self) -> Exception | None: ...


class ReplyInbox(Generic[T]):
    """Replies that nobody acknowledges. `address` reaches it from any connection; `read` opens what came."""

    def __init__(
        self,
        source: Source,
        mailbox: Mailbox[T],
        address: str,
        read: Callable[[T], Reply],
        close: Callable[[], Awaitable[None]],
    ) -> None:
        self.address = address
        self._source = source
        self._mailbox = mailbox
        self._read = read
        self._close = close

    async def receive(self, limit: int, wait: float) -> Sequence[Delivery]:
        """The replies that came."""
        arrived = [self._read(each) for each in await self._mailbox.take(limit, wait)]
        return [
            Delivery(each.body, self._source, each.headers, each, sent_at=each.timestamp, raw=each, fault=each.fault)
            for each in arrived
        ]

    async def settle(self, batch: Sequence[Settlement]) -> Sequence[BusError | None]:
        """There is nothing to say to the server."""
        return [None] * len(batch)

    async def extend(self, batch: Sequence[Delivery], seconds: float) -> Sequence[BusError | None]:
        """There is nothing to say to the server."""
        return [None] * len(batch)

    async def stop(self) -> None:
        """`receive` waits no longer."""
        self._mailbox.close()

    async def close(self) -> None:
        """Replies that come later are dropped by the server."""
        await self._close()
