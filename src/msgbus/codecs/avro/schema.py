"""Avro schemas as a tree of nodes, their JSON, canonical form and fingerprint.

Source: the Avro specification 1.12, "Schema Declaration", "Parsing Canonical Form", "Schema Fingerprints".
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

PRIMITIVES = frozenset(("null", "boolean", "int", "long", "float", "double", "bytes", "string"))
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
"""What a name, or each part of one with dots, has to match as a whole. Code is generated from nothing else."""

MISSING: Final = object()
"""The default of a field that has none."""


@dataclass(slots=True, eq=False)
class Plain:
    """A primitive, with its logical type ("" for none). `is_enum`: in Python an Enum, of which the value travels."""

    kind: str
    logical: str = ""
    precision: int = 0
    scale: int = 0
    is_enum: bool = False
    cls: type | None = None


@dataclass(slots=True, eq=False)
class Fixed:
    """So many bytes; a decimal in them where `logical` says so."""

    name: str
    size: int
    logical: str = ""
    precision: int = 0
    scale: int = 0
    aliases: Sequence[str] = ()
    kind: Final = "fixed"


@dataclass(slots=True, eq=False)
class Symbols:
    """An enum. `cls`: the Enum whose values they are in Python; None where they are text."""

    name: str
    symbols: Sequence[str]
    default: str | None = None
    aliases: Sequence[str] = ()
    doc: str = ""
    cls: type | None = None
    kind: Final = "enum"


@dataclass(slots=True, eq=False)
class Array:
    """Items of one type."""

    items: Node
    kind: Final = "array"


@dataclass(slots=True, eq=False)
class Map:
    """Values of one type by text."""

    values: Node
    kind: Final = "map"


@dataclass(slots=True, eq=False)
class Union:
    """One of several types."""

    members: Sequence[Node]
    kind: Final = "union"


@dataclass(slots=True, eq=False)
class Field:
    """A field of a record: its names in Avro, and in Python where it has one there.

    `read_as`: under which the type's validator takes it. `may_lack`: absent in Python where null in Avro.
    `has_default`: the Python type fills it in, even where Avro has no word for the default.
    """

    name: str
    type: Node
    default: Any = MISSING
    aliases: Sequence[str] = ()
    doc: str = ""
    attribute: str = ""
    read_as: str = ""
    may_lack: bool = False
    has_default: bool = False


@dataclass(slots=True, eq=False)
class Record:
    """Fields in their order. `form`: what it is in Python ("object", "dict" or "tuple"), and `cls` its class."""

    name: str
    fields: list[Field] = field(default_factory=list)
    aliases: Sequence[str] = ()
    doc: str = ""
    form: str = "dict"
    cls: Any = None
    kind: Final = "record"


Node = Plain | Fixed | Symbols | Array | Map | Union | Record


def to_json(node: Node) -> Any:
    """The schema as an .avsc has it, ready for `json.dumps`. A name that comes again is a reference."""
    return _json(node, set())


def _json(node: Node, told: set[str]) -> Any:
    if isinstance(node, Plain):
        return {"type": node.kind, **_logical(node)} if node.logical else node.kind
    if isinstance(node, Union):
        return [_json(member, told) for member in node.members]
    if isinstance(node, Array):
        return {"type": "array", "items": _json(node.items, told)}
    if isinstance(node, Map):
        return {"type": "map", "values": _json(node.values, told)}
    if node.name in told:
        return node.name
    told.add(node.name)
    return {"type": node.kind, "name": node.name, **_extras(node), **_body(node, told)}


def _logical(node: Plain | Fixed) -> dict[str, Any]:
    if node.logical == "decimal":
        return {"logicalType": "decimal", "precision": node.precision, "scale": node.scale}
    return {"logicalType": node.logical} if node.logical else {}


def _extras(node: Any) -> dict[str, Any]:
    found = {"aliases": list(node.aliases), "doc": getattr(node, "doc", "")}
    return {key: value for key, value in found.items() if value}


def _body(node: Fixed | Symbols | Record, told: set[str]) -> dict[str, Any]:
    if isinstance(node, Fixed):
        return {"size": node.size, **_logical(node)}
    if isinstance(node, Symbols):
        default = {"default": node.default} if node.default is not None else {}
        return {"symbols": list(node.symbols), **default}
    return {"fields": [_field(each, told) for each in node.fields]}


def _field(each: Field, told: set[str]) -> dict[str, Any]:
    found = {"name": each.name, "type": _json(each.type, told), **_extras(each)}
    return found if each.default is MISSING else {**found, "default": each.default}


def canonical(node: Node) -> str:
    """The Parsing Canonical Form: what two schemas that read alike have in common."""
    return json.dumps(_canonical(node, set()), separators=(",", ":"), ensure_ascii=False)


def _canonical(node: Node, told: set[str]) -> Any:
    if isinstance(node, Plain):
        return node.kind
    if isinstance(node, Union):
        return [_canonical(member, told) for member in node.members]
    if isinstance(node, Array):
        return {"type": "array", "items": _canonical(node.items, told)}
    if isinstance(node, Map):
        return {"type": "map", "values": _canonical(node.values, told)}
    if node.name in told:
        return node.name
    told.add(node.name)
    head = {"name": node.name, "type": node.kind}
    if isinstance(node, Fixed):
        return {**head, "size": node.size}
    if isinstance(node, Symbols):
        return {**head, "symbols": list(node.symbols)}
    return {**head, "fields": [{"name": each.name, "type": _canonical(each.type, told)} for each in node.fields]}


def fingerprint(node: Node) -> int:
    """CRC-64-AVRO of the canonical form, as the single-object framing has it: an unsigned 64-bit number."""
    table = _table()
    number = _EMPTY
    for byte in canonical(node).encode():
        number = number >> 8 ^ table[(number ^ byte) & 0xFF]
    return number


_EMPTY = 0xC15D213AA4D7A795


@cache
def _table() -> list[int]:
    table = []
    for number in range(256):
        for _ in range(8):
            number = number >> 1 ^ (_EMPTY if number & 1 else 0)
        table.append(number)
    return table
