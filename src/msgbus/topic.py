"""What a service declares: topics, queues and calls, each with the type of its payload.

All are invariant in what is sent: a covariant Topic would let `publish(orders, 123)` pass.
"""

from __future__ import annotations

import dataclasses
import enum
import operator
import types
import uuid
from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, TypeVar, Union, get_args, get_origin

from typing_extensions import TypeForm, is_typeddict

from msgbus.codecs import Codec
from msgbus.codecs.json import Json
from msgbus.errors import Refused, RegistrationError

T = TypeVar("T")
Member = TypeVar("Member")
Request = TypeVar("Request")
Reply = TypeVar("Reply", covariant=True)  # noqa: PLC0105 - only read: an `object` may be asked for where a Quote comes

Key = str | int | uuid.UUID | enum.Enum | None
"""What a key may be: None is no key, an Enum's is its value, a whole number's and a UUID's their text."""

KeyOf = str | Callable[[Any], Key]


class Topic(Generic[T]):
    """Publish/subscribe: every group gets every message.

    `key`: the field (or function) that gives the ordering key, a hint. `ordered=True` demands order per key and is
    refused at start where the broker has none. `filter_on`: headers that subscriptions filter on, kept native
    where a broker allows few. `require_subscriber`: publishing to nobody is an error, where the broker can tell.
    `bare=True`: where a broker has no headers (Kinesis), the body goes out as it is, for consumers that know no
    CloudEvents; id, type, time and headers are not carried there. Elsewhere it changes nothing.
    """

    kind: Final = "topic"

    def __init__(
        self,
        name: str,
        type: TypeForm[T],  # noqa: A002 - the argument's natural name
        *,
        key: str | Callable[[T], Key] | None = None,
        ordered: bool = False,
        codec: Codec | None = None,
        filter_on: Sequence[str] = (),
        require_subscriber: bool = False,
        bare: bool = False,
    ) -> None:
        self.name = checked_name(name, "Topic")
        self.type = checked_members(type, f"Topic {name!r}")
        self.key_of = key_getter(f"Topic {name!r}", type, key)
        self.ordered = checked_order(f"Topic {name!r}", ordered, key)
        self.codec = codec or Json()
        self.filter_on = tuple(filter_on)
        self.require_subscriber = require_subscriber
        self.bare = bare
        self.narrowed = False

    def only(self, type: TypeForm[Member]) -> Topic[Member]:  # noqa: A002 - the argument's natural name
        """The same topic for one member of its union: subscribe to it to get that type alone.

        Several subscribers of one group may each take another member; what none of them takes is skipped.
        """
        if type not in union_members(self.type):
            raise RegistrationError(f"{self!r}: {type_name(type)} is no member of its type")
        if self.bare:
            raise RegistrationError(f"{self!r}: bare=True carries no type, so that nobody can ask for one alone")
        narrowed: Topic[Member] = Topic(self.name, type, codec=self.codec, filter_on=self.filter_on)
        narrowed.key_of, narrowed.ordered, narrowed.narrowed = self.key_of, self.ordered, True
        return narrowed

    def __repr__(self) -> str:
        return f"Topic({self.name!r}, {type_name(self.type)})"


class Queue(Generic[T]):
    """Work: one of the competing consumers gets each message. `key`, `ordered` and `codec` as for a Topic."""

    kind: Final = "queue"

    def __init__(
        self,
        name: str,
        type: TypeForm[T],  # noqa: A002 - the argument's natural name
        *,
        key: str | Callable[[T], Key] | None = None,
        ordered: bool = False,
        codec: Codec | None = None,
    ) -> None:
        self.name = checked_name(name, "Queue")
        self.type = checked_members(type, f"Queue {name!r}")
        self.key_of = key_getter(f"Queue {name!r}", type, key)
        self.ordered = checked_order(f"Queue {name!r}", ordered, key)
        self.codec = codec or Json()
        self.filter_on: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Queue({self.name!r}, {type_name(self.type)})"


class Rpc(Generic[Request, Reply]):
    """Request/reply: one of the responders answers each request.

    `errors`: the exceptions with which a responder says no. They are no failures: told to who asked at once, as a
    RemoteError with the class's name as `type`, without another attempt and without a traceback in the log.
    """

    kind = "rpc"

    def __init__(
        self,
        name: str,
        request: TypeForm[Request],
        reply: TypeForm[Reply],
        *,
        codec: Codec | None = None,
        errors: Sequence[type[Exception]] = (),
    ) -> None:
        self.name = checked_name(name, "Rpc")
        self.request = checked_members(request, f"Rpc {name!r}")
        self.reply = checked_members(reply, f"Rpc {name!r}")
        self.codec = codec or Json()
        self.errors = tuple(errors)

    def __repr__(self) -> str:
        return f"Rpc({self.name!r}, {type_name(self.request)}, {type_name(self.reply)})"


def type_name(type_: Any) -> str:
    """What the `ce-type` attribute says of a payload: its class's `__event_type__`, else its name."""
    return getattr(type_, "__event_type__", None) or getattr(type_, "__name__", None) or str(type_)


def union_members(type_: Any) -> tuple[Any, ...]:
    """The members of `A | B`; a type that is no union is its own only member."""
    return get_args(type_) if get_origin(type_) in (Union, types.UnionType) else (type_,)


def checked_members(type_: Any, what: str) -> Any:
    """What travels is the name of a member: two of the same could not be told apart."""
    names = [type_name(member) for member in union_members(type_)]
    for name in names:
        if names.count(name) > 1:
            raise RegistrationError(f"{what}: two members of its type are called {name!r}; give one an __event_type__")
    return type_


def checked_name(name: str, what: str) -> str:
    """Names that every broker can carry: letters, digits, `.`, `-` and `_`, at most 80 characters."""
    if not name or len(name) > 80 or not all(c.isascii() and (c.isalnum() or c in "._-") for c in name):
        raise RegistrationError(
            f"{what} name {name!r}: use 1 to 80 ASCII letters, digits, '.', '-' and '_', which every broker can carry"
        )
    return name


def checked_order(what: str, ordered: bool, key: object) -> bool:
    """`ordered=True` means per key, so there must be one."""
    if ordered and key is None:
        raise RegistrationError(f"{what}: ordered=True keeps order per key; say which with key=")
    return ordered


def key_getter(what: str, type_: Any, key: KeyOf | None) -> Callable[[Any], str | None] | None:
    """A function from payload to ordering key, which raises Refused where the field holds none.

    A field that the type does not have is refused at once.
    """
    if key is None:
        return None
    if callable(key):
        return _key_of(what, "key=", key)
    for member in union_members(type_):
        fields = field_names(member)
        if fields is not None and key not in fields:
            raise RegistrationError(f"{what}: key={key!r} is no field of {type_name(member)}; it has {sorted(fields)}")
    return _key_of(what, f"field {key!r}", field_getter(type_, key))


def _key_of(what: str, field: str, get: Callable[[Any], Any]) -> Callable[[Any], str | None]:
    def key_of(payload: Any) -> str | None:
        value = get(payload)
        return value if value.__class__ is str and value.isascii() else key_text(value, f"{what}: {field}")

    return key_of


def key_text(value: object, what: str) -> str | None:
    """A key as all brokers carry it; None means no key. Raises Refused for what is none."""
    if isinstance(value, enum.Enum):
        value = value.value
    if value is None:
        return None
    if isinstance(value, (int, uuid.UUID)) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise Refused(f"{what} is {value!r:.200}: a key is text, a whole number, a UUID, an Enum of these, or None")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise Refused(f"{what} is {value!a:.200}, which is no text that can be sent: {error.reason}") from error
    return str(value)


def field_getter(type_: Any, field: str) -> Callable[[Any], Any]:
    """A function from payload to the value of one of its fields."""
    of_dict = all(is_typeddict(member) for member in union_members(type_))
    return operator.itemgetter(field) if of_dict else operator.attrgetter(field)


def field_names(type_: Any) -> set[str] | None:
    """The field names of a model, dataclass, Struct or TypedDict; None where the type has no declared fields."""
    if fields := getattr(type_, "model_fields", None):
        return set(fields)
    if dataclasses.is_dataclass(type_):
        return {field.name for field in dataclasses.fields(type_)}
    if struct := getattr(type_, "__struct_fields__", None):
        return set(struct)
    return set(type_.__annotations__) if is_typeddict(type_) else None
