"""What a bus is made of once it is open: its links, and on them the outlets, calls and subscriptions of a service."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fast_depends import Provider

from msgbus.broker import Difference, Part, TopicSpec
from msgbus.brokers import broker_for
from msgbus.brokers.hiding import shown
from msgbus.calling import Call, Inbox, Responder, replies_allowed
from msgbus.clock import Alarms, Clock
from msgbus.config import Settings
from msgbus.consuming.runner import Runner
from msgbus.envelope.claim import BodyStore
from msgbus.errors import ConfigError
from msgbus.handlers.decoding import decoder
from msgbus.handlers.fetching import fetching, fetching_batch
from msgbus.handlers.middleware import ConsumeMiddleware, compose, compose_batch
from msgbus.handlers.registration import Registration
from msgbus.handlers.subscription import Subscription, group_by_place, source_of, subscription_of
from msgbus.handlers.topology import check, topology_of
from msgbus.message import Address, Source
from msgbus.options import OnDead
from msgbus.publishing.ids import Stamps
from msgbus.publishing.link import Link
from msgbus.publishing.middleware import PublishMiddleware
from msgbus.publishing.outlet import Outlet
from msgbus.publishing.payloads import Payloads
from msgbus.topic import Queue, Rpc, Topic

log = logging.getLogger("msgbus.bus")


@dataclass(frozen=True, slots=True, kw_only=True)
class Equipment:
    """What a service gives its bus, for all that it publishes and handles."""

    dependencies: Provider
    middlewares: Sequence[ConsumeMiddleware]
    publish_middlewares: Sequence[PublishMiddleware]
    on_dead: Sequence[OnDead]
    store: BodyStore | None


class Wiring:
    """One opening of a bus: makes what is asked for when it is asked for the first time, on the link that carries it.

    `links`, by URL, are there from the beginning, and connected once `connect` has returned.
    """

    def __init__(self, settings: Settings, clock: Clock, equipment: Equipment) -> None:
        urls = {settings.url, *settings.routes.values()}
        self.links = {url: Link(broker_for(url, clock), shown(url), clock) for url in urls}
        self.outlets: dict[object, Outlet] = {}
        self.calls: dict[object, Call] = {}
        self.alarms = Alarms(clock)
        self._inboxes: dict[Link, Inbox] = {}
        self._settings = settings
        self._clock = clock
        self._stamps = Stamps(clock.time)
        self._equipment = equipment
        self._making = asyncio.Lock()

    async def connect(self) -> None:
        """All links at once. Raises the broker's own error, or a group of several."""
        async with asyncio.TaskGroup() as group:
            for link in self.links.values():
                group.create_task(link.connect(self._settings.connect_timeout))

    async def close(self) -> None:
        """Send what was taken, then disconnect; one that fails does not keep the others from it."""
        open_ones: list[Inbox | Link] = [*self._inboxes.values(), *self.links.values()]
        for closing in open_ones:
            try:
                await closing.close()
            except Exception:
                log.exception("closing %s failed", closing)
        self.alarms.close()

    def link_for(self, name: str) -> Link:
        """The link that carries a topic, queue or call."""
        return self.links[self._settings.routes.get(name, self._settings.url)]

    # -- publishing

    async def outlet_for(self, target: Topic[Any] | Queue[Any], wanted: type | tuple[type, ...]) -> Outlet:
        """Where a topic or queue is published; a topic is made where settings allow it. Raises ConfigError."""
        if not isinstance(target, wanted):
            raise ConfigError(f"got {target!r}: publish() takes a Topic, send() a Queue, request() an Rpc")
        link = self.link_for(target.name)
        async with self._making:
            if (known := self.outlets.get(target)) is not None:
                return known
            address = Address(target.kind, self._settings.prefix + target.name)
            if isinstance(target, Topic):
                await self._ensure(link, [TopicSpec(address.name, target.ordered)])
            outlet = self.outlets[target] = self._outlet(link, address, Payloads.of(target.type, target.codec), target)
            return outlet

    async def call_for(self, rpc: Rpc[Any, Any]) -> Call:
        """The requester's side of a call. Raises ConfigError where its broker has no reply inboxes."""
        if not isinstance(rpc, Rpc):
            raise ConfigError(f"request() takes an Rpc, got {rpc!r}")
        link = self.link_for(rpc.name)
        if not link.broker.capabilities().reply:
            raise ConfigError(f"{rpc!r}: {link.name} has no reply inboxes; route it with MSGBUS_ROUTES")
        inbox = self._inboxes.get(link)
        if inbox is None:
            inbox = self._inboxes[link] = Inbox(link, self._clock)
        address = Address("queue", self._settings.prefix + rpc.name)
        outlet = self._outlet(link, address, Payloads.of(rpc.request, rpc.codec))
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
        runners = []
        for source, members in sources_of(registrations, self._settings, self._equipment.store):
            link = self.link_for(members[0].target.name)
            subscription = self._subscription(source, members, link)
            await self._ensure(link, topology_of(source, subscription.options))
            subscription.capabilities = link.broker.capabilities(source)
            runners.append(Runner(subscription, link, self._clock, self.alarms, self._settings.on_failure))
        return runners

    def _subscription(self, source: Source, members: Sequence[Registration], link: Link) -> Subscription:
        target = members[0].target
        capabilities = link.broker.capabilities(source)
        check(source, members[0].options, capabilities, link.name)
        given, concurrency = self._equipment, self._settings.concurrency
        subscription = subscription_of(members, source, capabilities, given.dependencies, given.on_dead, concurrency)
        if isinstance(target, Rpc):
            self._answer(subscription, target, link)
        self._surround(subscription)
        return subscription

    def _surround(self, subscription: Subscription) -> None:
        """From the inside out: the store for large bodies, then the middlewares."""
        store, middlewares = self._equipment.store, self._equipment.middlewares
        subscription.store = store
        if store is not None:
            subscription.handle = fetching(store, subscription.handle)
        subscription.handle = compose(middlewares, subscription.handle)
        if subscription.handle_batch is not None:
            if store is not None:
                subscription.handle_batch = fetching_batch(store, subscription.handle_batch)
            subscription.handle_batch = compose_batch(middlewares, subscription.handle_batch)

    def _answer(self, subscription: Subscription, rpc: Rpc[Any, Any], link: Link) -> None:
        outlet = self._outlet(link, Address("reply", rpc.name), Payloads.of(rpc.reply, rpc.codec))
        is_allowed = replies_allowed(link.broker.capabilities().inboxes, self._settings.replies)
        responder = Responder(repr(rpc), subscription.handle, outlet, is_allowed)
        subscription.handle = responder.handle
        subscription.last_word = responder.answer_failure

    async def _ensure(self, link: Link, topology: Sequence[Part]) -> Sequence[Difference]:
        """Create or verify; what differs in verify mode is an error that lists it all."""
        mode = self._settings.provision
        differences = await link.broker.admin.ensure(topology, mode)
        wrong = [d for d in differences if not d.made]
        if mode == "verify" and wrong:
            listed = "; ".join(f"{d.part}: wanted {d.wanted}, found {d.found}" for d in wrong)
            raise ConfigError(f"{link.name} is not as declared (MSGBUS_PROVISION=verify): {listed}")
        return differences


def sources_of(
    registrations: Sequence[Registration], settings: Settings, store: BodyStore | None
) -> list[tuple[Source, list[Registration]]]:
    """What handlers read, with the names that the settings give; those that share a subscription together."""
    return [
        (source_of(members, settings.prefix, has_store=store is not None), members)
        for members in group_by_place(registrations)
    ]
