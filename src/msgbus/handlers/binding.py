"""Reads the signature of a user's function once: what its first parameter takes, and what the others depend on."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, get_args, get_origin, get_type_hints

from fast_depends import Provider, inject
from fast_depends.core import CallModel

from msgbus.errors import RegistrationError
from msgbus.handlers.dependencies import check_bindable, dependency, is_subclass, parameters_of
from msgbus.handlers.threads import Threads
from msgbus.message import Message
from msgbus.topic import type_name, union_members


@dataclass(frozen=True, slots=True)
class Bound:
    """A user's function, what its first parameter asks for, and whether others are dependencies.

    `signature`: of an instance with `__call__`, whose annotations nobody else can resolve.
    """

    name: str
    function: Callable[..., Any]
    wants_message: bool = False
    wants_list: bool = False
    injects: bool = False
    is_async: bool = True
    signature: inspect.Signature | None = None

    def call(
        self, provider: Provider, threads: Threads, models: list[tuple[str, CallModel]]
    ) -> Callable[[Any], Awaitable[Any]]:
        """An async function of one argument. Only handlers with dependencies, or in threads, pay for these.

        `models` is told what it depends on, with its name.
        """
        function = self.function if self.is_async else threads.of(self.function)
        if not self.injects:
            return function

        def noted(model: CallModel) -> CallModel:
            models.append((self.name, model))
            return model

        return inject(self._readable(function), cast=False, dependency_provider=provider, wrap_model=noted)

    def _readable(self, function: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        if self.signature is None:
            return function

        async def readable(*args: Any, **kwargs: Any) -> Any:
            return await function(*args, **kwargs)

        readable.__signature__ = self.signature  # type: ignore[attr-defined] # inspect looks for it
        return readable


def bind(function: Callable[..., Any], type_: Any, what: str) -> Bound:
    """Read the signature of a handler of `type_`. Raises RegistrationError naming the handler and the parameter.

    The first parameter takes the payload, `Message[T]`, `list[T]` or `list[Message[T]]`; every other one must be
    a dependency (`Annotated[X, Depends(f)]`) or have a default.
    """
    name = getattr(function, "__qualname__", repr(function))
    where = f"{what}: handler {name}"
    if _is_any(function, inspect.isgeneratorfunction, inspect.isasyncgenfunction, inspect.isclass):
        raise RegistrationError(f"{where} must be a function without `yield`, `async def` or `def`")
    parameters, hints = _signature(function, type_, where)
    if not parameters:
        raise RegistrationError(f"{where} takes no parameter; the first one receives the payload")
    first, *others = parameters
    if first.kind is first.KEYWORD_ONLY:
        raise RegistrationError(
            f"{where}: parameter {first.name!r} is keyword-only; the first one is given by position"
        )
    wants_message, wants_list = _shape(hints.get(first.name, Any), type_, where, first.name)
    bound = [first]
    for parameter in others:
        check_bindable(parameter, bound, hints, where)
        bound += [parameter] if dependency(parameter, hints) else []
    is_async = _is_any(function, inspect.iscoroutinefunction)
    signature = None if inspect.isroutine(function) else _resolved(function, hints)
    return Bound(name, function, wants_message, wants_list, len(bound) > 1, is_async, signature)


def _resolved(function: Any, hints: dict[str, Any]) -> inspect.Signature:
    signature = inspect.signature(function)
    parameters = signature.parameters.values()
    return signature.replace(parameters=[p.replace(annotation=hints.get(p.name, p.annotation)) for p in parameters])


def _is_any(function: Any, *kinds: Callable[[object], bool]) -> bool:
    """Whether it is of one of these kinds, itself or as an instance with `__call__`."""
    return any(kind(function) or kind(getattr(function, "__call__", None)) for kind in kinds)  # noqa: B004


def _signature(function: Any, type_: Any, where: str) -> tuple[list[inspect.Parameter], dict[str, Any]]:
    target = function if inspect.isroutine(function) else function.__call__
    try:
        hints = get_type_hints(target, include_extras=True)
    except NameError:  # annotations as strings, of classes made in a function: the payload's we know
        known = {getattr(member, "__name__", ""): member for member in union_members(type_)}
        try:
            hints = get_type_hints(target, localns=known, include_extras=True)
        except NameError as error:
            raise RegistrationError(f"{where}: an annotation can't be resolved at run time: {error}") from error
    return parameters_of(function), hints


def _shape(annotation: Any, type_: Any, where: str, parameter: str) -> tuple[bool, bool]:
    """(wants Message, wants list); the topic's own type is tested first, for it may be a list itself."""
    if annotation is Any or annotation == type_:
        return False, False
    if _is_message(annotation, type_):
        return True, False
    if get_origin(annotation) in (list, Sequence):
        (entry,) = get_args(annotation) or (Any,)
        if entry is Any or entry == type_ or _accepts(entry, type_):
            return False, True
        if _is_message(entry, type_):
            return True, True
    if _accepts(annotation, type_):
        return False, False
    raise RegistrationError(
        f"{where}: parameter {parameter!r} is {type_name(annotation)}, the messages are {type_name(type_)}"
    )


def _is_message(annotation: Any, type_: Any) -> bool:
    if annotation is Message:
        return True
    return get_origin(annotation) is Message and _accepts(get_args(annotation)[0], type_)


def _accepts(annotation: Any, type_: Any) -> bool:
    """Whether a parameter of that annotation takes every payload of `type_`: the same, a wider union or a base."""
    if annotation is Any or annotation is object or annotation == type_:
        return True
    wide = union_members(annotation)
    return all(member in wide or any(is_subclass(member, w) for w in wide) for member in union_members(type_))
