"""The decorators and the verbs. A Router collects handlers, and publishes once it is in a bus; a Bus is a Router."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar, overload

from msgbus.errors import RegistrationError
from msgbus.handlers.binding import bind
from msgbus.handlers.decorators import Register, Respond, Subscribe, SubscribeBatch
from msgbus.handlers.middleware import ConsumeMiddleware
from msgbus.handlers.registration import (
    Registration,
    check_carried,
    check_fields,
    check_handler,
    check_where,
    may_share,
)
from msgbus.message import Receipt
from msgbus.options import Batch, Lease, Limits, Options, Retry, Select, SendOptions
from msgbus.publishing.deadline import Deadline
from msgbus.publishing.port import Port, Ports
from msgbus.topic import Queue, Rpc, Topic, checked_name

T = TypeVar("T")
Request = TypeVar("Request")
Reply = TypeVar("Reply")

Target = Topic[Any] | Queue[Any] | Rpc[Any, Any]


class Router:
    """Handlers of one module, and what it publishes, to be included in a Bus, through which it then publishes.

    `middlewares` stand around its handlers and those of routers in it, inside the bus's own; the first is outermost.
    """

    def __init__(self, *, middlewares: Sequence[ConsumeMiddleware] = ()) -> None:
        self.registrations: list[Registration] = []
        self.published: list[Target] = []
        self._middlewares = tuple(middlewares)
        self._included: list[Router] = []
        self._ports = Ports()

    @overload
    def subscriber(
        self,
        topic: Topic[T],
        *,
        group: str,
        retry: Retry | None = None,
        limits: Limits | None = None,
        lease: Lease | None = None,
        batch: None = None,
        select: Select | None = None,
    ) -> Subscribe[T]: ...
    @overload
    def subscriber(
        self,
        topic: Topic[T],
        *,
        group: str,
        retry: Retry | None = None,
        limits: Limits | None = None,
        lease: Lease | None = None,
        batch: Batch,
        select: Select | None = None,
    ) -> SubscribeBatch[T]: ...
    def subscriber(
        self,
        topic: Topic[T],
        *,
        group: str,
        retry: Retry | None = None,
        limits: Limits | None = None,
        lease: Lease | None = None,
        batch: Batch | None = None,
        select: Select | None = None,
    ) -> Subscribe[T] | SubscribeBatch[T]:
        """Handle a topic's messages. `group`: the durable subscription; its instances compete for messages.

        `batch`: for a handler that takes a list. Raises RegistrationError for what can't be.
        """
        _expect(topic, Topic, "subscriber")
        checked_name(group, f"{topic!r}: group")
        check_where(topic, select)
        check_fields(topic, select)
        options = Options.of(retry=retry, limits=limits, lease=lease, batch=batch)
        decorator = Subscribe[T] if batch is None else SubscribeBatch[T]
        return decorator(self._adds(topic, topic.type, options, group, select))

    @overload
    def consumer(
        self,
        queue: Queue[T],
        *,
        retry: Retry | None = None,
        limits: Limits | None = None,
        lease: Lease | None = None,
        batch: None = None,
    ) -> Subscribe[T]: ...
    @overload
    def consumer(
        self,
        queue: Queue[T],
        *,
        retry: Retry | None = None,
        limits: Limits | None = None,
        lease: Lease | None = None,
        batch: Batch,
    ) -> SubscribeBatch[T]: ...
    def consumer(
        self,
        queue: Queue[T],
        *,
        retry: Retry | None = None,
        limits: Limits | None = None,
        lease: Lease | None = None,
        batch: Batch | None = None,
    ) -> Subscribe[T] | SubscribeBatch[T]:
        """Handle a queue's messages, competing with every other consumer of it."""
        _expect(queue, Queue, "consumer")
        options = Options.of(retry=retry, limits=limits, lease=lease, batch=batch)
        decorator = Subscribe[T] if batch is None else SubscribeBatch[T]
        return decorator(self._adds(queue, queue.type, options))

    def responder(
        self,
        rpc: Rpc[Request, Reply],
        *,
        retry: Retry | None = None,
        limits: Limits | None = None,
        lease: Lease | None = None,
    ) -> Respond[Request, Reply]:
        """Answer a call. One attempt by default; the requester gets the last error as a RemoteError."""
        _expect(rpc, Rpc, "responder")
        retry = retry or Retry(attempts=1)
        retry = replace(retry, never=(*retry.never, *rpc.errors))
        options = Options.of(retry=retry, limits=limits, lease=lease, batch=None)
        return Respond(self._adds(rpc, rpc.request, options))

    def publishes(self, *targets: Target) -> None:
        """Declare what this service publishes (a Topic), sends to (a Queue) or requests (an Rpc).

        When the bus opens, what its broker can't carry is refused with a ConfigError, and topics are made, or
        verified, as `settings.provision` says; `msgbus topology` sees it. What is not declared can be published all
        the same: then all this comes with its first message. Queues and calls are made by who consumes them.
        Raises RegistrationError for what is none of the three.
        """
        for target in targets:
            if not isinstance(target, (Topic, Queue, Rpc)):
                raise RegistrationError(f"publishes() takes Topics, Queues and Rpcs, got {target!r}")
            if target not in self.published:
                self.published.append(target)

    def include(self, *routers: Router) -> None:
        """Take over what other routers handle and publish; from now on they publish through this one's bus.

        Their handlers must be declared by then: a bus that opens raises RegistrationError for later ones.
        """
        for router in routers:
            for registration in router.registrations:
                self._register(replace(registration, middlewares=(*self._middlewares, *registration.middlewares)))
            self.publishes(*router.published)
            self._included.append(router)
            for port in self._ports.open:
                router._join(port)

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
        Raises Refused where the message or the broker makes it impossible, BusError where no bus is open for it.
        """
        port = self._ports.port
        outlet = port.topics.get(topic) or await port.outlet_for(topic, Topic)
        out = outlet.prepare(payload, key, headers, delay, options)
        with Deadline(port.alarms, port.timeout if timeout is None else timeout, outlet.address):
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
        port = self._ports.port
        outlet = port.topics.get(topic) or port.queues.get(topic) or await port.outlet_for(topic)
        batch, refused = outlet.prepare_many(payloads, headers)
        if not batch:
            return outlet.receipts([], refused)
        with Deadline(port.alarms, port.timeout if timeout is None else timeout, outlet.address):
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
        port = self._ports.port
        outlet = port.queues.get(queue) or await port.outlet_for(queue, Queue)
        out = outlet.prepare(payload, key, headers, delay, options)
        with Deadline(port.alarms, port.timeout if timeout is None else timeout, outlet.address):
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
        """Ask and await the reply. Raises Timeout after `timeout` seconds, Disconnected where the reply may be lost,
        RemoteError where the responder failed or its reply is not of the declared type."""
        port = self._ports.port
        call = port.calls.get(rpc) or await port.call_for(rpc)
        with Deadline(port.alarms, timeout, rpc):
            reply: Reply = await call.request(payload, timeout, key, dict(headers or {}))
        return reply

    # -- the bus that it is in

    def _join(self, port: Port) -> None:
        """A bus that this router is in has been opened."""
        for router in self._family():
            router._ports.join(port)

    def _leave(self, port: Port) -> None:
        """A bus that this router is in was closed."""
        for router in self._family():
            router._ports.leave(port)

    def _family(self) -> Iterator[Router]:
        """Itself, and all that was included in it and in them."""
        yield self
        for router in self._included:
            yield from router._family()

    def _adds(
        self, target: Target, type_: Any, options: Options, group: str = "", select: Select | None = None
    ) -> Register:
        def add(function: Callable[..., Any], middlewares: Sequence[ConsumeMiddleware]) -> None:
            bound = bind(function, type_, repr(target))
            check_carried(target, type_)
            check_handler(target, bound, options)
            around = (*self._middlewares, *middlewares)
            self._register(Registration(target, group, bound, options, select or Select(), around))

        return add

    def _register(self, new: Registration) -> None:
        """Raises RegistrationError for a second handler of one place, unless each takes another type."""
        for old in self.registrations:
            if old.place == new.place and not may_share(old, new):
                what = f"group {new.group!r} of {new.target!r}" if new.group else repr(new.target)
                raise RegistrationError(
                    f"{what} has two handlers, {old.bound.name} and {new.bound.name}: one message goes to one handler;"
                    " use another group, or topic.only(Type) for each to take another type"
                )
        self.registrations.append(new)


def _expect(target: object, wanted: type, decorator: str) -> None:
    if not isinstance(target, wanted):
        article = "an" if wanted is Rpc else "a"
        raise RegistrationError(f"{decorator}() takes {article} {wanted.__name__}, got {target!r}")
