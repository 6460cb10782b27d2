"""From a message type to its Avro schema.

Each kind of annotation has its own short function; what none of them takes is a ConfigError that names field, reason
and remedy.
"""

from __future__ import annotations

import datetime as dt
import enum
import json
import types
import typing
import uuid
from collections import abc
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import AwareDatetime, NaiveDatetime
from pydantic.fields import FieldInfo
from typing_extensions import TypeAliasType

from msgbus.codecs.avro.members import AvroField, Member, members_of
from msgbus.codecs.avro.parsing import check_members, checked_name, full_name
from msgbus.codecs.avro.schema import MISSING, NAME, Array, Field, Map, Node, Plain, Record, Symbols, Union, to_json
from msgbus.errors import ConfigError

_PLAIN: dict[Any, tuple[str, str]] = {
    type(None): ("null", ""),
    bool: ("boolean", ""),
    int: ("long", ""),
    float: ("double", ""),
    str: ("string", ""),
    bytes: ("bytes", ""),
    dt.datetime: ("long", "timestamp-micros"),
    AwareDatetime: ("long", "timestamp-micros"),
    NaiveDatetime: ("long", "local-timestamp-micros"),
    dt.date: ("int", "date"),
    dt.time: ("long", "time-micros"),
    dt.timedelta: ("long", "timedelta-micros"),
    uuid.UUID: ("string", "uuid"),
}
_LISTS = (list, set, frozenset, abc.Sequence, abc.Set, abc.Iterable, abc.Collection, abc.MutableSequence)
_DICTS = (dict, abc.Mapping, abc.MutableMapping)
_REMEDY = "give it a type that Avro has, or leave it out of the message"


def derive(type_: Any) -> Record:
    """The schema of a pydantic model, dataclass, TypedDict or msgspec Struct.

    Raises ConfigError for a type that Avro has no form for.
    """
    node = _Deriver().of(type_, (), _name_of(type_))
    if not isinstance(node, Record):
        raise ConfigError(f"{type_!r}: an Avro message is a record: a pydantic model, dataclass, TypedDict or Struct")
    return node


def avro_schema(type_: Any) -> str:
    """The derived schema as the text of an .avsc."""
    return json.dumps(to_json(derive(type_)), indent=2, ensure_ascii=False)


class _Deriver:
    def __init__(self) -> None:
        self.records: dict[Any, Node] = {}
        self.names: dict[str, Any] = {}

    def of(self, annotation: Any, metadata: Sequence[Any], path: str) -> Node:
        annotation, metadata = _bare(annotation, metadata)
        if annotation in self.records:
            return self.records[annotation]
        origin = get_origin(annotation)
        if annotation is Decimal:
            return _decimal(metadata, path)
        if annotation in _PLAIN:
            kind, logical = _PLAIN[annotation]
            return Plain(kind, logical)
        if origin is not None:
            return self._generic(origin, get_args(annotation), annotation, path)
        if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
            return self._enum(annotation, path)
        return self._record(annotation, path)

    def _generic(self, origin: Any, args: tuple[Any, ...], annotation: Any, path: str) -> Node:
        if origin in (typing.Union, types.UnionType):
            return self._union(args, path)
        if origin is Literal:
            return self._choice(args, path)
        if origin is tuple:
            return self._tuple(args, path)
        if origin in _LISTS:
            return Array(self.of(args[0], (), f"{path}[]"))
        if origin in _DICTS:
            if _bare(args[0], ())[0] is not str:
                raise ConfigError(
                    f"{path}: the keys of an Avro map are text, not {_name_of(args[0])}; use dict[str, ...]"
                )
            return Map(self.of(args[1], (), f"{path}{{}}"))
        return self._record(annotation, path)

    def _union(self, args: tuple[Any, ...], path: str) -> Node:
        members: list[Node] = []
        for arg in args:
            node = self.of(arg, (), path)
            members += node.members if isinstance(node, Union) else [node]
        check_members(members, f"{path}: members of one Avro type can't be told apart: make them records, or one type")
        if sum(isinstance(each, Record) and each.form != "object" for each in members) > 1:
            raise ConfigError(
                f"{path}: TypedDicts and tuples in a union can't be told apart; use models or dataclasses"
            )
        members.sort(key=lambda each: each.kind != "null")
        return Union(members)

    def _choice(self, values: tuple[Any, ...], path: str) -> Node:
        classes = {type(value) for value in values}
        if all(isinstance(value, enum.Enum) for value in values) and len(classes) == 1:
            return self.of(classes.pop(), (), path)
        if classes == {str}:
            if all(NAME.fullmatch(value) for value in values):
                name = self._take(path.replace(".", "_").translate(_NO_MARKS), values, path)
                return Symbols(name, list(values))
            return Plain("string")
        if len(classes) == 1 and (found := _PLAIN.get(classes.pop())):
            return Plain(*found)
        raise ConfigError(
            f"{path}: Literal{list(values)}: values of several types; use those of one, or a union of Enums"
        )

    def _enum(self, cls: type[enum.Enum], path: str) -> Node:
        values = [member.value for member in cls]
        if all(type(value) is int for value in values):
            return Plain("long", is_enum=True, cls=cls)
        if not values or not all(type(value) is str for value in values):
            raise ConfigError(f"{path}: the values of {cls.__name__} are neither all text nor all whole numbers")
        if not all(NAME.fullmatch(value) for value in values):
            return Plain("string", is_enum=True, cls=cls)
        self.records[cls] = node = Symbols(self._take(_avro_name(cls, path), cls, path), values, cls=cls)
        node.aliases = _aliases(cls, path)
        return node

    def _tuple(self, args: tuple[Any, ...], path: str) -> Node:
        if len(args) == 2 and args[1] is Ellipsis:
            return Array(self.of(args[0], (), f"{path}[]"))
        if not args:
            raise ConfigError(f"{path}: an empty tuple carries nothing")
        name = self._take(path.replace(".", "_").translate(_NO_MARKS), args, path)
        record = Record(name, form="tuple")
        for place, arg in enumerate(args):
            record.fields.append(Field(f"item{place}", self.of(arg, (), f"{path}.item{place}")))
        return record

    def _record(self, cls: Any, path: str) -> Node:
        found = members_of(cls)
        if found is None:
            raise ConfigError(f"{path}: {_name_of(cls)} has no form in Avro; {_REMEDY}")
        name = self._take(_avro_name(cls, path), cls, path)
        record = Record(name, form=found.form, cls=cls, aliases=_aliases(cls, path))
        self.records[cls] = record
        for member in found.members:
            record.fields.append(self._field(member, f"{_name_of(cls)}.{member.name}"))
        names = [each.name for each in record.fields]
        if twice := [each for each in names if names.count(each) > 1]:
            raise ConfigError(f"{path}: two fields are called {twice[0]!r} in Avro")
        return record

    def _field(self, member: Member, path: str) -> Field:
        annotation, metadata = _bare(member.annotation, member.metadata)
        given = next((each for each in metadata if isinstance(each, AvroField)), AvroField())
        node = self.of(annotation, metadata, path)
        default = _default(member.default, node)
        if member.may_lack:
            node, default = _lacking(node, path), None
        aliases = [checked_name(alias, path) for alias in given.aliases]
        name = checked_name(given.name or member.name, f"{path} (name it by Annotated[..., AvroField(name=...)])")
        return Field(
            name, _first(node, default), default, aliases, given.doc or member.doc,
            attribute=member.name, read_as=member.read_as, may_lack=member.may_lack, has_default=member.has_default,
        )  # fmt: skip

    def _take(self, name: str, owner: Any, path: str) -> str:
        if self.names.setdefault(name, owner) != owner:
            raise ConfigError(f"{path}: two types are called {name!r}; give one an __avro_name__")
        return name


_NO_MARKS = str.maketrans("", "", "[]{}")


def _bare(annotation: Any, metadata: Sequence[Any]) -> tuple[Any, tuple[Any, ...]]:
    """Without Annotated, NewType and names of types around it."""
    while True:
        if get_origin(annotation) is Annotated:
            annotation, *more = get_args(annotation)
            inside = [each.metadata if isinstance(each, FieldInfo) else [each] for each in more]
            metadata = (*metadata, *(each for found in inside for each in found))
        elif isinstance(annotation, typing.NewType):
            annotation = annotation.__supertype__
        elif isinstance(annotation, TypeAliasType):
            annotation = annotation.__value__
        else:
            return annotation, tuple(metadata)


def _decimal(metadata: Sequence[Any], path: str) -> Plain:
    for each in metadata:
        if isinstance(each, AvroField) and each.precision is not None:
            return _checked_decimal(each.precision, each.scale, path)
    digits = next((value for each in metadata if (value := getattr(each, "max_digits", None)) is not None), None)
    places = next((value for each in metadata if (value := getattr(each, "decimal_places", None)) is not None), None)
    if digits is None or places is None:
        raise ConfigError(
            f"{path}: a Decimal in Avro has so many digits: say Annotated[Decimal, AvroField(precision=18, scale=2)],"
            " or Field(max_digits=18, decimal_places=2)"
        )
    return _checked_decimal(digits, places, path)


def _checked_decimal(precision: int, scale: int, path: str) -> Plain:
    if not 0 <= scale <= precision <= 10_000 or precision < 1:
        raise ConfigError(f"{path}: precision {precision}, scale {scale}: 1 to 10,000 digits, the scale among them")
    return Plain("bytes", "decimal", precision, scale)


def _lacking(node: Node, path: str) -> Node:
    members = list(node.members) if isinstance(node, Union) else [node]
    if any(each.kind == "null" for each in members):
        raise ConfigError(f"{path}: NotRequired and None would be the same in Avro; use one of them")
    return Union([Plain("null"), *members])


def _first(node: Node, default: Any) -> Node:
    """The member that a default is of comes first, as the specification wants."""
    if isinstance(node, Union) and default is not MISSING and default is not None:
        return Union(sorted(node.members, key=lambda each: not _is_of(default, each)))
    return node


def _is_of(default: Any, node: Node) -> bool:
    if isinstance(node, Plain):
        return {bool: "boolean", int: "long", float: "double", str: "string"}.get(type(default)) == node.kind
    if isinstance(node, Symbols):
        return default in node.symbols
    if isinstance(node, Array):
        return isinstance(default, list)
    return isinstance(node, Map) and isinstance(default, dict)


def _default(value: Any, node: Node) -> Any:
    """A default in the JSON of a schema; MISSING where it has none: the Python type fills it in then."""
    members = node.members if isinstance(node, Union) else [node]
    if value is None:
        return None if any(each.kind == "null" for each in members) else MISSING
    if isinstance(value, enum.Enum):
        value = value.value
    found = [each for each in members if _takes(value, each)]
    return list(value) if found and isinstance(value, (list, tuple, set, frozenset)) else value if found else MISSING


def _takes(value: Any, node: Node) -> bool:
    if isinstance(node, Plain) and not node.logical:
        check = _DEFAULTS.get(node.kind)
        return check is not None and check(value)
    if isinstance(node, Symbols):
        return value in node.symbols
    if isinstance(node, Array):
        return isinstance(value, (list, tuple, set, frozenset)) and not value
    return isinstance(node, Map) and isinstance(value, dict) and not value


_DEFAULTS: dict[str, Callable[[Any], bool]] = {
    "boolean": lambda value: type(value) is bool,
    "long": lambda value: type(value) is int and -(1 << 63) <= value < 1 << 63,
    "double": lambda value: type(value) is float and value - value == 0.0,
    "string": lambda value: type(value) is str,
}


def _avro_name(cls: Any, path: str) -> str:
    name = getattr(cls, "__avro_name__", None) or _name_of(cls)
    return full_name(name, None, "", f"{path} ({_name_of(cls)}: name it by __avro_name__)")[0]


def _aliases(cls: Any, path: str) -> list[str]:
    return [full_name(alias, None, "", path)[0] for alias in getattr(cls, "__avro_aliases__", ())]


def _name_of(type_: Any) -> str:
    return str(getattr(type_, "__name__", type_))
