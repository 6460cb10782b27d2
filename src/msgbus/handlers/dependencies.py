"""What a handler's other parameters depend on, looked at when it is declared: all of it can be bound, and fits."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from fast_depends.dependencies.model import Dependant

from msgbus.errors import RegistrationError
from msgbus.topic import type_name

_STARRED = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def parameters_of(function: Any) -> list[inspect.Parameter]:
    """All but `*args` and `**kwargs`."""
    return [p for p in inspect.signature(function).parameters.values() if p.kind not in _STARRED]


def dependency(parameter: inspect.Parameter, hints: Mapping[str, Any]) -> Dependant | None:
    """The `Depends(...)` of a parameter, if it is one."""
    marks = (*getattr(hints.get(parameter.name), "__metadata__", ()), parameter.default)
    return next(filter(None, map(mark_of, marks)), None)


def mark_of(thing: object) -> Dependant | None:
    """It, if it is a `Depends(...)`."""
    return thing if isinstance(thing, Dependant) else None


def check_bindable(
    parameter: inspect.Parameter, given: Sequence[inspect.Parameter], hints: Mapping[str, Any], where: str
) -> None:
    """A parameter must be a dependency that can be bound itself, or have a default.

    `given`: those of the handler that are bound before it: its payload, and dependencies that come earlier.

    Raises RegistrationError.
    """
    mark = dependency(parameter, hints)
    if mark is None:
        if parameter.default is inspect.Parameter.empty:
            raise RegistrationError(
                f"{where}: nothing binds parameter {parameter.name!r};"
                f" use Annotated[..., Depends(...)] or give it a default"
            )
        return
    wanted, returned = _plain(hints.get(parameter.name)), _returned(mark.dependency)
    loose = wanted is Any or getattr(wanted, "_is_protocol", False)
    if not loose and isinstance(wanted, type) and isinstance(returned, type) and not is_subclass(returned, wanted):
        raise RegistrationError(
            f"{where}: parameter {parameter.name!r} is {wanted.__name__}, its dependency gives {returned.__name__}"
        )
    _check_inside(mark.dependency, {p.name: _plain(hints.get(p.name)) for p in given}, where, ())


def _check_inside(function: Any, given: Mapping[str, Any], where: str, outer: tuple[Any, ...]) -> None:
    """A dependency gets dependencies of its own, and the handler's arguments by their names."""
    if function in outer:
        raise RegistrationError(f"{where}: dependency {_name(function)} depends on itself")
    try:
        parameters, hints = parameters_of(function), _hints(function)
    except (ValueError, TypeError, NameError):  # a builtin, or annotations that only its own module can resolve
        return
    for parameter in parameters:
        mark = dependency(parameter, hints)
        if mark is not None:
            _check_readable(function, parameter, where)
            _check_inside(mark.dependency, given, where, (*outer, function))
        elif parameter.name in given:
            _check_fits(parameter, hints, given[parameter.name], f"{where}: dependency {_name(function)}")
        elif parameter.default is inspect.Parameter.empty:
            raise RegistrationError(
                f"{where}: nothing binds parameter {parameter.name!r} of its dependency {_name(function)}: a dependency"
                f" gets the handler's arguments by name ({', '.join(given)}), Depends(...), or a default"
            )


def _check_readable(function: Any, parameter: inspect.Parameter, where: str) -> None:
    """Annotations that are text are resolved for functions alone: FastDepends would see no dependency there."""
    if isinstance(parameter.annotation, str) and not inspect.isroutine(function) and mark_of(parameter.default) is None:
        raise RegistrationError(
            f"{where}: dependency {_name(function)} has annotations as text (`from __future__ import annotations`),"
            f" so {parameter.name!r} can't be resolved: make it a function, or write {parameter.name} = Depends(...)"
        )


def _check_fits(parameter: inspect.Parameter, hints: Mapping[str, Any], given: Any, where: str) -> None:
    """Only what surely does not fit is refused: one class where another one is wanted."""
    wanted = _plain(hints.get(parameter.name))
    one, other = get_origin(given) or given, get_origin(wanted) or wanted
    loose = getattr(other, "_is_protocol", False) or wanted is None or given is None
    if not loose and isinstance(one, type) and isinstance(other, type) and not is_subclass(one, other):
        raise RegistrationError(
            f"{where}: parameter {parameter.name!r} is {type_name(wanted)}, the handler's is {type_name(given)}"
        )


def is_subclass(one: Any, other: Any) -> bool:
    """Whether both are classes that can be compared, and `one` is a subclass of `other`."""
    try:
        return isinstance(one, type) and isinstance(other, type) and issubclass(one, other)
    except TypeError:  # a TypedDict, or a Protocol with data members
        return False


def _plain(annotation: Any) -> Any:
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def _hints(function: Any) -> dict[str, Any]:
    target = getattr(function, "__init__") if isinstance(function, type) else function  # noqa: B009 - for mypy
    return get_type_hints(target if inspect.isroutine(target) else target.__call__, include_extras=True)


def _name(function: Any) -> str:
    return str(getattr(function, "__qualname__", repr(function)))


def _returned(function: Any) -> Any:
    if isinstance(function, type):
        return function
    try:
        return get_type_hints(function).get("return")
    except (NameError, TypeError):
        return None
