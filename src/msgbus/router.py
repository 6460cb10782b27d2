"""The decorators. A Router collects handlers; a Bus is a Router that runs them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from types import NoneType
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from msgbus.dispatch import Bound, bind
from msgbus.errors import ConfigError, RegistrationError
from msgbus.message import Kind, Message, Start
from msgbus.options import Batch, Failed, Lease, Limits, Options, Retry
from msgbus.topic import Queue, Rpc, Topic, checked_name, field_names, type_name, union_members

T = TypeVar("T")
Request = TypeVar("Request")
Reply = TypeVar("Reply")
P = ParamSpec("P")
Done = TypeVar("Done", bound=Awaitable[None])
BatchDone = TypeVar("BatchDone", bound=Awaitable[Sequence[Failed] | None])


@dataclass(frozen=True, slots=True, kw_only=True)
class Select:
    """Which messages of a topic a group gets.

    `start`: where a new group begins, on brokers with replay. `where`: header -> the values let through; name the
    headers in `Topic(filter_on=...)`. `fields`: field of the payload -> the values let through: text, whole numbers,
    booleans, None, or members of an Enum of such. The broker filters where it can, the core what is left: what is
    not let through is skipped, and no handler sees it.
    """

    start: Start | None = None
    where: Mapping[str, Sequence[str]] | None = None
    fields: Mapping[str, Sequence[object]] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """One decorated handler."""

    target: Topic[Any] | Queue[Any] | Rpc[Any, Any]
    group: str
    bound: Bound
    options: Options
    select: Select

    @property
    def kind(self) -> Kind:
        """An Rpc's requests travel in a queue."""
        return "topic" if isinstance(self.target, Topic) else "queue"

    @property
    def place(self) -> tuple[str, str, str]:
        """Registrations of one place share a subscription."""
        return (self.kind, self.target.name, self.group)


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
        _check_select(topic, select)
        _check_fields(topic, select)
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
        _check_carried(target, type_)
        if bound.wants_list and isinstance(target, Rpc):
            raise RegistrationError(f"{target!r}: handler {bound.name} takes a list; a responder answers one request")
        self._register(
            Registration(target=target, group=group, bound=bound, options=options, select=select or Select())
        )

    def _register(self, new: Registration) -> None:
        """Raises RegistrationError for a second handler of one place, unless each takes another type."""
        for old in self.registrations:
            if old.place == new.place and not _share(old, new):
                what = f"group {new.group!r} of {new.target!r}" if new.group else repr(new.target)
                raise RegistrationError(
                    f"{what} has two handlers, {old.bound.name} and {new.bound.name}: one message goes to one handler;"
                    " use another group, or topic.only(Type) for each to take another type"
                )
        self.registrations.append(new)


def _check_select(topic: Topic[Any], select: Select | None) -> None:
    """Headers that are filtered on must be kept native where a broker allows few: the topic says which."""
    unknown = [name for name in (select.where or {}) if name not in topic.filter_on] if select else []
    if unknown:
        raise RegistrationError(f"{topic!r}: select.where names {unknown}; name them in Topic(filter_on=...) too")


def _check_fields(topic: Topic[Any], select: Select | None) -> None:
    """Against the declared type, so that a misspelt field is told here rather than by silence."""
    for field, values in ((select.fields if select else None) or {}).items():
        for member in union_members(topic.type):
            known = field_names(member)
            if known is None or field not in known:
                has = "has no declared fields" if known is None else f"has {sorted(known)}"
                raise RegistrationError(f"{topic!r}: select.fields names {field!r}, {type_name(member)} {has}")
        wrong = [value for value in values if not isinstance(plain(value), (str, int, NoneType))]
        if isinstance(values, str) or wrong:
            raise RegistrationError(
                f"{topic!r}: select.fields[{field!r}]={values!r}: give a list of text, whole numbers, booleans or None"
            )


def plain(value: object) -> object:
    """A value of a field as JSON has it: that of a member of an Enum."""
    return value.value if isinstance(value, Enum) else value


def _check_carried(target: Topic[Any] | Queue[Any] | Rpc[Any, Any], *types: Any) -> None:
    """A payload type that the codec can't carry is told here, not when the service starts."""
    for type_ in (*types, *((target.reply,) if isinstance(target, Rpc) else ())):
        try:
            target.codec.bind(type_)
        except ConfigError as error:
            raise RegistrationError(f"{target!r}: {error}") from error


def _share(old: Registration, new: Registration) -> bool:
    one, other = old.target, new.target
    if not (isinstance(one, Topic) and isinstance(other, Topic) and one.narrowed and other.narrowed):
        return False
    if old.options != new.options or old.select != new.select or old.bound.wants_list or new.bound.wants_list:
        raise RegistrationError(
            f"{one!r}, group {old.group!r}: handlers that share a group share its options and take single messages"
        )
    return bool(one.type != other.type)


def _expect(target: object, wanted: type, decorator: str) -> None:
    if not isinstance(target, wanted):
        raise RegistrationError(f"{decorator}() takes a {wanted.__name__}, got {target!r}")
