"""What the lifespan of a bus yields, for handlers and their dependencies: `Depends(from_lifespan(Pool))`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

from fast_depends import Provider
from fast_depends.core import CallModel
from typing_extensions import TypeForm

from msgbus.errors import BusError, RegistrationError

T = TypeVar("T")

_ASKED = "__msgbus_from_lifespan__"

_made: dict[type, Callable[[], Awaitable[Any]]] = {}


class Yielded:
    """What a lifespan yielded: one thing, or several in a dataclass, a tuple or a mapping."""

    def __init__(self, value: object) -> None:
        self._value = value
        self._found: dict[type, object] = {}

    def get(self, type_: type) -> object:
        """The one that is a `type_`. Raises RegistrationError where none is, or several are."""
        if type_ not in self._found:
            self._found[type_] = self._look_for(type_)
        return self._found[type_]

    def _look_for(self, type_: type) -> object:
        first, *others = {id(each): each for each in self._things(type_)}.values() or [None]
        if others or not isinstance(first, type_):
            how_many = f"{1 + len(others)} of that class" if others else "none of that class"
            raise RegistrationError(f"from_lifespan({type_.__name__}): the lifespan yields {self}, {how_many}")
        return first

    def _things(self, type_: type) -> list[object]:
        parts = [self._value] if isinstance(self._value, type_) else self._parts()
        return [each for each in parts if isinstance(each, type_)]

    def _parts(self) -> Iterable[object]:
        value = self._value
        if isinstance(value, Mapping):
            return value.values()
        if is_dataclass(value):
            return [getattr(value, field.name) for field in fields(value)]
        return value if isinstance(value, tuple) else ()

    def __str__(self) -> str:
        """Its types: what it is made of may be secret."""
        if self._value is None:
            return "nothing"
        parts = ", ".join(type(part).__name__ for part in self._parts())
        return type(self._value).__name__ + (f" of {parts}" if parts else "")


YIELDED: ContextVar[Yielded | None] = ContextVar("msgbus_yielded", default=None)
"""Of the bus whose message is being handled."""


def from_lifespan(type_: TypeForm[T]) -> Callable[[], Awaitable[T]]:
    """A dependency: what `Bus(lifespan=...)` yields, or that part of it that is a `type_`.

    `pool: Annotated[Pool, Depends(from_lifespan(Pool))]`, in handlers and dependencies. Parts are the fields of a
    dataclass, the members of a tuple, the values of a mapping. A bus that begins to consume raises RegistrationError
    where its lifespan yields no such thing, or several. Tests put another one in its place with
    `test.override(from_lifespan(Pool), ...)`. Awaited where no message is being handled, it raises BusError.
    """
    if not isinstance(type_, type) or _is_a_blind_protocol(type_):
        name = getattr(type_, "__name__", type_)
        raise RegistrationError(f"from_lifespan({name}): give it a class, or a Protocol that is @runtime_checkable")
    if type_ not in _made:  # one function for a class, so that it can be overridden
        _made[type_] = _dependency(type_)
    return _made[type_]


def _dependency(type_: type) -> Callable[[], Awaitable[Any]]:
    async def shared() -> Any:
        yielded = YIELDED.get()
        if yielded is None:
            raise BusError(f"from_lifespan({type_.__name__}) is for what handles a message")
        return yielded.get(type_)

    shared.__annotations__ = {"return": type_}
    setattr(shared, _ASKED, type_)
    return shared


def check_yielded(where: object, models: Iterable[tuple[str, CallModel]], yielded: Yielded, provider: Provider) -> None:
    """Whether all is there that handlers ask for, what stands in for dependencies looked through.

    `models`: what handlers depend on, with their names. Raises RegistrationError naming `where` and the handler.
    """
    for name, model in models:
        for type_ in _asked(model, provider):
            try:
                yielded.get(type_)
            except RegistrationError as error:
                raise RegistrationError(f"{where}: handler {name}: {error}") from None


def _asked(model: CallModel, provider: Provider) -> Iterator[type]:
    for key in model.dependencies.values():
        inner = provider.get_dependant(key)
        if (type_ := getattr(inner.call, _ASKED, None)) is not None:
            yield type_
        yield from _asked(inner, provider)


def _is_a_blind_protocol(type_: type) -> bool:
    return getattr(type_, "_is_protocol", False) and not getattr(type_, "_is_runtime_protocol", False)
