"""A service's own bus, run by a test on a private embedded broker."""

from __future__ import annotations

import asyncio
import functools
import itertools
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, contextmanager
from types import TracebackType
from typing import Any, ClassVar, Concatenate, ParamSpec, Self, TypeVar
from urllib.parse import urlsplit

from fast_depends import Provider

from msgbus.brokers.memory import MemoryBroker
from msgbus.bus import Bus
from msgbus.clock import Clock
from msgbus.config import Settings
from msgbus.consuming.runner import Runner
from msgbus.errors import BusError, ConfigError
from msgbus.router import Router
from msgbus.testing.journal import Journal
from msgbus.testing.recorder import Recorder
from msgbus.testing.settling import NotSettled, Pacer
from msgbus.testing.virtual import VirtualClock

T = TypeVar("T")
P = ParamSpec("P")

_LEAVE = 1.0  # real seconds that a handler may still run when the block ends, before its grace passes

_AT_ONCE = 0.001  # real seconds after which a publish or a request waits for something

_names = itertools.count(1)


def _paced(
    verb: Callable[Concatenate[Bus, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[TestBus, P], Coroutine[Any, Any, T]]:
    """A verb of the bus; the virtual clock is turned where it waits for it, or until its own deadline."""

    @functools.wraps(verb)
    async def paced(test: TestBus, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await test._run(verb(test.bus, *args, **kwargs))

    return paced


class TestBus(Journal):
    """Runs a Bus for the length of a block: `async with TestBus(bus) as test:`.

    It is that very Bus, not a copy: handlers that publish through the module's `bus`, its registrations,
    middlewares, hooks, lifespan and dependencies are what runs in production. Only where it connects to (a broker of
    its own in this process, whatever MSGBUS_URL says) and its clock are exchanged, and put back at the end.

    `peers`: handlers that play other services, so that what this one sends and asks finds somebody. `clock`:
    VirtualClock by default; a SystemClock makes retries and delays take their real time. `url`: options of the
    embedded broker, such as `memory://?replay=100`. `patience`: real seconds that `settled` and `request` may take.
    `publish`, `publish_many`, `send`, `request` and `idle` are those of the bus; where they wait, the virtual clock is
    turned.
    """

    __test__: ClassVar[bool] = False  # pytest: this is no test case

    def __init__(
        self,
        bus: Bus,
        *,
        peers: Router | None = None,
        clock: Clock | None = None,
        url: str = "memory://",
        patience: float = 5.0,
    ) -> None:
        self.bus = bus
        self.clock: Clock = clock or VirtualClock()
        super().__init__(Recorder(self.clock))
        self._url = _private(url)
        self._patience = patience
        self._peers = peers
        self._pacer: Pacer
        self._exchanged = AsyncExitStack()
        self._leave = asyncio.Event()
        self._life: asyncio.Task[None]

    # -- life

    async def __aenter__(self) -> Self:
        """Connect and run the handlers. Raises what `bus.consuming()` raises, BusError where the bus is open."""
        async with AsyncExitStack() as stack:
            if self._leave.is_set():
                raise BusError("a TestBus is for one block: make another one")
            stack.enter_context(_overrides_undone(self.bus.dependencies))
            settings = stack.enter_context(self.bus.exchanged(self._url, self.clock, self._recorder))
            started = asyncio.get_running_loop().create_future()
            self._prefix = settings.prefix
            self._life = asyncio.create_task(self._live(settings, started), name="msgbus TestBus")
            stack.push_async_callback(_end, self._life)
            await asyncio.wait([self._life, started], return_when=asyncio.FIRST_COMPLETED)
            if self._life.done():
                self._life.result()
            self._exchanged = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop as a service stops. Raises what a consumer died of."""
        async with self._exchanged:
            self._leave.set()
            try:
                await self._pacer.until(self._life.done, min(self._patience, _LEAVE))
            except NotSettled:
                await self._let_grace_pass()
            await self._life

    async def _live(self, settings: Settings, started: asyncio.Future[None]) -> None:
        """In a task of its own: pytest fixtures are entered and left in different tasks."""
        buses = [self.bus]
        if self._peers is not None:
            peers = Bus(settings=settings, clock=self.clock, publish_middlewares=[self._recorder.publish])
            peers.include(self._peers)
            buses.insert(0, peers)
        async with AsyncExitStack() as stack:
            runners: list[Runner] = []
            for bus in buses:
                await stack.enter_async_context(bus.consuming())
                self._watch(bus)
                runners += bus.runners
            broker = self.bus.links[self._url].broker
            assert isinstance(broker, MemoryBroker)  # noqa: S101 - its URL says so
            self._pacer = Pacer(broker.hub, runners, self._recorder, self.clock)
            started.set_result(None)
            await self._leave.wait()

    def _watch(self, bus: Bus) -> None:
        """Before the runners' tasks have had their first turn."""
        members = {source.address: registrations for source, registrations in bus.sources()}
        for runner in bus.runners:
            if runner.session is not None:
                raise BusError("TestBus: the handlers began before they could be watched")
            self._recorder.watch(runner, members[runner.subscription.source.address])

    async def _let_grace_pass(self) -> None:
        """A handler does not end: let the time pass after which the bus cancels it."""
        while isinstance(self.clock, VirtualClock) and not self._life.done():
            await self.clock.advance(1.0)
            await asyncio.sleep(0.001)

    @property
    def virtual(self) -> VirtualClock:
        """The clock, where it is virtual. Raises BusError where it is not."""
        if not isinstance(self.clock, VirtualClock):
            raise BusError(f"this needs a VirtualClock, the test runs on {type(self.clock).__name__}")
        return self.clock

    # -- doing something

    publish = _paced(Bus.publish)
    publish_many = _paced(Bus.publish_many)
    send = _paced(Bus.send)
    request = _paced(Bus.request)
    idle = _paced(Bus.idle)

    async def settled(self, *, patience: float | None = None) -> None:
        """Return when everything that was published, and all that it caused, has been handled or is dead.

        Retries and delayed messages are not waited for: the virtual clock is turned on to them. It stands while a
        handler waits for something real. A stretch of more than a minute in which only delayed messages are pending
        is skipped in one jump, so a periodic task on the bus's clock runs once in it. Raises NotSettled, which
        says what is pending, after `patience` real seconds, and what a consumer died of.
        """
        self._check_alive()
        await self._until(lambda: not self._pacer.pending(), patience)

    async def advance(self, seconds: float) -> None:
        """Turn the virtual clock by hand, whoever waits for whatever: retries, leases and deadlines come in order."""
        self._check_alive()
        await self._pacer.advance(self.virtual, seconds)
        self._check_alive()

    def override(self, dependency: Callable[..., Any], replacement: Callable[..., Any]) -> None:
        """Have `Depends(dependency)` call `replacement` instead, until the block ends."""
        self.bus.dependencies.override(dependency, replacement)

    async def _run(self, work: Coroutine[Any, Any, T]) -> T:
        task = asyncio.create_task(work)
        try:
            await asyncio.wait([task], timeout=_AT_ONCE)
            if not task.done():
                await self._until(task.done, None)
        except BaseException:
            await _end(task)
            raise
        return await task

    async def _until(self, done: Callable[[], bool], patience: float | None) -> None:
        def is_done() -> bool:
            if done():
                return True
            self._check_alive()
            return False

        await self._pacer.until(is_done, self._patience if patience is None else patience)

    def _check_alive(self) -> None:
        if self._life.done():
            self._life.result()
            raise BusError("the TestBus is closed: use it within `async with`")


@contextmanager
def _overrides_undone(provider: Provider) -> Iterator[None]:
    before = dict(provider.overrides)
    try:
        yield
    finally:
        provider.overrides = before


def _private(url: str) -> str:
    """The embedded broker of this test alone, which its two buses find by name; a name that is given is kept."""
    parts = urlsplit(url)
    if parts.scheme != "memory":
        raise ConfigError(f"TestBus runs on the embedded broker, url={url!r} must begin with memory://")
    name = parts.netloc or f"test-{next(_names)}"
    return f"memory://{name}" + (f"?{parts.query}" if parts.query else "")


async def _end(task: asyncio.Task[Any]) -> None:
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        task.exception()  # looked at, so that it is not reported as never retrieved
