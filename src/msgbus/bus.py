"""The Bus: what a service holds. Connects brokers, publishes, requests, and runs the handlers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar

from fast_depends import Provider

from msgbus.broker import Difference, Lag, Part, TopicSpec
from msgbus.brokers import open_broker, shown
from msgbus.claim import BodyStore, fetching, fetching_batch
from msgbus.clock import Alarms, Clock, SystemClock
from msgbus.config import Settings, load_settings
from msgbus.consume import Consumer
from msgbus.deadline import Deadline
from msgbus.dispatch import decoder
from msgbus.errors import BusError, ConfigError
from msgbus.ids import Stamps
from msgbus.link import Link
from msgbus.message import Address, Receipt, Source
from msgbus.middleware import ConsumeMiddleware, compose, compose_batch
from msgbus.options import OnDead
from msgbus.plan import Plan
from msgbus.planning import check, group_by_place, plan_of, source_of, topology_of
from msgbus.publish import Outlet, Payloads, PublishMiddleware, SendOptions
from msgbus.reply import Call, Inbox, Responder
from msgbus.router import Registration, Router
from msgbus.topic import Queue, Rpc, Topic

T = TypeVar("T")
Request = TypeVar("Request")
Reply = TypeVar("Reply")

log = logging.getLogger("msgbus.bus")

Lifespan = Callable[["Bus"], AbstractAsyncContextManager[Any]]


@dataclass(frozen=True, slots=True)
class Health:
    """`live`: nothing has died. `ready`: it can publish and, when consuming, receive. `problems` says what is wrong.

    `lags`: how late each subscription is with each shard that this process reads, where the broker is a log.
    """

    live: bool
    ready: bool
    problems: tuple[str, ...] = ()
    lags: tuple[Lag, ...] = ()


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
        self.consumers: list[Consumer] = []
        self.links: dict[str, Link] = {}
        self._url = url
        self._given_settings = settings
        self._middlewares = tuple(middlewares)
        self._publish_middlewares = tuple(publish_middlewares)
        self._on_dead = tuple(on_dead)
        self._store = store
        self._lifespan = lifespan
        self._alarms: Alarms
        self._stamps = Stamps(self.clock.time)
        self._opened = 0
        self._settings: Settings | None = None
        self._outlets: dict[object, Outlet] = {}
        self._calls: dict[object, Call] = {}
        self._inboxes: dict[Link, Inbox] = {}
        self._opening: asyncio.Lock
        self._connecting: asyncio.Future[None]
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

    @contextmanager
    def exchanged(self, url: str, clock: Clock, publish: PublishMiddleware) -> Iterator[Settings]:
        """Another broker for everything and another clock, for the length of the block; yields the settings in force.

        `publish` becomes the innermost middleware. For tests, while the bus is closed: TestBus is built on it.
        """
        if self._opened:
            raise BusError("the bus is open already")
        before = (self._settings, self.clock, self._stamps, self._publish_middlewares)
        try:
            self._settings = self.settings.model_copy(update={"url": url, "routes": {}, "provision": "create"})
            self.clock, self._stamps = clock, Stamps(clock.time)
            self._publish_middlewares = (*self._publish_middlewares, publish)
            yield self._settings
        finally:
            self._settings, self.clock, self._stamps, self._publish_middlewares = before

    # -- life

    async def __aenter__(self) -> Self:
        """Connect every broker that the settings name. Raises the broker's error where that fails."""
        self._timeout = self.settings.publish_timeout
        self._opened += 1
        if self._opened == 1:
            self._alarms = Alarms(self.clock)
            self._opening = asyncio.Lock()
            self._connecting = asyncio.ensure_future(self._connect())
        try:
            await asyncio.shield(self._connecting)  # whoever else opens it waits for the same
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def _connect(self) -> None:
        urls = {self.settings.url, *self.settings.routes.values()}
        self.links = {url: Link(open_broker(url, self.clock), shown(url), self.clock) for url in urls}
        async with _bare_errors(), asyncio.TaskGroup() as group:
            for link in self.links.values():
                group.create_task(link.open(self.settings.connect_timeout))

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Send what was taken, then disconnect."""
        self._opened -= 1
        if self._opened:
            return
        self._connecting.cancel()
        await asyncio.wait([self._connecting])
        open_ones: list[Inbox | Link] = [*self._inboxes.values(), *self.links.values()]
        for closing in open_ones:
            try:
                await closing.close()
            except Exception:  # the others are closed all the same
                log.exception("closing %s failed", closing)
        self._inboxes.clear()
        self._outlets.clear()
        self._calls.clear()
        self.links = {}

    @asynccontextmanager
    async def consuming(self) -> AsyncIterator[Self]:
        """Connect and run the handlers for the length of the block.

        Leaving it stops softly: nothing new is taken, what is unstarted goes back, running handlers end, within
        `settings.grace` seconds. A consumer that dies of something no new receiver can cure cancels the block and
        its exception is raised here.
        """
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self)
            consumers = await self._consumers()
            if self._lifespan is not None:
                await stack.enter_async_context(self._lifespan(self))
            async with _bare_errors(), asyncio.TaskGroup() as group:
                self.consumers = consumers
                for consumer in consumers:
                    group.create_task(consumer.run(), name=f"msgbus {consumer.plan.source}")
                try:
                    yield self
                finally:
                    await self._stop(consumers)

    async def _stop(self, consumers: Sequence[Consumer]) -> None:
        """In a task of its own, shielded: a cancelled service must still hand back what it holds."""
        stopping = asyncio.ensure_future(asyncio.gather(*(c.stop(self.settings.grace) for c in consumers)))
        try:
            await asyncio.shield(stopping)
        except asyncio.CancelledError:
            await stopping
            raise

    def health(self) -> Health:
        """What a liveness and a readiness probe should know, and metrics. May be called from any thread."""
        dead = [f"{c.plan.source}: {c.error!r}" for c in self.consumers if c.error is not None]
        problems = [f"{link.name}: {link.failure}" for link in self.links.values() if link.failure is not None]
        lags: list[Lag] = []
        for link in list(self.links.values()):
            status = link.broker.status()
            lags += status.lags
            if not status.connected or status.blocked:
                problems.append(f"{link.name}: {status.reason or 'not connected'}")
        if not self._opened:
            problems.append("the bus is not open")
        live = not dead
        return Health(live, live and not problems, (*dead, *problems), tuple(lags))

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
        outlet = self._outlets.get(topic) or await self._open_outlet(topic, Topic)
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
        outlet = self._outlets.get(topic) or await self._open_outlet(topic, (Topic, Queue))
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
        outlet = self._outlets.get(queue) or await self._open_outlet(queue, Queue)
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
        call = self._calls.get(rpc) or await self._open_call(rpc)
        with Deadline(self._alarms, timeout, rpc):
            reply: Reply = await call.request(payload, timeout, key, dict(headers or {}))
        return reply

    # -- wiring

    def link_for(self, name: str) -> Link:
        """The link that carries a topic, queue or call. Raises BusError where the bus is not open."""
        if not self._opened or not self.links:
            raise BusError("the bus is not open: use `async with bus:` or `async with bus.consuming():`")
        return self.links[self.settings.routes.get(name, self.settings.url)]

    async def _open_outlet(self, target: Topic[Any] | Queue[Any], wanted: type | tuple[type, ...]) -> Outlet:
        if not isinstance(target, wanted):
            raise ConfigError(f"got {target!r}: publish() takes a Topic, send() a Queue, request() an Rpc")
        link = self.link_for(target.name)
        async with self._opening:
            if (known := self._outlets.get(target)) is not None:
                return known
            is_topic = isinstance(target, Topic)
            name = self.settings.prefix + target.name
            if is_topic:
                await self._ensure(link, [TopicSpec(name, target.ordered)])
            outlet = Outlet(
                Address("topic" if is_topic else "queue", name),
                Payloads.of(target.type, target.codec),
                link,
                self._stamps,
                service=self.settings.service,
                declared=target,
                store=self._store,
            )
            self._outlets[target] = outlet.through(self._publish_middlewares)
            return outlet

    async def _open_call(self, rpc: Rpc[Any, Any]) -> Call:
        if not isinstance(rpc, Rpc):
            raise ConfigError(f"request() takes an Rpc, got {rpc!r}")
        link = self.link_for(rpc.name)
        if not link.broker.capabilities().reply:
            raise ConfigError(f"{rpc!r}: {link.name} has no reply inboxes; route it with MSGBUS_ROUTES")
        inbox = self._inboxes.get(link)
        if inbox is None:
            inbox = self._inboxes[link] = Inbox(link, self.clock)
        outlet = self._reply_outlet(link, Address("queue", self.settings.prefix + rpc.name), rpc.request, rpc)
        call = self._calls[rpc] = Call(repr(rpc), outlet, inbox, decoder(repr(rpc), rpc.reply, rpc.codec))
        return call

    def _reply_outlet(self, link: Link, address: Address, type_: Any, rpc: Rpc[Any, Any]) -> Outlet:
        payloads = Payloads.of(type_, rpc.codec)
        outlet = Outlet(address, payloads, link, self._stamps, service=self.settings.service, store=self._store)
        return outlet.through(self._publish_middlewares)

    async def _consumers(self) -> list[Consumer]:
        consumers = []
        for members in group_by_place(self.registrations):
            link = self.link_for(members[0].target.name)
            plan = self._plan(members, link)
            await self._ensure(link, topology_of(plan.source, plan.policy, plan.options))
            plan.capabilities = link.broker.capabilities(plan.source)
            consumers.append(Consumer(plan, link, self.clock, self._alarms))
        return consumers

    def _plan(self, members: Sequence[Registration], link: Link) -> Plan:
        source = self._source(members)
        capabilities = link.broker.capabilities(source)
        check(source, members[0].options, capabilities, link.name)
        plan = plan_of(
            members,
            source,
            capabilities,
            self.clock.time,
            self.dependencies,
            (*_own_hook(members), *self._on_dead),
            self.settings.concurrency,
        )
        if isinstance(members[0].target, Rpc):
            self._answer(plan, members[0].target, link)
        self._wrap(plan)
        return plan

    def _wrap(self, plan: Plan) -> None:
        """From the inside out: the store for large bodies, then the middlewares."""
        plan.store = self._store
        if self._store is not None:
            plan.handle = fetching(self._store, plan.handle)
        plan.handle = compose(self._middlewares, plan.handle)
        if plan.handle_batch is not None:
            if self._store is not None:
                plan.handle_batch = fetching_batch(self._store, plan.handle_batch)
            plan.handle_batch = compose_batch(self._middlewares, plan.handle_batch)

    def _answer(self, plan: Plan, rpc: Rpc[Any, Any], link: Link) -> None:
        outlet = self._reply_outlet(link, Address("reply", rpc.name), rpc.reply, rpc)
        responder = Responder(repr(rpc), plan.handle, outlet, self.clock.time)
        plan.handle = responder.handle
        plan.last_word = responder.answer_failure

    async def _ensure(self, link: Link, topology: Sequence[Part]) -> Sequence[Difference]:
        """Create or verify; what differs in verify mode is an error that lists it all."""
        mode = self.settings.provision
        differences = await link.broker.admin.ensure(topology, mode)
        wrong = [d for d in differences if not d.made]
        if mode == "verify" and wrong:
            listed = "; ".join(f"{d.part}: wanted {d.wanted}, found {d.found}" for d in wrong)
            raise ConfigError(f"{link.name} is not as declared (MSGBUS_PROVISION=verify): {listed}")
        return differences

    def sources(self) -> list[tuple[Source, list[Registration]]]:
        """What the decorated handlers read, with the names that the settings give."""
        return [(self._source(members), members) for members in group_by_place(self.registrations)]

    def _source(self, members: Sequence[Registration]) -> Source:
        return source_of(members, self.settings.prefix, has_store=self._store is not None)


def _own_hook(members: Sequence[Registration]) -> tuple[OnDead, ...]:
    hook = members[0].options.retry.on_dead
    return (hook,) if hook is not None else ()


@asynccontextmanager
async def _bare_errors() -> AsyncIterator[None]:
    """One exception of a task group is raised as itself."""
    try:
        yield
    except BaseExceptionGroup as group:
        if len(group.exceptions) == 1:
            raise group.exceptions[0] from group.exceptions[0].__cause__
        raise
