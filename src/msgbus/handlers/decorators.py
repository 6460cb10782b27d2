"""What `bus.subscriber(...)` and its like return: decorators that type checkers hold a handler against."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar, overload

from msgbus.handlers.middleware import ConsumeMiddleware
from msgbus.message import Message
from msgbus.options import Failed

T = TypeVar("T")
Request = TypeVar("Request")
Reply = TypeVar("Reply")
P = ParamSpec("P")
Done = TypeVar("Done", bound=Awaitable[None] | None)
BatchDone = TypeVar("BatchDone", bound=Awaitable[Sequence[Failed] | None] | Sequence[Failed] | None)

Register = Callable[[Callable[..., Any], Sequence[ConsumeMiddleware]], None]


class _Decorator:
    def __init__(self, register: Register) -> None:
        self._register = register
        self._middlewares: Sequence[ConsumeMiddleware] = ()

    def around(self, *middlewares: ConsumeMiddleware) -> Self:
        """Put middlewares around this handler alone, inside those of its routers and bus; the first is outermost."""
        self._middlewares = (*self._middlewares, *middlewares)
        return self


class Subscribe(_Decorator, Generic[T]):
    """What `bus.subscriber(topic, ...)` returns: decorates a handler of the payload, or of `Message[T]` or lists.

    It is an `async def`, or a `def` that runs in a thread.
    """

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
    def __call__(self, handler: Callable[..., Any], /) -> Callable[..., Any]:
        self._register(handler, self._middlewares)
        return handler


class SubscribeBatch(_Decorator, Generic[T]):
    """What `bus.subscriber(topic, batch=Batch(...), ...)` returns: decorates a handler of lists."""

    @overload
    def __call__(
        self, handler: Callable[Concatenate[list[T], P], BatchDone], /
    ) -> Callable[Concatenate[list[T], P], BatchDone]: ...
    @overload
    def __call__(
        self, handler: Callable[Concatenate[list[Message[T]], P], BatchDone], /
    ) -> Callable[Concatenate[list[Message[T]], P], BatchDone]: ...
    def __call__(self, handler: Callable[..., Any], /) -> Callable[..., Any]:
        self._register(handler, self._middlewares)
        return handler


class Respond(_Decorator, Generic[Request, Reply]):
    """What `bus.responder(rpc)` returns: decorates a handler, `async def` or `def`, that returns the reply."""

    @overload
    def __call__(
        self, handler: Callable[Concatenate[Request, P], Coroutine[Any, Any, Reply]], /
    ) -> Callable[Concatenate[Request, P], Coroutine[Any, Any, Reply]]: ...
    @overload
    def __call__(  # type: ignore[overload-overlap] # of a Reply that is a coroutine: no codec carries one
        self, handler: Callable[Concatenate[Message[Request], P], Coroutine[Any, Any, Reply]], /
    ) -> Callable[Concatenate[Message[Request], P], Coroutine[Any, Any, Reply]]: ...
    @overload
    def __call__(
        self, handler: Callable[Concatenate[Request, P], Reply], /
    ) -> Callable[Concatenate[Request, P], Reply]: ...
    @overload
    def __call__(
        self, handler: Callable[Concatenate[Message[Request], P], Reply], /
    ) -> Callable[Concatenate[Message[Request], P], Reply]: ...
    def __call__(self, handler: Callable[..., Any], /) -> Callable[..., Any]:
        self._register(handler, self._middlewares)
        return handler
