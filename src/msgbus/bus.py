"""The Bus: what a service holds. Connects brokers, publishes, requests, and runs the handlers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import replace
from types import TracebackType
from typing import Any, Self, TypeVar

from fast_depends import Provider

from msgbus.calling import Call
from msgbus.clock import Alarms, Clock, SystemClock
from msgbus.config import Settings, load_settings
from msgbus.consuming.health import Health, health_of
from msgbus.consuming.runner import Runner
from msgbus.envelope.claim import BodyStore
from msgbus.errors import BusError
from msgbus.handlers.middleware import ConsumeMiddleware
from msgbus.handlers.registration import Registration
from msgbus.message import Receipt, Source
from msgbus.options import OnDead, SendOptions
from msgbus.publishing.deadline import Deadline
from msgbus.publishing.link import Link
from msgbus.publishing.middleware import PublishMiddleware
from msgbus.publishing.outlet import Outlet
from msgbus.router import Router
from msgbus.topic import Queue, Rpc, Topic
from msgbus.wiring import Equipment, Wiring, sources_of

T = TypeVar("T")
Request = TypeVar("Request")
Reply = TypeVar("Reply")

Lifespan = Callable[["Bus"], AbstractAsyncContextManager[Any]]


class Bus(Router):
    """Typed publish/subscribe and request/reply over one or several brokers.

    `url`: the default broker; without it MSGBUS_URL decides, and memory:// if that is unset. `lifespan(bus)`: an
    async context manager around the handlers' life. `store` takes bodies that are too large for the broker. Use it
    as `async with bus:` to publish and request, or `async with bus.consuming():` to run the handlers too.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        settings: Settings | None = None,
        middlewares: Sequence[ConsumeMiddleware] = (),
        publish_middlewares: Sequence[PublishMiddleware] = (),
        on_dead: Sequence[OnDead] = (),
        store: BodyStore | None = None,
        lifespan: Lifespan | None = None,
        clock: Clock | None = None,
    ) -> None:
        super().__init__()
        self.dependencies = Provider()
        self.clock = clock or SystemClock()
        self.runners: list[Runner] = []
        self._equipment = Equipment(
            dependencies=self.dependencies,
            middlewares=tuple(middlewares),
            publish_middlewares=tuple(publish_middlewares),
            on_dead=tuple(on_dead),
            store=store,
        )
        self._url = url
        self._given_settings = settings
        self._settings: Settings | None = None
        self._lifespan = lifespan
        self._users = 0
        self._wiring: Wiring | None = None
        self._connecting: asyncio.Future[None]
        # Of the wiring, to be found quickly at each publish:
        self._outlets: Mapping[object, Outlet] = {}
        self._calls: Mapping[object, Call] = {}
        self._alarms: Alarms
        self._timeout = 30.0

    @property
    def settings(self) -> Settings:
        """The settings in force; read from the environment when first needed. Raises ConfigError."""
        if self._settings is None:
            given = {} if self._url is None else {"url": self._url}
            self._settings = self._given_settings or load_settings(**given)
            if self._given_settings is not None and given:
                self._settings = self._settings.model_copy(update=given)
        return self._settings

    @property
    def links(self) -> Mapping[str, Link]:
        """The connection to each broker by its URL; none while the bus is closed."""
        wiring = self._wiring  # once: `health` may be called from any thread
        return {} if wiring is None else wiring.links

    @contextmanager
    def exchanged(self, url: str, clock: Clock, publish: PublishMiddleware) -> Iterator[Settings]:
        """Another broker for everything and another clock, for the length of the block; yields the settings in force.

        `publish` becomes the innermost middleware. For tests, while the bus is closed: TestBus is built on it.
        """
        if self._users:
            raise BusError("the bus is open already")
        before = (self._settings, self.clock, self._equipment)
        inner = (*self._equipment.publish_middlewares, publish)
        try:
            instead = {"url": url, "routes": {}, "provision": "create", "on_failure": "exit"}
            self._settings = self.settings.model_copy(update=instead)
            self.clock, self._equipment = clock, replace(self._equipment, publish_middlewares=inner)
            yield self._settings
        finally:
            self._settings, self.clock, self._equipment = before

    # -- life

    async def __aenter__(self) -> Self:
        """Connect every broker that the settings name. Raises the broker's error where that fails."""
        self._timeout = self.settings.publish_timeout
        self._users += 1
        if self._users == 1:
            self._connecting = asyncio.ensure_future(self._connect())
        try:
            await asyncio.shield(self._connecting)  # whoever else opens it waits for the same
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def _connect(self) -> None:
        self._wiring = wiring = Wiring(self.settings, self.clock, self._equipment)
        self._outlets, self._calls, self._alarms = wiring.outlets, wiring.calls, wiring.alarms
        async with _bare_errors():
            await wiring.connect()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Send what was taken, then disconnect."""
        self._users -= 1
        if self._users:
            return
        self._connecting.cancel()
        await asyncio.wait([self._connecting])
        wiring, self._wiring, self._outlets, self._calls = self._wiring, None, {}, {}
        if wiring is not None:
            await wiring.close()

    @asynccontextmanager
    async def consuming(self) -> AsyncIterator[Self]:
        """Connect and run the handlers for the length of the block.

        Leaving it stops softly: nothing new is taken, what is unstarted goes back, running handlers end, within
        `settings.grace` seconds. A subscription that dies of something no new receiver can cure cancels the block
        and its exception is raised here.
        """
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self)
            runners = await self._wired().runners(self.registrations)
            if self._lifespan is not None:
                await stack.enter_async_context(self._lifespan(self))
            async with _bare_errors(), asyncio.TaskGroup() as group:
                self.runners = runners
                for runner in runners:
                    group.create_task(runner.run(), name=f"msgbus {runner.subscription.source}")
                try:
                    yield self
                finally:
                    await self._stop(runners)

    async def _stop(self, runners: Sequence[Runner]) -> None:
        """In a task of its own, shielded: a cancelled service must still hand back what it holds."""
        stopping = asyncio.ensure_future(asyncio.gather(*(runner.stop(self.settings.grace) for runner in runners)))
        try:
            await asyncio.shield(stopping)
        except asyncio.CancelledError:
            await stopping
            raise

    def health(self) -> Health:
        """What a liveness and a readiness probe should know, and metrics. May be called from any thread."""
        return health_of(tuple(self.links.values()), self.runners, is_open=self._users > 0)

    def sources(self) -> list[tuple[Source, list[Registration]]]:
        """What the decorated handlers read, with the names that the settings give."""
        return sources_of(self.registrations, self.settings, self._equipment.store)

    def link_for(self, name: str) -> Link:
        """The link that carries a topic, queue or call. Raises BusError where the bus is not open."""
        return self._wired().link_for(name)

    def _wired(self) -> Wiring:
        if self._wiring is None:
            raise BusError("the bus is not open: use `async with bus:` or `async with bus.consuming():`")
        return self._wiring

    # -- publishing

    async def publish(
        self,
        topic: Topic[T],
        payload: T,
        *,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
        delay: float = 0.0,
        options: SendOptions | None = None,
        timeout: float | None = None,
    ) -> Receipt:
        """Publish to every group of a topic; returns when the broker has confirmed it.

        `key`: instead of the topic's own. `delay` in seconds, where the broker can. `timeout`: seconds until
        Timeout is raised, by default `settings.publish_timeout`; the message may have arrived all the same.
        Raises Refused where the message or the broker makes it impossible.
        """
        outlet = self._outlets.get(topic) or await self._wired().outlet_for(topic, Topic)
        out = outlet.prepare(payload, key, headers, delay, options)
        with Deadline(self._alarms, self._timeout if timeout is None else timeout, outlet.address):
            (result,) = await outlet.send((out,))
        return result if type(result) is Receipt and not result.unrouted else outlet.receipt(result)

    async def publish_many(
        self,
        topic: Topic[T] | Queue[T],
        payloads: Iterable[T],
        *,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> Sequence[Receipt]:
        """Publish (or send to a queue) many at once, in as few calls of the broker as its limits allow.

        One receipt per payload, in order. Raises PublishFailed with one result per payload where an entry failed
        (too large, of the wrong type, refused by the broker); the others were sent.
        """
        outlet = self._outlets.get(topic) or await self._wired().outlet_for(topic, (Topic, Queue))
        batch, refused = outlet.prepare_many(payloads, headers)
        if not batch:
            return outlet.receipts([], refused)
        with Deadline(self._alarms, self._timeout if timeout is None else timeout, outlet.address):
            results = await outlet.send(batch)
        return outlet.receipts(results, refused)

    async def send(
        self,
        queue: Queue[T],
        payload: T,
        *,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
        delay: float = 0.0,
        options: SendOptions | None = None,
        timeout: float | None = None,
    ) -> Receipt:
        """Send to a queue, where one consumer gets it. As `publish` otherwise."""
        outlet = self._outlets.get(queue) or await self._wired().outlet_for(queue, Queue)
        out = outlet.prepare(payload, key, headers, delay, options)
        with Deadline(self._alarms, self._timeout if timeout is None else timeout, outlet.address):
            (result,) = await outlet.send((out,))
        return result if type(result) is Receipt and not result.unrouted else outlet.receipt(result)

    async def request(
        self,
        rpc: Rpc[Request, Reply],
        payload: Request,
        *,
        timeout: float = 30.0,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Ask and await the reply. Raises Timeout after `timeout` seconds, RemoteError where the responder failed
        or its reply is not of the declared type, Disconnected where the reply may be lost.
        """
        call = self._calls.get(rpc) or await self._wired().call_for(rpc)
        with Deadline(self._alarms, timeout, rpc):
            reply: Reply = await call.request(payload, timeout, key, dict(headers or {}))
        return reply


@asynccontextmanager
async def _bare_errors() -> AsyncIterator[None]:
    """One exception of a task group is raised as itself."""
    try:
        yield
    except BaseExceptionGroup as group:
        if len(group.exceptions) == 1:
            raise group.exceptions[0] from group.exceptions[0].__cause__
        raise
