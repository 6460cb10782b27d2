"""Whether what one schema writes can be read as another: the specification's rules of "Schema Resolution"."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgbus.codecs.avro.schema import MISSING, Array, Field, Fixed, Map, Node, Plain, Record, Symbols, Union
from msgbus.errors import ConfigError

_WIDER = {
    ("int", "long"), ("int", "float"), ("int", "double"), ("long", "float"), ("long", "double"),
    ("float", "double"), ("string", "bytes"), ("bytes", "string"),
}  # fmt: skip


def agrees(writer: Node, reader: Node) -> bool:
    """Whether they match, as far as it shows without looking into them."""
    if isinstance(writer, Union) or isinstance(reader, Union):
        return True
    if isinstance(writer, (Plain, Fixed)) and isinstance(reader, (Plain, Fixed)):
        return plain_fault(writer, reader) == ""
    if writer.kind != reader.kind:
        return False
    return isinstance(writer, (Array, Map)) or _same_name(writer, reader)


def plain_fault(writer: Plain | Fixed, reader: Plain | Fixed) -> str:
    """Why one isn't read as the other; "" where it is."""
    if writer.logical == reader.logical == "decimal":
        same = writer.scale == reader.scale and writer.precision <= reader.precision
        return "" if same else _not(writer, reader)
    if _family(writer.logical) != _family(reader.logical) and reader.logical not in ("", "timedelta-micros"):
        return "" if writer.kind == "string" and reader.logical == "uuid" else _not(writer, reader)
    if isinstance(writer, Fixed) or isinstance(reader, Fixed):
        same = writer.kind == reader.kind and _same_name(writer, reader) and _size(writer) == _size(reader)
        return "" if same else _not(writer, reader)
    known = _family(writer.logical) == _family(reader.logical) != ""  # a time in millis is read as one in micros
    same = known or writer.kind == reader.kind or (writer.kind, reader.kind) in _WIDER
    return "" if same else _not(writer, reader)


def chosen(writer: Node, readers: Sequence[Node]) -> Node:
    """The member of a reader's union: the first of the same kind, or that it can be made of."""
    found = [each for each in readers if agrees(writer, each)]
    same = [each for each in found if each.kind == writer.kind]
    if not found:
        raise ConfigError(f"{told(writer)} was written, and is no member of the union that is read")
    return (same or found)[0]


def matched(writer: Record, reader: Record) -> dict[str, Field]:
    """The field that is read by the name of that which was written.

    Raises ConfigError where one that wasn't written has no default.
    """
    written = {each.name for each in writer.fields}
    found: dict[str, Field] = {}
    for each in reader.fields:
        name = next((name for name in (each.name, *each.aliases) if name in written and name not in found), None)
        if name is not None:
            found[name] = each
        elif not (each.has_default or each.default is not MISSING):
            raise ConfigError(f"{reader.name}.{each.name} was not written, and has no default")
    return found


def symbols(writer: Symbols, reader: Symbols) -> list[Any]:
    """What is read of each symbol that is written; MISSING where there is no such symbol and no default."""
    fallback = MISSING if reader.default is None else reader.default
    found = [each if each in reader.symbols else fallback for each in writer.symbols]
    return [each if each is MISSING or reader.cls is None else reader.cls(each) for each in found]


def takes_bytes(node: Node) -> bool:
    """Whether each value takes a byte at least: items that take none can be written by the million in five bytes."""
    if isinstance(node, Record):
        return any(takes_bytes(each.type) for each in node.fields)
    return node.kind != "null" and not (isinstance(node, Fixed) and node.size == 0)


def told(node: Node) -> str:
    """A type in an error."""
    logical = getattr(node, "logical", "")
    digits = f"({node.precision}, {node.scale})" if isinstance(node, (Plain, Fixed)) and logical == "decimal" else ""
    name = getattr(node, "name", "")
    return f"{node.kind}{f' {name}' if name else ''}{f' ({logical}{digits})' if logical else ''}"


def _same_name(writer: Any, reader: Any) -> bool:
    names = {name.rpartition(".")[2] for name in (reader.name, *reader.aliases)}
    return writer.name.rpartition(".")[2] in names


def _family(logical: str) -> str:
    return logical.removesuffix("-millis").removesuffix("-micros")


def _size(node: Plain | Fixed) -> int:
    return node.size if isinstance(node, Fixed) else -1


def _not(writer: Node, reader: Node) -> str:
    return f"{told(writer)} was written, which is not read as {told(reader)}"
