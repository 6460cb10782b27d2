"""The fields of a class: of a pydantic model, a dataclass, a TypedDict or a msgspec Struct, told alike."""

from __future__ import annotations

import dataclasses
import sys
import typing
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, NotRequired, Required, get_args, get_origin

from pydantic import AliasChoices, BaseModel, RootModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from typing_extensions import is_typeddict

from msgbus.codecs.avro.schema import MISSING
from msgbus.errors import ConfigError


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AvroField:
    """How a field is in Avro, inside `Annotated[...]`.

    `name`: in the schema, that of the field by default. `doc`: its text there. `aliases`: names that it had before.
    `precision` and `scale`: digits of a Decimal, in all and behind the point; both or none.
    """

    name: str | None = None
    doc: str = ""
    aliases: tuple[str, ...] = ()
    precision: int | None = None
    scale: int = 0


class Member(NamedTuple):
    """A field. `default`: MISSING where there is none, or none that is known beforehand (`has_default` tells)."""

    name: str
    annotation: Any
    metadata: tuple[Any, ...]
    default: Any
    has_default: bool
    read_as: str
    may_lack: bool = False
    doc: str = ""


class Members(NamedTuple):
    """All of a class, and what a value of it is: an "object" with attributes, or a "dict"."""

    form: str
    members: list[Member]


def members_of(cls: Any) -> Members | None:
    """None for a class without declared fields. Raises ConfigError for one whose fields can't be known."""
    if not isinstance(cls, type):
        return None
    if is_typeddict(cls):
        return Members("dict", list(_of_typeddict(cls)))
    if issubclass(cls, BaseModel):
        return Members("object", list(_of_model(cls)))
    if dataclasses.is_dataclass(cls):
        fields = getattr(cls, "__pydantic_fields__", None)
        return Members("object", list(_of_infos(cls, fields) if fields is not None else _of_dataclass(cls)))
    msgspec = sys.modules.get("msgspec")
    if msgspec is not None and issubclass(cls, msgspec.Struct):
        return Members("object", list(_of_struct(cls, msgspec)))
    return None


def _of_model(cls: type[BaseModel]) -> Iterator[Member]:
    if issubclass(cls, RootModel):
        raise ConfigError(f"{cls.__name__}: a RootModel has no fields; declare a field of its type")
    if cls.model_config.get("extra") == "allow":
        raise ConfigError(f"{cls.__name__}: extra='allow' lets in fields that no schema names; use a dict for them")
    return _of_infos(cls, cls.model_fields)


def _of_infos(cls: type, fields: dict[str, FieldInfo]) -> Iterator[Member]:
    for name, info in fields.items():
        if info.exclude:
            continue
        default = info.default if info.default is not PydanticUndefined else _made(info.default_factory)
        yield Member(
            name, info.annotation, tuple(info.metadata), default, not info.is_required(),
            _read_as(cls, name, info), doc=info.description or "",
        )  # fmt: skip


def _read_as(cls: type, name: str, info: FieldInfo) -> str:
    config = getattr(cls, "model_config", None) or getattr(cls, "__pydantic_config__", None) or {}
    alias = info.validation_alias if info.validation_alias is not None else info.alias
    if alias is None or config.get("validate_by_name") or config.get("populate_by_name"):
        return name
    first = alias.choices[0] if isinstance(alias, AliasChoices) else alias
    if not isinstance(first, str):
        raise ConfigError(f"{cls.__name__}.{name}: read by a path; give the model validate_by_name=True")
    return first


def _of_dataclass(cls: Any) -> Iterator[Member]:
    hints = _hints(cls)
    for each in dataclasses.fields(cls):
        if not each.init:
            continue  # it is made of the others
        has_factory = each.default_factory is not dataclasses.MISSING
        default = _made(each.default_factory) if has_factory else each.default
        known = MISSING if default is dataclasses.MISSING else default
        has_default = has_factory or each.default is not dataclasses.MISSING
        yield Member(each.name, hints[each.name], (), known, has_default, each.name)


def _of_typeddict(cls: Any) -> Iterator[Member]:
    for name, hint in _hints(cls).items():
        required = name in cls.__required_keys__
        while get_origin(hint) in (Required, NotRequired):
            required, hint = get_origin(hint) is Required, get_args(hint)[0]
        yield Member(name, hint, (), MISSING, not required, name, may_lack=not required)


def _of_struct(cls: Any, msgspec: Any) -> Iterator[Member]:
    nothing = msgspec.NODEFAULT
    for each in msgspec.structs.fields(cls):
        default = each.default if each.default is not nothing else _made(each.default_factory)
        default = MISSING if default is nothing else default
        yield Member(each.name, each.type, (), default, not each.required, each.encode_name)


def _made(factory: Callable[..., Any] | Any) -> Any:
    """An empty list and its like are known beforehand; what any other factory makes is not."""
    return factory() if factory in (list, dict, set, tuple, frozenset) else MISSING


def _hints(cls: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(cls, include_extras=True)
    except (NameError, TypeError) as error:
        raise ConfigError(
            f"{cls.__name__}: an annotation can't be read: {error}; declare it at module level"
        ) from error
