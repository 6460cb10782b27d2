"""One decorated handler, and what is refused when it is declared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from types import NoneType
from typing import Any

from msgbus.errors import ConfigError, RegistrationError
from msgbus.handlers.binding import Bound
from msgbus.handlers.middleware import ConsumeMiddleware
from msgbus.message import Kind
from msgbus.options import Options, Select
from msgbus.topic import Queue, Rpc, Topic, field_names, type_name, union_members


@dataclass(frozen=True, slots=True)
class Registration:
    """One decorated handler; `middlewares` stand around it alone."""

    target: Topic[Any] | Queue[Any] | Rpc[Any, Any]
    group: str
    bound: Bound
    options: Options
    select: Select
    middlewares: Sequence[ConsumeMiddleware] = ()

    @property
    def kind(self) -> Kind:
        """An Rpc's requests travel in a queue."""
        return "topic" if isinstance(self.target, Topic) else "queue"

    @property
    def place(self) -> tuple[str, str, str]:
        """Registrations of one place share a subscription."""
        return (self.kind, self.target.name, self.group)


def check_where(topic: Topic[Any], select: Select | None) -> None:
    """Headers that are filtered on must be kept native where a broker allows few: the topic says which."""
    unknown = [name for name in (select.where or {}) if name not in topic.filter_on] if select else []
    if unknown:
        raise RegistrationError(f"{topic!r}: select.where names {unknown}; name them in Topic(filter_on=...) too")


def check_fields(topic: Topic[Any], select: Select | None) -> None:
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


def check_carried(target: Topic[Any] | Queue[Any] | Rpc[Any, Any], *types: Any) -> None:
    """A payload type that the codec can't carry is told here, not when the service starts."""
    for type_ in (*types, *((target.reply,) if isinstance(target, Rpc) else ())):
        try:
            target.codec.bind(type_)
        except ConfigError as error:
            raise RegistrationError(f"{target!r}: {error}") from error


def check_handler(target: Topic[Any] | Queue[Any] | Rpc[Any, Any], bound: Bound, options: Options) -> None:
    """Whether what it takes goes with what it is to handle, and with its options."""
    if options.batched and not bound.wants_list:
        raise RegistrationError(f"{target!r}: batch= is for handlers of lists, {bound.name} takes single messages")
    if bound.wants_list and isinstance(target, Rpc):
        raise RegistrationError(f"{target!r}: handler {bound.name} takes a list; a responder answers one request")
    if not bound.is_async and options.limits.timeout is not None:
        raise RegistrationError(
            f"{target!r}: handler {bound.name} runs in a thread, which limits.timeout can't end: make it"
            " `async def`, or give a timeout to what it calls"
        )


def may_share(old: Registration, new: Registration) -> bool:
    """Whether two handlers may share a subscription: each takes another type of its topic.

    Raises RegistrationError where they could, but for what they ask for.
    """
    one, other = old.target, new.target
    if not (isinstance(one, Topic) and isinstance(other, Topic) and one.narrowed and other.narrowed):
        return False
    if old.options != new.options or old.select != new.select or old.bound.wants_list or new.bound.wants_list:
        raise RegistrationError(
            f"{one!r}, group {old.group!r}: handlers that share a group share its options and take single messages"
        )
    return bool(one.type != other.type)
