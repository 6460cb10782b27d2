"""Reads the signature of a user's function once: what its first parameter takes, and what the others depend on."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, get_args, get_origin, get_type_hints

from fast_depends import Provider, inject
from fast_depends.dependencies.model import Dependant

from msgbus.errors import RegistrationError
from msgbus.message import Message
from msgbus.topic import type_name, union_members


@dataclass(frozen=True, slots=True)
class Bound:
    """A user's function, what its first parameter asks for, and whether others are dependencies."""

    name: str
    function: Callable[..., Awaitable[Any]]
    wants_message: bool = False
    wants_list: bool = False
    injects: bool = False

    def with_dependencies(self, provider: Provider) -> Callable[[Any], Awaitable[Any]]:
        """A function of one argument. Only handlers with dependencies pay for them."""
        if not self.injects:
            return self.function
        return inject(self.function, cast=False, dependency_provider=provider)


def bind(function: Callable[..., Awaitable[Any]], type_: Any, what: str) -> Bound:
    """Read the signature of a handler of `type_`. Raises RegistrationError naming the handler and the parameter.

    The first parameter takes the payload, `Message[T]`, `list[T]` or `list[Message[T]]`; every other one must be
    a dependency (`Annotated[X, Depends(f)]`) or have a default.
    """
    name = getattr(function, "__qualname__", repr(function))
    where = f"{what}: handler {name}"
    if not _is_async(function):
        raise RegistrationError(f"{where} must be `async def`")
    parameters, hints = _signature(function, type_, where)
    if not parameters:
        raise RegistrationError(f"{where} takes no parameter; the first one receives the payload")
    first, *others = parameters
    if first.kind is first.KEYWORD_ONLY:
        raise RegistrationError(
            f"{where}: parameter {first.name!r} is keyword-only; the first one is given by position"
        )
    wants_message, wants_list = _shape(hints.get(first.name, Any), type_, where, first.name)
    dependencies = [p for p in others if _dependency(p, hints)]
    for parameter in others:
        _check_bindable(parameter, parameter in dependencies, hints, where)
    return Bound(name, function, wants_message, wants_list, bool(dependencies))


def _is_async(function: Any) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004


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
    parameters = list(inspect.signature(function).parameters.values())
    return [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)], hints


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
    return all(member in wide or any(_is_subclass(member, w) for w in wide) for member in union_members(type_))


def _is_subclass(one: Any, other: Any) -> bool:
    """Whether both are classes that can be compared, and `one` is a subclass of `other`."""
    try:
        return isinstance(one, type) and isinstance(other, type) and issubclass(one, other)
    except TypeError:  # a TypedDict, or a Protocol with data members
        return False


def _dependency(parameter: inspect.Parameter, hints: dict[str, Any]) -> Dependant | None:
    marks = (*getattr(hints.get(parameter.name), "__metadata__", ()), parameter.default)
    return next((mark for mark in marks if isinstance(mark, Dependant)), None)


def _check_bindable(parameter: inspect.Parameter, is_dependency: bool, hints: dict[str, Any], where: str) -> None:
    if not is_dependency:
        if parameter.default is inspect.Parameter.empty:
            raise RegistrationError(
                f"{where}: nothing binds parameter {parameter.name!r};"
                f" use Annotated[..., Depends(...)] or give it a default"
            )
        return
    mark = _dependency(parameter, hints)
    annotation = hints.get(parameter.name)
    wanted = get_args(annotation)[0] if hasattr(annotation, "__metadata__") else annotation
    given = _returned(mark.dependency) if mark is not None else None
    loose = wanted is Any or getattr(wanted, "_is_protocol", False)
    if not loose and isinstance(wanted, type) and isinstance(given, type) and not _is_subclass(given, wanted):
        raise RegistrationError(
            f"{where}: parameter {parameter.name!r} is {wanted.__name__}, its dependency gives {given.__name__}"
        )


def _returned(function: Any) -> Any:
    if isinstance(function, type):
        return function
    try:
        return get_type_hints(function).get("return")
    except (NameError, TypeError):
        return None
