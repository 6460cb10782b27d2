"""The decorators. A Router collects handlers; a Bus is a Router that runs them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from msgbus.errors import RegistrationError
from msgbus.handlers.binding import bind
from msgbus.handlers.registration import Registration, check_carried, check_fields, check_where, may_share
from msgbus.message import Message
from msgbus.options import Batch, Failed, Lease, Limits, Options, Retry, Select
from msgbus.topic import Queue, Rpc, Topic, checked_name

T = TypeVar("T")
Request = TypeVar("Request")
Reply = TypeVar("Reply")
P = ParamSpec("P")
Done = TypeVar("Done", bound=Awaitable[None])
BatchDone = TypeVar("BatchDone", bound=Awaitable[Sequence[Failed] | None])


class Subscribe(Generic[T]):
    """What `bus.subscriber(topic, ...)` returns: decorates a handler of the payload, or of `Message[T]` or lists."""

    def __init__(self, register: Callable[[Callable[..., Awaitable[Any]]], None]) -> None:
        self._register = register

    @overload
    def __call__(self, handler: Callable[Concatenate[T, P], Done], /) -> Callable[Concatenate[T, P], Done]: ...
    @overload
    def __call__(
        self, handler: Callable[Concatenate[Message[T], P], Done], /
    ) -> Callable[Concatenate[Message[T], P], Done]: ...
    @overload
    def __call__(
        self, handler: Callable[Concatenate[list[T], P], BatchDone], /
    ) -> Callable[Concatenate[list[T], P], BatchDone]: ...
    @overload
    def __call__(
        self, handler: Callable[Concatenate[list[Message[T]], P], BatchDone], /
    ) -> Callable[Concatenate[list[Message[T]], P], BatchDone]: ...
    def __call__(self, handler: Callable[..., Awaitable[Any]], /) -> Callable[..., Awaitable[Any]]:
        self._register(handler)
        return handler


class Respond(Generic[Request, Reply]):
    """What `bus.responder(rpc)` returns: decorates a handler that returns the reply."""

    def __init__(self, register: Callable[[Callable[..., Awaitable[Any]]], None]) -> None:
        self._register = register

    @overload
    def __call__(
        self, handler: Callable[Concatenate[Request, P], Coroutine[Any, Any, Reply]], /
    ) -> Callable[Concatenate[Request, P], Coroutine[Any, Any, Reply]]: ...
    @overload
    def __call__(
        self, handler: Callable[Concatenate[Message[Request], P], Coroutine[Any, Any, Reply]], /
    ) -> Callable[Concatenate[Message[Request], P], Coroutine[Any, Any, Reply]]: ...
    def __call__(self, handler: Callable[..., Awaitable[Any]], /) -> Callable[..., Awaitable[Any]]:
        self._register(handler)
        return handler


class Router:
    """Handlers of one module, to be included in a Bus."""

    def __init__(self) -> None:
        self.registrations: list[Registration] = []

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
    ) -> Subscribe[T]:
        """Handle a topic's messages. `group`: the durable subscription; its instances compete for messages."""
        _expect(topic, Topic, "subscriber")
        checked_name(group, f"{topic!r}: group")
        check_where(topic, select)
        check_fields(topic, select)
        options = Options.of(retry=retry, limits=limits, lease=lease, batch=batch)
        return Subscribe(lambda function: self._add(topic, topic.type, group, function, options, select))

    def consumer(
        self,
        queue: Queue[T],
        *,
        retry: Retry | None = None,
        limits: Limits | None = None,
        lease: Lease | None = None,
        batch: Batch | None = None,
    ) -> Subscribe[T]:
        """Handle a queue's messages, competing with every other consumer of it."""
        _expect(queue, Queue, "consumer")
        options = Options.of(retry=retry, limits=limits, lease=lease, batch=batch)
        return Subscribe(lambda function: self._add(queue, queue.type, "", function, options))

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
        options = Options.of(retry=retry or Retry(attempts=1), limits=limits, lease=lease, batch=None)
        return Respond(lambda function: self._add(rpc, rpc.request, "", function, options))

    def include(self, *routers: Router) -> None:
        """Take over the handlers of other routers."""
        for router in routers:
            for registration in router.registrations:
                self._register(registration)

    def _add(
        self,
        target: Topic[Any] | Queue[Any] | Rpc[Any, Any],
        type_: Any,
        group: str,
        function: Callable[..., Awaitable[Any]],
        options: Options,
        select: Select | None = None,
    ) -> None:
        bound = bind(function, type_, repr(target))
        check_carried(target, type_)
        if bound.wants_list and isinstance(target, Rpc):
            raise RegistrationError(f"{target!r}: handler {bound.name} takes a list; a responder answers one request")
        self._register(
            Registration(target=target, group=group, bound=bound, options=options, select=select or Select())
        )

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
        raise RegistrationError(f"{decorator}() takes a {wanted.__name__}, got {target!r}")
