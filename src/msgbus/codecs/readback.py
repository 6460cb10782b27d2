"""Whether what pydantic writes of a type can be read back as that type, found in its core schema.

pydantic has a name of each field for reading and one for writing, and types that are written as something else than
they are read from. Source: `pydantic_core.core_schema`, and the pages "Alias" and "Serialization" of its docs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

_FIELDS = ("model-fields", "dataclass-args", "typed-dict")
_NO_SCHEMAS = ("metadata", "config", "cls", "default")
_RENAMING = ("function-before", "function-wrap", "function-plain")
_NESTING = ("definition-ref", "any")

Schema = Mapping[str, Any]


class Readback(NamedTuple):
    """How to write a type so that it can be read back. `fault`: why it can't be, "" where it can.

    `by_alias`, `round_trip`: for pydantic's serializer. `nests`: values may be nested as deep as they like.
    """

    by_alias: bool | None
    round_trip: bool
    nests: bool
    fault: str


class _Field(NamedTuple):
    path: str
    names: frozenset[str]  # that are read
    plain: str  # what is written without aliases, as the model's configuration has it
    alias: str  # what is written with them
    is_lost: bool

    def is_read(self, *, by_alias: bool) -> bool:
        return (self.alias if by_alias else self.plain) in self.names


def readback_of(schema: Schema) -> Readback:
    """Look at the core schema of a type."""
    found = _Found()
    found.walk(schema, "", {})
    faults = found.faults + [f"{e.path} is excluded and required: give it a default" for e in found.fields if e.is_lost]
    by_alias = None
    if not all(each.is_read(by_alias=False) for each in found.fields):
        by_alias = True
        faults += [
            f"{each.path} is written as {each.alias!r} and read as {' or '.join(map(repr, sorted(each.names)))}:"
            " give it one `alias`, or the model `validate_by_name=True`"
            for each in found.fields
            if not each.is_read(by_alias=True)
        ]
    return Readback(by_alias, found.round_trip, found.nests, "; ".join(faults))


class _Found:
    """What lies in a schema. The `config` of a walk is that of the model around it."""

    def __init__(self) -> None:
        self.fields: list[_Field] = []
        self.faults: list[str] = []
        self.round_trip = self.nests = False

    def walk(self, schema: Any, path: str, config: Schema) -> None:
        """Look at everything below it."""
        if isinstance(schema, (list, tuple)):
            for each in schema:
                self.walk(each, path, config)
        elif isinstance(schema, Mapping):
            self._note(schema, path)
            if "serialization" not in schema and schema.get("type") not in _RENAMING:  # else it is its author's affair
                self._below(schema, path, schema.get("config") or config)

    def _note(self, schema: Schema, path: str) -> None:
        function = (schema.get("serialization") or {}).get("function")
        if getattr(function, "__module__", "") == "pydantic.types" and "secret" in getattr(function, "__name__", ""):
            what = path or "it"
            remedy = "use a str, or a serializer that says what to write"
            self.faults.append(f"{what} is a secret and written as stars: {remedy}")
        self.round_trip |= schema.get("type") == "json"
        self.nests |= schema.get("type") in _NESTING

    def _below(self, schema: Schema, path: str, config: Schema) -> None:
        if schema.get("type") in _FIELDS:
            self._take(schema, path, config)
            return
        for key, value in schema.items():
            if key not in _NO_SCHEMAS:
                self.walk(value, path, config)

    def _take(self, schema: Schema, path: str, config: Schema) -> None:
        given = schema["fields"]
        named = given.items() if isinstance(given, Mapping) else [(field["name"], field) for field in given]
        self.round_trip |= bool(schema.get("computed_fields")) and config.get("extra_fields_behavior") == "forbid"
        for name, field in named:
            where = f"{path}.{name}" if path else name
            self.fields.append(_field(where, name, field, config))
            if not field.get("serialization_exclude"):
                self.walk(field["schema"], where, config)


def _field(path: str, name: str, field: Schema, config: Schema) -> _Field:
    alias = field.get("serialization_alias", name)
    plain = alias if config.get("serialize_by_alias") else name
    excluded = bool(field.get("serialization_exclude"))
    required = field.get("required", field["schema"].get("type") != "default")
    if excluded:
        return _Field(path, frozenset({plain, alias}), plain, alias, required)
    return _Field(path, _names(name, field.get("validation_alias"), config), plain, alias, is_lost=False)


def _names(name: str, alias: object, config: Schema) -> frozenset[str]:
    """Under which a field is read."""
    names = {name} if alias is None or config.get("validate_by_name") or config.get("populate_by_name") else set()
    if alias is not None and config.get("validate_by_alias", True):
        choices = [alias] if isinstance(alias, str) else alias if isinstance(alias, list) else []
        if choices and not isinstance(choices[0], (str, list)):
            choices = []
        for choice in choices:
            step = choice if isinstance(choice, str) else choice[0] if len(choice) == 1 else None
            if isinstance(step, str):
                names.add(step)
    return frozenset(names)
