"""What a bus is made of once it is open: its links, and on them the outlets, calls and subscriptions of a service."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from fast_depends import Provider

from msgbus.broker import Difference, Part, Result
from msgbus.calling import Call, Inbox, Responder, replies_allowed
from msgbus.clock import Alarms, Clock, ended_within
from msgbus.config import Settings, likely_mistakes
from msgbus.consuming.runner import Runner
from msgbus.envelope.claim import BodyStore, Closes
from msgbus.errors import ConfigError
from msgbus.handlers.decoding import decoder
from msgbus.handlers.fetching import fetching, fetching_batch
from msgbus.handlers.middleware import ConsumeMiddleware, Handle, compose, compose_batch
from msgbus.handlers.registration import Registration
from msgbus.handlers.subscription import Subscription, group_by_place, source_of, subscription_of
from msgbus.handlers.topology import check, check_target, parts_of_published, topology_of
from msgbus.message import Address, Delivery, Outgoing, Source
from msgbus.options import OnDead
from msgbus.publishing.ids import Stamps
from msgbus.publishing.link import Link
from msgbus.publishing.middleware import PublishMiddleware, SendNext
from msgbus.publishing.outlet import Outlet
from msgbus.publishing.payloads import Payloads
from msgbus.router import Target
from msgbus.topic import Queue, Rpc, Topic

log = logging.getLogger("msgbus.bus")

_LAST_CLOSE = 15.0  # seconds that closing may take: a link's last sends, its broker's goodbyes


class Listener(Protocol):
    """Hears what a bus does from inside its middlewares."""

    async def publish(self, batch: Sequence[Outgoing], send: SendNext) -> Sequence[Result]:
        """The innermost publish middleware."""
        ...

    async def arrived(self, delivery: Delivery, handle: Handle) -> None:
        """The outermost consume middleware, where there are any."""
        ...

    async def reached(self, delivery: Delivery, handle: Handle) -> None:
        """The innermost consume middleware, where there are any."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Equipment:
    """What a service gives its bus, for all that it publishes and handles."""

    dependencies: Provider
    middlewares: Sequence[ConsumeMiddleware]
    publish_middlewares: Sequence[PublishMiddleware]
    on_dead: Sequence[OnDead]
    store: BodyStore | None
    listener: Listener | None = None

    def heard_by(self, listener: Listener) -> Equipment:
        """The same with a listener."""
        publish = (*self.publish_middlewares, listener.publish)
        return replace(self, listener=listener, publish_middlewares=publish)

    def heard(self, middlewares: Sequence[ConsumeMiddleware]) -> Sequence[ConsumeMiddleware]:
        """Consume middlewares of the bus or of a handler, as the listener hears them."""
        ears = self.listener
        return middlewares if ears is None or not middlewares else (ears.arrived, *middlewares, ears.reached)


class Wiring:
    """One opening of a bus: makes what is asked for when it is asked for the first time, on the link that carries it.

    `links`, by URL, are there from the beginning, and connected once `connect` has returned.
    """

    def __init__(self, settings: Settings, clock: Clock, equipment: Equipment) -> None:
        where = {url: f"the route {name!r}" for name, url in settings.routes.items()} | {settings.url: "MSGBUS_URL"}
        self.links = {url: Link.to(url, clock, setting) for url, setting in where.items()}
        self.topics: dict[object, Outlet] = {}
        self.queues: dict[object, Outlet] = {}
        self.calls: dict[object, Call] = {}
        self.alarms = Alarms(clock)
        self.timeout = settings.publish_timeout
        self._inboxes: dict[Link, Inbox] = {}
        self._settings = settings
        self._clock = clock
        self._stamps = Stamps(clock.time)
        self._equipment = equipment
        self._making = asyncio.Lock()
        self._there: set[Target] = set()  # topics that were made or verified

    async def connect(self, registrations: Iterable[Registration], published: Iterable[Target]) -> None:
        """Tell what looks misspelt, then all links at once. Raises the broker's own error, or a group of several."""
        declared = {each.target.name for each in registrations} | {each.name for each in published}
        for mistake in likely_mistakes(self._settings, declared, os.environ):
            log.warning("%s", mistake)
        async with asyncio.TaskGroup() as group:
            for link in self.links.values():
                group.create_task(link.connect(self._settings.connect_timeout))

    async def close(self) -> None:
        """Send what was taken, then disconnect; one that fails, or never ends, keeps no other from it."""
        store: object = self._equipment.store
        stores = [store] if isinstance(store, Closes) else []
        for closing in (self._inboxes.values(), self.links.values(), stores):  # each needs what comes after it
            await asyncio.gather(*(_closed(each) for each in closing))
        self.alarms.close()

    def link_for(self, name: str) -> Link:
        """The link that carries a topic, queue or call."""
        return self.links[self._settings.routes.get(name, self._settings.url)]

    # -- all that is declared

    def needs(self, registrations: Sequence[Registration], published: Iterable[Target]) -> dict[Link, list[Part]]:
        """What must exist for it, by the link that carries it. Raises ConfigError for what a broker can't do.

        Whatever would be refused when the bus opens is refused here, before anything is made.
        """
        parts: dict[Link, dict[Part, None]] = {}
        for target in published:
            link = self._checked(target)
            parts.setdefault(link, {}).update(dict.fromkeys(parts_of_published(target, self._settings.prefix)))
        for link, more in _parts_of(self._subscriptions(registrations)).items():
            parts.setdefault(link, {}).update(dict.fromkeys(more))
        return {link: list(found) for link, found in parts.items()}

    async def publish_to(self, published: Sequence[Target]) -> None:
        """Check what is declared to be published, make or verify its topics, and get ready. Raises ConfigError."""
        for link, parts in self.needs((), published).items():
            if parts:
                await self._ensure(link, parts)
        self._there.update(published)
        for target in published:
            await (self.call_for(target) if isinstance(target, Rpc) else self.outlet_for(target))

    def draft(self, target: Topic[Any] | Queue[Any]) -> Outlet:
        """For messages that are made here and sent elsewhere. Raises ConfigError."""
        return self._declared(self._checked(target), target)

    def _checked(self, target: Target) -> Link:
        """The link of what is published. Raises ConfigError where it can't be."""
        link = self.link_for(target.name)
        ordered = not isinstance(target, Rpc) and target.ordered
        check_target(target, link.broker.capabilities(Source(*self._address(target), ordered=ordered)), link.name)
        if not isinstance(target, Rpc):
            self._declared(link, target)
        return link

    def _address(self, target: Target) -> Address:
        return Address("topic" if isinstance(target, Topic) else "queue", self._settings.prefix + target.name)

    # -- publishing

    async def outlet_for(
        self, target: Topic[Any] | Queue[Any], wanted: type | tuple[type, ...] = (Topic, Queue)
    ) -> Outlet:
        """Where a topic or queue is published; a topic is made where settings allow it. Raises ConfigError."""
        if not isinstance(target, wanted):
            raise ConfigError(f"got {target!r}: publish() takes a Topic, send() a Queue, request() an Rpc")
        link = self.link_for(target.name)
        async with self._making:
            outlets = self.topics if isinstance(target, Topic) else self.queues
            if (known := outlets.get(target)) is not None:
                return known
            if target not in self._there:
                self._checked(target)
                if parts := parts_of_published(target, self._settings.prefix):
                    await self._ensure(link, parts)
            return outlets.setdefault(target, self._declared(link, target))

    def _declared(self, link: Link, target: Topic[Any] | Queue[Any]) -> Outlet:
        return self._outlet(link, self._address(target), Payloads.of(target.type, target.codec, target), target)

    async def call_for(self, rpc: Rpc[Any, Any]) -> Call:
        """The requester's side of a call. Raises ConfigError where its broker has no reply inboxes."""
        if not isinstance(rpc, Rpc):
            raise ConfigError(f"request() takes an Rpc, got {rpc!r}")
        link = self._checked(rpc)
        inbox = self._inboxes.get(link)
        if inbox is None:
            inbox = self._inboxes[link] = Inbox(link, self._clock)
        outlet = self._outlet(link, self._address(rpc), Payloads.of(rpc.request, rpc.codec, rpc))
        decode = decoder(repr(rpc), rpc.reply, rpc.codec)
        call = self.calls[rpc] = Call(repr(rpc), outlet, inbox, decode, self._equipment.store)
        return call

    def _outlet(
        self, link: Link, address: Address, payloads: Payloads, declared: Topic[Any] | Queue[Any] | None = None
    ) -> Outlet:
        outlet = Outlet(
            address,
            payloads,
            link,
            self._stamps,
            service=self._settings.service,
            declared=declared,
            store=self._equipment.store,
        )
        return outlet.through(self._equipment.publish_middlewares)

    # -- consuming

    async def runners(self, registrations: Sequence[Registration]) -> list[Runner]:
        """What keeps each subscription of the handlers running, not yet started; what they need is made."""
        runners, found = [], self._subscriptions(registrations)
        for link, parts in _parts_of(found).items():  # all in one call: a broker may look at all of them at once
            await self._ensure(link, parts)
        for link, source, subscription in found:
            subscription.capabilities = link.broker.capabilities(source)
            runners.append(Runner(subscription, link, self._clock, self.alarms, self._settings.on_failure))
        return runners

    def _subscriptions(self, registrations: Sequence[Registration]) -> list[tuple[Link, Source, Subscription]]:
        """Raises ConfigError for what a broker can't do, before anything is made for any of them."""
        found = []
        for source, members in sources_of(registrations, self._settings, self._equipment.store):
            link = self.link_for(members[0].target.name)
            found.append((link, source, self._subscription(source, members, link)))
        return found

    def _subscription(self, source: Source, members: Sequence[Registration], link: Link) -> Subscription:
        target = members[0].target
        capabilities = link.broker.capabilities(source)
        check_target(target, capabilities, link.name)
        check(source, members[0].options, capabilities, link.name)
        given, concurrency = self._equipment, self._settings.concurrency
        members = [replace(member, middlewares=given.heard(member.middlewares)) for member in members]
        subscription = subscription_of(members, source, capabilities, given.dependencies, given.on_dead, concurrency)
        if isinstance(target, Rpc):
            self._answer(subscription, target, link)
            subscription.handle = compose(members[0].middlewares, subscription.handle)
        self._surround(subscription)
        return subscription

    def _surround(self, subscription: Subscription) -> None:
        """From the inside out: the store for large bodies, then the middlewares."""
        store, middlewares = self._equipment.store, self._equipment.heard(self._equipment.middlewares)
        subscription.store = store
        if store is not None:
            subscription.handle = fetching(store, subscription.handle)
        subscription.handle = compose(middlewares, subscription.handle)
        if subscription.handle_batch is not None:
            if store is not None:
                subscription.handle_batch = fetching_batch(store, subscription.handle_batch)
            subscription.handle_batch = compose_batch(middlewares, subscription.handle_batch)

    def _answer(self, subscription: Subscription, rpc: Rpc[Any, Any], link: Link) -> None:
        outlet = self._outlet(link, Address("reply", rpc.name), Payloads.of(rpc.reply, rpc.codec, rpc))
        is_allowed = replies_allowed(link.broker.capabilities().inboxes, self._settings.replies)
        responder = Responder(repr(rpc), subscription.handle, outlet, is_allowed, rpc.errors)
        subscription.handle = responder.handle
        subscription.last_word = responder.answer_failure

    async def _ensure(self, link: Link, topology: Sequence[Part]) -> Sequence[Difference]:
        """Create or verify; what differs in verify mode is an error that lists it all."""
        mode = self._settings.provision
        give_up = self._clock.now() + self._settings.connect_timeout
        differences = await link.patiently(lambda: link.broker.admin.ensure(topology, mode), give_up)
        wrong = [d for d in differences if not d.made]
        if mode == "verify" and wrong:
            listed = "; ".join(f"{d.part}: wanted {d.wanted}, found {d.found}" for d in wrong)
            raise ConfigError(f"{link.name} is not as declared (MSGBUS_PROVISION=verify): {listed}")
        return differences


def _parts_of(found: Iterable[tuple[Link, Source, Subscription]]) -> dict[Link, list[Part]]:
    """What subscriptions need, each part once."""
    parts: dict[Link, dict[Part, None]] = {}
    for link, source, subscription in found:
        parts.setdefault(link, {}).update(dict.fromkeys(topology_of(source, subscription.options)))
    return {link: list(each) for link, each in parts.items()}


async def _closed(closing: Closes) -> None:
    try:
        if not await ended_within(closing.close(), _LAST_CLOSE):
            log.error("closing %s took longer than %g s and was given up", closing, _LAST_CLOSE)
    except Exception:
        log.exception("closing %s failed", closing)


def sources_of(
    registrations: Sequence[Registration], settings: Settings, store: BodyStore | None
) -> list[tuple[Source, list[Registration]]]:
    """What handlers read, with the names that the settings give; those that share a subscription together."""
    return [
        (source_of(members, settings.prefix, has_store=store is not None), members)
        for members in group_by_place(registrations)
    ]
