"""An .avsc, given by hand or by a registry, checked and made a tree of nodes. Nothing of it is trusted."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

from msgbus.codecs.avro.schema import (
    MISSING,
    NAME,
    PRIMITIVES,
    Array,
    Field,
    Fixed,
    Map,
    Node,
    Plain,
    Record,
    Symbols,
    Union,
)
from msgbus.errors import ConfigError

MAX_TEXT = 1024 * 1024
"""Characters of a schema."""
MAX_DEPTH = 100
"""Levels of types in types, in a schema and in a message."""
MAX_NODES = 10_000
"""Types in a schema."""
MAX_FIXED = 16 * 1024 * 1024
"""Bytes of a fixed type."""

LOGICAL = {
    ("int", "date"),
    ("int", "time-millis"),
    ("long", "time-micros"),
    ("long", "timestamp-millis"),
    ("long", "timestamp-micros"),
    ("long", "local-timestamp-millis"),
    ("long", "local-timestamp-micros"),
    ("long", "timedelta-micros"),
    ("string", "uuid"),
}
"""Those that mean something here, beside decimals; others are what lies beneath them, as the specification says."""


def parse(text: str) -> Node:
    """Raises ConfigError, naming the place and what is wrong there."""
    if len(text) > MAX_TEXT:
        raise ConfigError(f"Avro schema: {len(text):,} characters, allowed are {MAX_TEXT:,}")
    try:
        given = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"Avro schema: it is no JSON: {error}") from error
    return _Parser().node(given, "", "schema", 0)


class _Parser:
    def __init__(self) -> None:
        self.named: dict[str, Node] = {}
        self.nodes = 0

    def node(self, given: Any, namespace: str, path: str, depth: int) -> Node:
        """`namespace`: of the named type around it."""
        self.nodes += 1
        if depth > MAX_DEPTH or self.nodes > MAX_NODES:
            raise _wrong(path, f"more than {MAX_DEPTH} levels or {MAX_NODES:,} types are not taken")
        if isinstance(given, str):
            return self._by_name(given, namespace, path)
        if isinstance(given, list):
            return self._union(given, namespace, path, depth)
        if not isinstance(given, dict) or "type" not in given:
            raise _wrong(path, "a type is a name, a list, or an object with `type`")
        return self._complex(given, namespace, path, depth)

    def _complex(self, given: dict[str, Any], namespace: str, path: str, depth: int) -> Node:
        kind = given["type"]
        if not isinstance(kind, str):
            return self.node(kind, namespace, path, depth + 1)
        if kind == "array":
            return Array(self.node(_of(given, "items", path), namespace, f"{path}.items", depth + 1))
        if kind == "map":
            return Map(self.node(_of(given, "values", path), namespace, f"{path}.values", depth + 1))
        if kind in ("record", "error", "enum", "fixed"):
            return self._named(kind, given, namespace, path, depth)
        node = self._by_name(kind, namespace, path)
        return _with_logical(node, given) if isinstance(node, Plain) else node

    def _by_name(self, name: str, namespace: str, path: str) -> Node:
        if name in PRIMITIVES:
            return Plain(name)
        full = name if "." in name or not namespace else f"{namespace}.{name}"
        found = self.named.get(full) or self.named.get(name)
        if found is None:
            raise _wrong(path, f"{name!a:.100} is no type, and no name of one that came before")
        return found

    def _union(self, given: list[Any], namespace: str, path: str, depth: int) -> Union:
        members = [self.node(each, namespace, f"{path}[{place}]", depth + 1) for place, each in enumerate(given)]
        check_members(members, path)
        return Union(members)

    def _named(self, kind: str, given: dict[str, Any], namespace: str, path: str, depth: int) -> Node:
        name, inner = full_name(given.get("name"), given.get("namespace"), namespace, path)
        if name in self.named or name in PRIMITIVES:
            raise _wrong(path, f"the name {name!r} is taken")
        aliases = [full_name(alias, None, inner, path)[0] for alias in _texts(given, "aliases", path)]
        doc = given["doc"] if isinstance(given.get("doc"), str) else ""
        if kind == "fixed":
            self.named[name] = node = _fixed(name, given, aliases, path)
            return node
        if kind == "enum":
            self.named[name] = enum = _symbols(name, given, aliases, path)
            enum.doc = doc
            return enum
        self.named[name] = record = Record(name, aliases=aliases, doc=doc)
        for place, each in enumerate(_list(given, "fields", path)):
            record.fields.append(self._field(each, inner, f"{path}.fields[{place}]", depth))
        _check_fields(record, path)
        return record

    def _field(self, given: Any, namespace: str, path: str, depth: int) -> Field:
        if not isinstance(given, dict):
            raise _wrong(path, "a field is an object")
        name = checked_name(given.get("name"), path)
        type_ = self.node(_of(given, "type", path), namespace, f"{path}({name})", depth + 1)
        aliases = [checked_name(alias, path) for alias in _texts(given, "aliases", path)]
        doc = given["doc"] if isinstance(given.get("doc"), str) else ""
        default = given.get("default", MISSING)
        if default is not MISSING and not fits(default, type_):
            raise _wrong(f"{path}({name})", f"the default {default!a:.100} is none of its type")
        return Field(name, type_, default, aliases, doc, attribute=name, read_as=name)


def checked_name(name: object, path: str) -> str:
    """A simple name. Raises ConfigError for any other."""
    if not isinstance(name, str) or not NAME.fullmatch(name) or len(name) > 500:
        raise _wrong(path, f"{name!a:.100} is no name: letters, digits and _, with no digit first")
    return name


def full_name(name: object, namespace: object, around: str, path: str) -> tuple[str, str]:
    """A name with its namespace, and the namespace."""
    if not isinstance(name, str):
        raise _wrong(path, "it has no `name`")
    if "." not in name:
        inside = namespace if isinstance(namespace, str) else around
        name = f"{inside}.{name}" if inside else name
    for part in name.split("."):
        checked_name(part, path)
    return name, name.rpartition(".")[0]


def check_members(members: list[Node], path: str) -> None:
    """What can't be told apart is refused: two of a kind without a name, or of one name."""
    told = [getattr(member, "name", member.kind) for member in members]
    twice = sorted(name for name, count in Counter(told).items() if count > 1)
    if twice or "union" in told or not members:
        raise _wrong(path, f"a union has no {twice[0] if twice else 'union'} twice, no union and is not empty")


def fits(default: Any, node: Node) -> bool:
    """Whether a default is of its type; that of a union is of its first member, or of any since Avro 1.12."""
    if isinstance(node, Union):
        return any(fits(default, member) for member in node.members)
    if isinstance(node, Array):
        return isinstance(default, list) and all(fits(each, node.items) for each in default)
    if isinstance(node, Map):
        return isinstance(default, dict) and all(fits(each, node.values) for each in default.values())
    if isinstance(node, Record):
        return isinstance(default, dict) and all(_fits_field(default, each) for each in node.fields)
    if isinstance(node, Symbols):
        return default in node.symbols
    return _fits_plain(default, node.kind)


def _fits_field(default: Mapping[str, Any], each: Field) -> bool:
    return fits(default[each.name], each.type) if each.name in default else each.default is not MISSING


_CLASSES: Mapping[str, tuple[type, ...]] = {
    "null": (type(None),),
    "boolean": (bool,),
    "int": (int,),
    "long": (int,),
    "float": (int, float),
    "double": (int, float),
}


def _fits_plain(default: Any, kind: str) -> bool:
    if type(default) not in _CLASSES.get(kind, (str,)):
        return False
    bits = {"int": 31, "long": 63}.get(kind)
    return bits is None or -(1 << bits) <= default < 1 << bits


def _check_fields(record: Record, path: str) -> None:
    seen = [each.name for each in record.fields]
    if len(set(seen)) < len(seen):
        raise _wrong(path, f"record {record.name} has a field twice")


def _with_logical(node: Plain, given: Mapping[str, Any]) -> Plain:
    logical = given.get("logicalType")
    if isinstance(logical, str) and (node.kind, logical) in LOGICAL:
        return Plain(node.kind, logical)
    if node.kind == "bytes" and logical == "decimal" and (sizes := _decimal(given)):
        return Plain("bytes", "decimal", *sizes)
    return node


def _decimal(given: Mapping[str, Any]) -> tuple[int, int] | None:
    precision, scale = given.get("precision"), given.get("scale", 0)
    if type(precision) is not int or type(scale) is not int or not 0 <= scale <= precision <= 10_000 or precision < 1:
        return None  # the specification: an invalid logical type is ignored
    return precision, scale


def _fixed(name: str, given: Mapping[str, Any], aliases: list[str], path: str) -> Fixed:
    size = given.get("size")
    if type(size) is not int or not 0 <= size <= MAX_FIXED:
        raise _wrong(path, f"size {size!a:.100}: allowed are 0 to {MAX_FIXED}")
    if given.get("logicalType") == "decimal" and (sizes := _decimal(given)):
        return Fixed(name, size, "decimal", *sizes, aliases)
    return Fixed(name, size, aliases=aliases)


def _symbols(name: str, given: Mapping[str, Any], aliases: list[str], path: str) -> Symbols:
    symbols = [checked_name(each, path) for each in _list(given, "symbols", path)]
    default = given.get("default")
    if len(set(symbols)) < len(symbols) or not symbols:
        raise _wrong(path, f"enum {name} has a symbol twice, or none")
    if default is not None and default not in symbols:
        raise _wrong(path, f"the default {default!a:.100} is no symbol of {name}")
    return Symbols(name, symbols, default, aliases)


def _of(given: Mapping[str, Any], key: str, path: str) -> Any:
    if key not in given:
        raise _wrong(path, f"`{key}` is missing")
    return given[key]


def _list(given: Mapping[str, Any], key: str, path: str) -> list[Any]:
    found = given.get(key)
    if not isinstance(found, list) or len(found) > MAX_NODES:
        raise _wrong(path, f"`{key}` is a list of at most {MAX_NODES:,}")
    return found


def _texts(given: Mapping[str, Any], key: str, path: str) -> list[Any]:
    return _list(given, key, path) if given.get(key) is not None else []


def _wrong(path: str, what: str) -> ConfigError:
    return ConfigError(f"Avro schema, {path:.300}: {what}")
