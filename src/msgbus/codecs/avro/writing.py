"""Generated functions that write values of a type as its derived schema has them."""

from __future__ import annotations

import datetime as dt
import struct
import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from msgbus.codecs.avro import values as v
from msgbus.codecs.avro.code import Code
from msgbus.codecs.avro.schema import Array, Field, Map, Node, Plain, Record, Symbols, Union
from msgbus.errors import ConfigError, said

ERRORS = (ValueError, TypeError, AttributeError, KeyError, IndexError, OverflowError, struct.error, RecursionError)
_LOOPS = 6  # in one function; CPython allows 20
_HELPERS: dict[str, Any] = {
    "long": v.write_long, "whole": v.whole, "real": v.real, "octets": v.octets, "encoded": v.encoded,
    "items": v.items, "mapping": v.mapping, "value_of": v.value_of, "fail": v.fail, "text": str,
    "double": struct.Struct("<d").pack, "single": struct.Struct("<f").pack, "digits": v.to_digits,
}  # fmt: skip
_LOGICAL: dict[str, Callable[[Any], Any]] = {
    "timestamp-micros": v.to_timestamp,
    "local-timestamp-micros": v.to_local,
    "date": v.to_day,
    "time-micros": v.to_time,
    "timedelta-micros": v.to_lasting,
}
_CLASSES: list[tuple[tuple[str, str], type]] = [  # bool before int, datetime before date
    (("boolean", ""), bool),
    (("long", ""), int),
    (("double", ""), float),
    (("bytes", ""), bytes),
    (("string", ""), str),
    (("string", "uuid"), uuid.UUID),
    (("bytes", "decimal"), Decimal),
    (("long", "timestamp-micros"), dt.datetime),
    (("long", "local-timestamp-micros"), dt.datetime),
    (("int", "date"), dt.date),
    (("long", "time-micros"), dt.time),
    (("long", "timedelta-micros"), dt.timedelta),
]
_PLACES = {key: place for place, (key, _) in enumerate(_CLASSES)}


def compile_writer(node: Record) -> Callable[[Any], bytes]:
    """A function from a value of the type that `node` was derived from to its bytes.

    It raises ValueError, naming the field, for a value that isn't what its schema says.
    """
    writer = _Writer()
    first = writer.function(node)
    write, code = writer.code.made()[first], writer.code

    def encode(value: Any) -> bytes:
        out = bytearray()
        try:
            write(value, out, 0)
        except ERRORS as error:
            raise ValueError(f"{code.place(error)[0]}: {_reason(error)}") from error
        return bytes(out)

    return encode


def _reason(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"{error.args[0]!r:.100} is missing, or none of what is declared"
    return said(error)


class _Writer:
    def __init__(self) -> None:
        self.code = Code(_HELPERS)
        self.functions: dict[int, str] = {}
        self.names = 0
        self.waiting: list[Node] = []

    def function(self, first: Node) -> str:
        """Make that of a node and of all that it calls; the name of its own."""
        name = self.call(first)
        while self.waiting:
            node = self.waiting.pop()
            self.code.path = getattr(node, "name", self.code.path)
            self.code.add(0, f"def {self.functions[id(node)]}(v, o, d):")
            self.code.add(1, f"if d > {v.MAX_DEPTH}: fail('nested deeper than {v.MAX_DEPTH}')", "a = o.append")
            if isinstance(node, Record):
                self.fields(node)
            else:
                self.value(node, "v", 1, 0)
        return name

    def call(self, node: Node) -> str:
        if id(node) not in self.functions:
            self.functions[id(node)] = f"f{len(self.functions)}"
            self.waiting.append(node)
        return self.functions[id(node)]

    def new(self) -> str:
        self.names += 1
        return f"x{self.names}"

    def fields(self, record: Record) -> None:
        for place, field in enumerate(record.fields):
            self.code.path = f"{record.name}.{field.name}"
            name = self.new()
            self.code.add(1, f"{name} = {self.access(record, field, place)}")
            self.value(field.type, name, 1, 0)

    def access(self, record: Record, field: Field, place: int) -> str:
        if record.form == "tuple":
            return f"v[{place}]"
        if record.form == "object":
            return self.code.attribute("v", field.attribute)
        name = self.code.text(field.attribute)
        return f"v.get({name})" if field.may_lack else f"v[{name}]"

    def value(self, node: Node, x: str, at: int, loops: int) -> None:
        """Write what the variable `x` holds, in a block so deep, within so many loops."""
        if isinstance(node, Record) or (loops >= _LOOPS and isinstance(node, (Array, Map))):
            self.code.add(at, f"{self.call(node)}({x}, o, d + 1)")
        elif isinstance(node, Plain):
            self.plain(node, x, at)
        elif isinstance(node, Symbols):
            self.code.add(at, f"o += {self.code.constant(_table(node))}[{x}]")
        elif isinstance(node, Union):
            self.union(node, x, at, loops)
        elif isinstance(node, (Array, Map)):
            self.many(node, x, at, loops)
        else:
            raise ConfigError(f"Avro: {node.name} is a fixed type, which no message type is written as")

    def plain(self, node: Plain, x: str, at: int) -> None:
        add = self.code.add
        if node.is_enum:
            add(at, f"{x} = value_of({x})")
        if node.logical in _LOGICAL:
            add(at, f"{x} = {self.code.constant(_LOGICAL[node.logical])}({x})")
        if node.kind in ("int", "long"):
            self.number(node.kind, x, at)
        elif node.kind in ("string", "bytes"):
            self.octets(node, x, at)
        elif node.kind == "null":
            add(at, f"if {x} is not None: fail('None is expected')")
        elif node.kind == "boolean":
            add(at, f"if {x} is True: a(1)", f"elif {x} is False: a(0)", "else: fail('True or False is expected')")
        else:
            pack = "double" if node.kind == "double" else "single"
            add(at, f"o += {pack}({x} if {x}.__class__ is float else real({x}))")

    def number(self, kind: str, x: str, at: int) -> None:
        self.code.add(at, f"if {x}.__class__ is not int: {x} = whole({x})")
        self.code.add(at, f"n = {x} << 1 if {x} >= 0 else ~({x} << 1)")
        if kind == "int":
            self.code.add(at, "if n >> 32: fail('the number has more than 32 bits')")
        self.code.add(at, "if n < 128: a(n)", "else: long(o, n)")

    def octets(self, node: Plain, x: str, at: int) -> None:
        if node.logical == "uuid":
            self.code.add(at, f"if {x}.__class__ is not {self.code.constant(uuid.UUID)}: fail('a UUID is expected')")
        made = {
            "uuid": f"text({x}).encode()",
            "decimal": f"digits({x}, {node.precision}, {node.scale})",
        }.get(node.logical)
        simple = f"{x}.encode() if {x}.__class__ is str else encoded({x})"
        if node.kind == "bytes":
            simple = f"{x} if {x}.__class__ is bytes else octets({x})"
        self.code.add(at, f"s = {made or simple}", "n = len(s) << 1", "if n < 128: a(n)", "else: long(o, n)", "o += s")

    def many(self, node: Array | Map, x: str, at: int, loops: int) -> None:
        is_map = isinstance(node, Map)
        kind, check = ("dict", "mapping") if is_map else ("list", "items")
        key, item = self.new(), self.new()
        self.code.add(at, f"if {x}.__class__ is not {kind}: {x} = {check}({x})", f"if {x}:")
        self.code.add(at + 1, f"n = len({x}) << 1", "if n < 128: a(n)", "else: long(o, n)")
        self.code.add(at + 1, f"for {key}, {item} in {x}.items():" if is_map else f"for {item} in {x}:")
        if isinstance(node, Map):
            self.plain(Plain("string"), key, at + 2)
            self.value(node.values, item, at + 2, loops + 1)
        else:
            self.value(node.items, item, at + 2, loops + 1)
        self.code.add(at, "a(0)")

    def union(self, node: Union, x: str, at: int, loops: int) -> None:
        ordered = sorted(enumerate(node.members), key=lambda each: _rank(each[1]))
        word, last_of_two = "if", False
        for place, member in ordered:
            last_of_two = len(ordered) == 2 and word == "elif" and ordered[0][1].kind == "null"
            test = "else:" if last_of_two else f"{word} {self.test(member, node, x)}:"
            self.code.add(at, test)
            self.code.add(at + 1, f"a({place << 1})" if place < 64 else f"long(o, {place << 1})")
            if member.kind != "null":
                self.value(member, x, at + 1, loops)
            word = "elif"
        if not last_of_two:
            self.code.add(at, f"else: fail('no member of the union is a ' + {x}.__class__.__name__)")

    def test(self, member: Node, union: Union, x: str) -> str:
        if member.kind == "null":
            return f"{x} is None"
        if isinstance(member, Symbols) and member.cls is None:
            return f"{x}.__class__ is {self.code.constant(str)} and {x} in {self.code.constant(set(member.symbols))}"
        classes: Any = _class_of(member)
        if classes is float and not any(each.kind in ("int", "long") for each in union.members):
            classes = (float, int)
        return f"isinstance({x}, {self.code.constant(classes)})"


def _class_of(member: Node) -> Any:
    if isinstance(member, Record) and member.form != "object":
        return {"dict": dict, "tuple": tuple}[member.form]
    if isinstance(member, Array):
        return (list, tuple, set, frozenset)
    if isinstance(member, Map):
        return dict
    cls = getattr(member, "cls", None)
    return cls or _CLASSES[_PLACES[(member.kind, getattr(member, "logical", ""))]][1]


def _rank(member: Node) -> tuple[int, int]:
    """None, enums, what is derived from others, tuples, and then the plain ones in the order of `_CLASSES`."""
    if member.kind == "null":
        return (0, 0)
    if isinstance(member, Symbols) or getattr(member, "is_enum", False):
        return (1, 0)
    if isinstance(member, Record):
        return (2, -len(getattr(member.cls, "__mro__", ())))
    return (3, _PLACES.get((member.kind, getattr(member, "logical", "")), 99))


def _table(node: Symbols) -> dict[Any, bytes]:
    found: dict[Any, bytes] = {}
    for place, symbol in enumerate(node.symbols):
        out = bytearray()
        v.write_long(out, place << 1)
        found[symbol] = bytes(out)
        if node.cls is not None:
            found[node.cls(symbol)] = bytes(out)
    return found
