"""The Bus: what a service holds. Connects brokers, publishes, requests, and runs the handlers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from types import TracebackType
from typing import Any, Self, TypeVar

from fast_depends import Provider

from msgbus.broker import Part
from msgbus.clock import Clock, SystemClock
from msgbus.config import Settings, load_settings
from msgbus.consuming.counts import BusStats, stats_of
from msgbus.consuming.health import Beside, Health, health_of
from msgbus.consuming.rest import at_rest
from msgbus.consuming.runner import Runner, running
from msgbus.consuming.sharing import Shared
from msgbus.envelope.claim import BodyStore
from msgbus.errors import BusError, RegistrationError, bare_errors
from msgbus.handlers.context import CURRENT
from msgbus.handlers.lifespan import Yielded, check_yielded
from msgbus.handlers.middleware import ConsumeMiddleware
from msgbus.handlers.registration import Registration
from msgbus.message import Source
from msgbus.options import OnDead
from msgbus.publishing.link import Link
from msgbus.publishing.middleware import PublishMiddleware
from msgbus.publishing.outlet import Outlet
from msgbus.publishing.port import NOT_OPEN, Ports
from msgbus.router import Router
from msgbus.topic import Queue, Topic
from msgbus.wiring import Equipment, Listener, Wiring, sources_of

T = TypeVar("T")
Request = TypeVar("Request")
Reply = TypeVar("Reply")

Lifespan = Callable[["Bus"], AbstractAsyncContextManager[Any]]


class Bus(Router):
    """Typed publish/subscribe and request/reply over one or several brokers.

    `url`: the default broker; else MSGBUS_URL decides, and memory:// if that is unset. `lifespan(bus)`: an async
    context manager around their life; what it yields, handlers and dependencies get with `from_lifespan`. `store` takes
    bodies too large for the broker. `async with bus:` is for publishing and requests, `async with bus.consuming():`
    runs the handlers too.
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
        self.beside: list[Beside] = []
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
        self._shared: Shared[None] = Shared()
        self._declares = True
        self._wiring: Wiring | None = None
        self._connecting: asyncio.Future[None]
        self._ports = Ports(NOT_OPEN)

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
    def store(self) -> BodyStore | None:
        """What takes bodies that are too large for the broker."""
        return self._equipment.store

    @property
    def links(self) -> Mapping[str, Link]:
        """The connection to each broker by its URL; none while the bus is closed."""
        wiring = self._wiring  # once: `health` may be called from any thread
        return {} if wiring is None else wiring.links

    @contextmanager
    def exchanged(self, url: str, clock: Clock, listener: Listener) -> Iterator[Settings]:
        """Another broker for everything and another clock, for the length of the block; yields the settings in force.

        `listener` sees what the middlewares make of messages. For tests, while the bus is closed: see TestBus.
        """
        if self._users:
            raise BusError("the bus is open already")
        before = (self._settings, self.clock, self._equipment)
        try:
            instead = {"url": url, "routes": {}, "provision": "create", "on_failure": "exit"}
            self._settings = self.settings.model_copy(update=instead)
            self.clock, self._equipment = clock, self._equipment.heard_by(listener)
            yield self._settings
        finally:
            self._settings, self.clock, self._equipment = before

    # -- life

    async def __aenter__(self) -> Self:
        """Connect every broker that the settings name, and get ready for what `publishes` declared.

        Raises the broker's error where that fails, ConfigError where a broker lacks what a declaration demands.
        """
        self._check_opens()
        self._users += 1
        if self._users == 1:
            self._connecting = asyncio.ensure_future(self._connect())
        try:
            await asyncio.shield(self._connecting)  # whoever else opens it waits for the same
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    def _check_opens(self) -> None:
        """Raises ConfigError for settings that can't be read, RegistrationError for handlers that nobody would run."""
        _ = self.settings
        known = {id(each.bound) for each in self.registrations}
        found = (each for router in self._family() for each in router.registrations)
        if late := [f"{each.bound.name} of {each.target!r}" for each in found if id(each.bound) not in known]:
            raise RegistrationError(f"declared after its router was included, so not run: {', '.join(late)}")

    async def _connect(self) -> None:
        self._wiring = wiring = Wiring(self.settings, self.clock, self._equipment)
        self._join(wiring)
        async with bare_errors():
            await wiring.connect(self.registrations, self.published)
            if self._declares:
                await wiring.publish_to(self.published)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Send what was taken, then disconnect."""
        self._users -= 1
        if self._users:
            return
        self._connecting.cancel()
        await asyncio.wait([self._connecting])
        wiring, self._wiring = self._wiring, None
        if wiring is not None:
            self._leave(wiring)
            await wiring.close()

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[Self]:
        """Connect and nothing else: what is declared is neither looked at nor made. For tools."""
        if self._users:
            raise BusError("the bus is open already")
        self._declares = False
        try:
            async with self:
                yield self
        finally:
            self._declares = True

    @asynccontextmanager
    async def consuming(self) -> AsyncIterator[Self]:
        """Connect and run the handlers for the length of the block.

        Leaving it stops softly: nothing new is taken, what is unstarted goes back, running handlers end, within
        `settings.grace` seconds. A subscription that dies of something no new receiver can cure cancels the block
        and its exception is raised here. Handlers run once, until the first block is left: another one that is entered
        meanwhile (a web application's lifespan in a TestBus) shares them.
        """
        async with self, self._shared.enter(self._consume):
            yield self

    @asynccontextmanager
    async def _consume(self) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            runners = await self._wired().runners(self.registrations)
            value = None if self._lifespan is None else await stack.enter_async_context(self._lifespan(self))
            yielded = Yielded(value)
            for each in (runner.subscription for runner in runners):
                check_yielded(each.source, each.models, yielded, self.dependencies)
                each.yielded = yielded
            self.runners = runners
            await stack.enter_async_context(running(runners, self.settings.grace, self.clock))
            yield

    def health(self) -> Health:
        """What a liveness and a readiness probe should know, and metrics. May be called from any thread."""
        return health_of(tuple(self.links.values()), self.runners, tuple(self.beside), is_open=self._users > 0)

    def stats(self) -> BusStats:
        """What it has done and what it holds, in numbers. May be called from any thread."""
        return stats_of(tuple(self.links.values()), tuple(self.runners))

    async def idle(self, *, timeout: float | None = None) -> Sequence[Source]:
        """Wait until nothing is in hand, being sent, or ready for the handlers; for jobs that end when all is done.

        Waiting retries are in hand, or in what the broker counts. It knows what this process holds, and of the rest
        what the broker counts (`Capabilities.backlog`): "all" is everything of the group, other instances' included;
        "ready" leaves out what is delayed or with others; of the subscriptions that are returned nothing else is known.
        Raises Timeout after `timeout` seconds, with what is left; BusError in a handler, which would wait for itself.
        """
        if CURRENT.get() is not None:
            raise BusError("idle() is not for handlers: it would wait for the message that is being handled")
        wiring = self._wired()
        return await at_rest(tuple(wiring.links.values()), self.runners, self.clock, wiring.alarms, timeout)

    def sources(self) -> list[tuple[Source, list[Registration]]]:
        """What the decorated handlers read, with the names that the settings give."""
        return sources_of(self.registrations, self.settings, self.store)

    def needs(self) -> dict[Link, list[Part]]:
        """What must exist for all that is declared, by the link that carries it.

        Raises ConfigError for what a broker can't do, BusError where the bus is not open."""
        return self._wired().needs(self.registrations, self.published)

    async def outlet_for(self, target: Topic[Any] | Queue[Any]) -> Outlet:
        """Where what is declared is sent, for what sends messages made before. Raises ConfigError, BusError."""
        return await self._wired().outlet_for(target)

    def draft(self, target: Topic[Any] | Queue[Any]) -> Outlet:
        """What makes messages for it and can't send them: needs no connection. Raises ConfigError."""
        return Wiring(self.settings, self.clock, self._equipment).draft(target)

    def link_for(self, name: str) -> Link:
        """The link that carries a topic, queue or call. Raises BusError where the bus is not open."""
        return self._wired().link_for(name)

    def _wired(self) -> Wiring:
        if self._wiring is None:
            raise BusError(NOT_OPEN)
        return self._wiring
