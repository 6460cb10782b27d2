"""A clock that is turned by hand, and a broker that does what a test tells it, for what the embedded one can't do."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

from msgbus import Bus
from msgbus import headers as h
from msgbus.broker import Admin, Backlog, Capabilities, Difference, Mode, Part, Status
from msgbus.clock import Clock
from msgbus.errors import BusError, Refused
from msgbus.handlers.subscription import Subscription
from msgbus.message import Act, Delivery, Outgoing, Receipt, Settlement, Source, Start
from msgbus.options import Lease, Options, Retry

Result = Receipt | BusError
OnSend = Callable[[Sequence[Outgoing]], Awaitable[Sequence[Result]]]

EPOCH = 1_800_000_000.0
_GATHERED = 0.0015  # seconds: longer than the settle_linger of the embedded broker
_TURNS = 50  # of the event loop: enough for everything that does not wait for time

PLAIN = Capabilities(
    send_batch=10,
    send_slots=2,
    binary=True,
    receive_batch=10,
    settle_batch=10,
    retry_delay=900.0,
    dead_letters=True,
    fanout=True,
    queues=True,
    reply=True,
)
"""An ordinary broker: native headers, native retries, no order and no lease."""


async def ignore(delivery: Delivery) -> None:
    """A handler that does nothing."""


def subscription_on(
    source: Source, capabilities: Capabilities = PLAIN, *, retry: Retry | None = None, lease: Lease | None = None
) -> Subscription:
    """A subscription of a handler that does nothing, for tests of what stands around it."""
    options = Options.of(retry=retry, limits=None, lease=lease, batch=None)
    return Subscription(
        source=source, capabilities=capabilities, handle=ignore, options=options, concurrency=1, prefetch=4
    )


async def turns(count: int = _TURNS) -> None:
    """Let the event loop do all that needs no time."""
    for _ in range(count):
        await asyncio.sleep(0)


async def _rest() -> None:
    """As `turns`, and the moment of real time in which a receiver gathers settlements."""
    await turns()
    await asyncio.sleep(_GATHERED)
    await turns(5)


class HandTimer:
    """What `HandClock.call_later` gives back."""

    def __init__(self, callback: Callable[[], object]) -> None:
        self.callback: Callable[[], object] | None = callback

    def cancel(self) -> None:
        """Never ring."""
        self.callback = None


class HandClock:
    """A Clock whose time passes only when a test says so."""

    def __init__(self) -> None:
        self._now = 1000.0
        self._timers: list[tuple[float, int, HandTimer]] = []
        self._order = itertools.count()

    def now(self) -> float:
        return self._now

    def time(self) -> float:
        return EPOCH + self._now

    def call_later(self, delay: float, callback: Callable[[], object]) -> HandTimer:
        timer = HandTimer(callback)
        heapq.heappush(self._timers, (self._now + delay, next(self._order), timer))
        return timer

    async def sleep(self, seconds: float) -> None:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.call_later(seconds, lambda: None if done.done() else done.set_result(None))
        await done

    async def advance(self, seconds: float) -> None:
        """Let `seconds` pass, timer by timer."""
        end = self._now + seconds
        await _rest()
        while (at := self._next()) is not None and at <= end:
            await self._ring(at)
        self._now = end

    async def until(self, condition: Callable[[], object], most: float = 600.0) -> None:
        """Let time pass until the condition holds; fails after `most` seconds of this clock."""
        end = self._now + most
        await _rest()
        while not condition():
            at = self._next()
            assert at is not None, "nothing is left that could happen, and the condition does not hold"
            assert at <= end, f"the condition does not hold after {most:g} s"
            await self._ring(at)

    async def run(self) -> None:
        """Let time fly, until this is cancelled."""
        await _rest()
        while True:
            if (at := self._next()) is not None:
                await self._ring(at)
            else:
                await asyncio.sleep(0)

    def _next(self) -> float | None:
        while self._timers and self._timers[0][2].callback is None:
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    async def _ring(self, at: float) -> None:
        timer = heapq.heappop(self._timers)[2]
        self._now = max(self._now, at)
        if timer.callback is not None:
            timer.callback()
        await _rest()


@asynccontextmanager
async def consuming(bus: Bus, clock: HandClock) -> AsyncIterator[Bus]:
    """`bus.consuming()`, and time flies while it stops."""
    flies: asyncio.Task[None] | None = None
    try:
        async with bus.consuming():
            try:
                yield bus
            finally:
                flies = asyncio.create_task(clock.run())
    finally:
        if flies is not None:
            flies.cancel()


T = TypeVar("T")


class Seen(list[T]):
    """A list that can be waited for, where something real takes its time."""

    async def reach(self, count: int) -> None:
        """Until there are so many."""
        while len(self) < count:
            self._grown = asyncio.Event()
            await self._grown.wait()

    _grown: asyncio.Event | None = None

    def append(self, thing: T) -> None:
        super().append(thing)
        if self._grown is not None:
            self._grown.set()


class ScriptedAdmin:
    """Everything is there already."""

    def __init__(self) -> None:
        self.ensured: list[Part] = []
        self.differences: Sequence[Difference] = ()

    async def ensure(self, topology: Sequence[Part], mode: Mode) -> Sequence[Difference]:
        self.ensured.extend(topology)
        return self.differences

    async def dead_letters(self, source: Source) -> Source | None:
        return None

    async def purge(self, source: Source) -> int:
        return 0

    async def backlog(self, source: Source) -> Backlog | None:
        return None

    async def seek(self, source: Source, start: Start) -> None:
        raise Refused("no replay")


class ScriptedBroker:
    """Sends what `on_send` says, hands in what `feed` was given, remembers what it was asked.

    `on_settle(settlement)` and `on_extend(delivery)` give the result of one entry. An exception fed to a receiver
    is raised by its `receive`; `on_settling(batch)` is awaited before a batch is settled. `on_connect` and `on_open`
    are awaited by `connect` and when a receiver opens, and may raise.
    """

    def __init__(self, capabilities: Capabilities = PLAIN) -> None:
        self.admin: Admin = ScriptedAdmin()
        self.caps = capabilities
        self.connected = False
        self.connects = 0
        self.sent: list[Sequence[Outgoing]] = []
        self.settled: list[Settlement] = []
        self.settle_calls: list[Sequence[Settlement]] = []
        self.extended: list[tuple[Delivery, float]] = []
        self.receivers: list[ScriptedReceiver] = []
        self.on_send: OnSend = _accept
        self.on_settle: Callable[[Settlement], BusError | None] = lambda settlement: None
        self.on_settling: Callable[[Sequence[Settlement]], Awaitable[None]] = _at_once
        self.on_extend: Callable[[Delivery], BusError | None] = lambda delivery: None
        self.on_connect: Callable[[], Awaitable[None]] = _nothing
        self.on_open: Callable[[], Awaitable[None]] = _nothing
        self.waiting: dict[str, deque[Delivery | Exception]] = {}

    async def connect(self) -> None:
        self.connects += 1
        self.connected = False
        await self.on_connect()
        self.connected = True

    async def close(self) -> None:
        self.connected = False

    def capabilities(self, source: Source | None = None) -> Capabilities:
        return self.caps

    def status(self) -> Status:
        return Status(self.connected)

    async def send(self, batch: Sequence[Outgoing]) -> Sequence[Result]:
        self.sent.append(list(batch))
        return await self.on_send(batch)

    @asynccontextmanager
    async def receiver(self, source: Source, *, prefetch: int) -> AsyncIterator[ScriptedReceiver]:
        await self.on_open()
        receiver = ScriptedReceiver(self, source, prefetch)
        self.receivers.append(receiver)
        try:
            yield receiver
        finally:
            receiver.is_open = False

    def feed(self, name: str, *things: Delivery | Exception) -> None:
        """Have the next receiver of the source `name` hand these in, or raise them."""
        self.waiting.setdefault(name, deque()).extend(things)
        for receiver in self.receivers:
            receiver.wake()

    def acts(self) -> list[tuple[Act, str]]:
        """What was settled, in order: what became of which message id."""
        return [(s.act, s.delivery.headers.get(h.ID, "")) for s in self.settled]


class ScriptedReceiver:
    """A receiver of one source."""

    def __init__(self, broker: ScriptedBroker, source: Source, prefetch: int) -> None:
        self.address = f"inbox-{len(broker.receivers) + 1}" if source.kind == "reply" else ""
        self.broker = broker
        self.source = source
        self.prefetch = prefetch
        self.is_open = True
        self.stopped = False
        self.limits: list[int] = []
        self.on_lost: Callable[[Delivery, Exception], None] | None = None
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Look again."""
        self._woken.set()

    async def receive(self, limit: int, wait: float) -> Sequence[Delivery]:
        self.limits.append(limit)
        waiting = self.broker.waiting.setdefault(self.source.name, deque())
        while not waiting:
            if self.stopped or wait <= 0:
                return []
            self._woken.clear()
            await self._woken.wait()
        batch: list[Delivery] = []
        while waiting and len(batch) < limit:
            thing = waiting[0]
            if isinstance(thing, Delivery):
                batch.append(thing)
            elif not batch:
                raise waiting.popleft()  # type: ignore[misc]
            else:
                break
            waiting.popleft()
        return batch

    async def settle(self, batch: Sequence[Settlement]) -> Sequence[BusError | None]:
        assert self.is_open, "settled through a closed receiver"
        await self.broker.on_settling(batch)
        self.broker.settle_calls.append(list(batch))
        self.broker.settled.extend(batch)
        return [self.broker.on_settle(settlement) for settlement in batch]

    async def extend(self, batch: Sequence[Delivery], seconds: float) -> Sequence[BusError | None]:
        self.broker.extended.extend((delivery, seconds) for delivery in batch)
        return [self.broker.on_extend(delivery) for delivery in batch]

    async def stop(self) -> None:
        self.stopped = True
        self._woken.set()


def delivery(source: Source, message_id: str, body: bytes = b"{}", lane: str | None = None, **headers: str) -> Delivery:
    """A delivery with an id; header names are written with `_` for `-`."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Delivery(body, source, {h.ID: message_id, h.CONTENT_TYPE: "application/json", **named}, lane=lane)


async def _accept(batch: Sequence[Outgoing]) -> Sequence[Result]:
    return [Receipt(out.id) for out in batch]


async def _at_once(batch: Sequence[Settlement]) -> None:
    await asyncio.sleep(0)


async def _nothing() -> None:
    return None


BROKERS: dict[str, ScriptedBroker] = {}
"""What `scripted://NAME` opens; filled by the fixture `scripted`."""


def open_scripted(url: str, *, clock: Clock) -> ScriptedBroker:
    """What the scheme `scripted` opens."""
    return BROKERS[url.removeprefix("scripted://")]
