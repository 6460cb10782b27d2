"""Generated functions that read what a writer's schema describes, as a reader's type has it.

They make plain Python values; the validator of the type makes it of them. What fails is a ValueError with field and
offset.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Callable
from typing import Any

from msgbus.codecs.avro import values as v
from msgbus.codecs.avro.code import Code
from msgbus.codecs.avro.resolving import chosen, matched, plain_fault, symbols, takes_bytes, told
from msgbus.codecs.avro.schema import MISSING, Array, Fixed, Map, Node, Plain, Record, Symbols, Union
from msgbus.errors import ConfigError, said

ERRORS = (ValueError, IndexError, OverflowError, struct.error, RecursionError)
_LOOPS = 6
_LINES = 2_000
_BLOCKS = 60  # indentation; CPython allows 100
_HELPERS: dict[str, Any] = {
    "long": v.read_long, "size": v.read_size, "block": v.read_block, "fail": v.fail,
    "digits": v.from_digits, "uuid": uuid.UUID,
    "double": struct.Struct("<d").unpack_from, "single": struct.Struct("<f").unpack_from, "text": str,
    "MISSING": MISSING,
}  # fmt: skip
_LOGICAL: dict[str, tuple[Callable[[int], Any], str]] = {
    "timestamp-micros": (v.from_timestamp, ""),
    "timestamp-millis": (v.from_timestamp, " * 1000"),
    "local-timestamp-micros": (v.from_local, ""),
    "local-timestamp-millis": (v.from_local, " * 1000"),
    "date": (v.from_day, ""),
    "time-micros": (v.from_time, ""),
    "time-millis": (v.from_time, " * 1000"),
    "timedelta-micros": (v.from_lasting, ""),
}
_PROMOTED = {
    ("int", "float"): "float({0})", ("int", "double"): "float({0})", ("long", "float"): "float({0})",
    ("long", "double"): "float({0})", ("string", "bytes"): "{0}.encode()", ("bytes", "string"): "text({0}, 'utf-8')",
}  # fmt: skip

Build = Callable[[Any], Callable[[Any], Any]]


def compile_reader(writer: Record, reader: Record, build: Build) -> Callable[[bytes], Any]:
    """A function from bytes to a dict, by what the validator of the reader's type calls its fields.

    `build(cls)`: the validator of a class, for records in unions, which are made there and then. Raises ConfigError
    where nothing that is written can be read so.
    """
    made = _Reader(build)
    first = made.function(writer, reader)
    read, code = made.code.made()[first], made.code

    def decode(body: bytes) -> Any:
        try:
            value, at = read(body, 0, len(body), 0)
        except ERRORS as error:
            path, place = code.place(error)
            raise ValueError(f"{path} at offset {place}: {_reason(error)}") from error
        if at > len(body):
            raise ValueError(f"{writer.name}: the body is cut short, {at:,} bytes needed and {len(body):,} there")
        if at != len(body):
            raise ValueError(f"{writer.name} ends at offset {at}, and {len(body) - at:,} bytes follow")
        return value

    return decode


def _reason(error: Exception) -> str:
    cut = isinstance(error, (IndexError, struct.error))
    return "the body is cut short" if cut else "nested too deep" if isinstance(error, RecursionError) else said(error)


class _Reader:
    def __init__(self, build: Build) -> None:
        self.code = Code(_HELPERS)
        self.build = build
        self.functions: dict[tuple[int, int], str] = {}
        self.waiting: list[tuple[Node, Node, str]] = []
        self.names = 0
        self.inside: list[Node] = []  # the records around what is made now, in its function
        self.soft = False  # whether what is made now is of a member of a union
        self.softly: set[str] = set()

    def function(self, writer: Node, reader: Node) -> str:
        """Make that of a pair and of all that it calls; the name of its own."""
        name = self.call(writer, reader)
        while self.waiting:
            w, r, function = self.waiting.pop()
            self.code.path = getattr(w, "name", self.code.path)
            self.code.add(0, f"def {function}(b, p, e, d):")
            self.code.add(1, f"if d > {v.MAX_DEPTH}: fail('nested deeper than {v.MAX_DEPTH}')")
            self.soft = function in self.softly
            self.body(w, r)
        return name

    def body(self, w: Node, r: Node) -> None:
        """Of a function. What can't be read is an error at once, or, in a member of a union, when it comes."""
        begin = len(self.code.lines)
        try:
            if isinstance(w, Record) and isinstance(r, Record):
                self.inside = []
                self.record(w, r, "v", 1, 0)
            else:
                self.inside = [w]
                self.value(w, r, "v", 1, 0)
            self.code.add(1, "return v, p")
        except ConfigError as error:
            if not self.soft:
                raise
            del self.code.lines[begin:], self.code.paths[begin:]
            self.code.add(1, f"fail({self.code.constant(str(error))})")

    def call(self, writer: Node, reader: Node) -> str:
        key = id(writer), id(reader)
        if key not in self.functions:
            self.functions[key] = name = f"f{len(self.functions)}"
            self.waiting.append((writer, reader, name))
            if self.soft:
                self.softly.add(name)
        return self.functions[key]

    def new(self) -> str:
        self.names += 1
        return f"x{self.names}"

    def record(self, writer: Record, reader: Record, x: str, at: int, loops: int) -> None:
        fields, made = matched(writer, reader), {}
        self.inside.append(writer)
        for each in writer.fields:
            self.code.path = f"{writer.name}.{each.name}"
            name, field = self.new(), fields.get(each.name)
            self.value(each.type, each.type if field is None else field.type, name, at, loops)
            if field is not None:
                made[field.name] = name
        self.inside.pop()
        if reader.form == "tuple":
            values = "".join(f"{made[each.name]}, " for each in reader.fields)
            self.code.add(at, f"{x} = ({values})")
            return
        read = [each for each in reader.fields if each.name in made]
        self.code.add(
            at, f"{x} = {{{', '.join(f'{self.code.text(each.read_as)}: {made[each.name]}' for each in read)}}}"
        )
        for each in read:
            if each.may_lack:
                self.code.add(at, f"if {made[each.name]} is None: del {x}[{self.code.text(each.read_as)}]")

    def value(self, w: Node, r: Node, x: str, at: int, loops: int) -> None:
        """Read into the variable `x`, in a block so deep, within so many loops."""
        if isinstance(w, Union):
            self.union(w, r, x, at, loops)
        elif isinstance(r, Union):
            member = chosen(w, r.members)
            self.value(w, member, x, at, loops)
            self.built(member, r, x, at)
        elif w.kind != r.kind and not (isinstance(w, (Plain, Fixed)) and isinstance(r, (Plain, Fixed))):
            raise ConfigError(f"{self.code.path}: {told(w)} was written, which is not read as {told(r)}")
        elif isinstance(w, Record) and isinstance(r, Record) and self.fits_in_line(w, at):
            self.record(w, r, x, at, loops)
        elif isinstance(w, Record) or (isinstance(w, (Array, Map)) and (loops >= _LOOPS or at >= _BLOCKS)):
            self.code.add(at, f"{x}, p = {self.call(w, r)}(b, p, e, d + {len(self.inside)})")
        elif isinstance(w, (Plain, Fixed)):
            self.plain(w, r, x, at)
        elif isinstance(w, Symbols):
            self.symbol(w, r, x, at)
        else:
            self.many(w, r, x, at, loops)

    def fits_in_line(self, record: Record, at: int) -> bool:
        """A call for each record would cost more than some of them, but one in itself has no end without."""
        return at < _BLOCKS // 2 and len(self.code.lines) < _LINES and all(each is not record for each in self.inside)

    def built(self, member: Node, union: Union, x: str, at: int) -> None:
        """A record is made where it is known which it is."""
        others = [each for each in union.members if each.kind in ("record", "map")]
        if isinstance(member, Record) and member.form == "object" and len(others) > 1:
            self.code.add(at, f"{x} = {self.code.constant(self.build(member.cls))}({x})")

    def length(self, at: int) -> None:
        self.code.add(at, "n = b[p]", "p += 1", "if n > 127: n, p = long(b, p, n)")

    def plain(self, w: Plain | Fixed, r: Any, x: str, at: int) -> None:
        if fault := plain_fault(w, r):
            raise ConfigError(f"{self.code.path}: {fault}")
        if isinstance(w, Fixed):
            self.code.add(at, f"q = p + {w.size}", "if q > e: fail('the body is cut short')", f"{x} = b[p:q]", "p = q")
        elif w.kind in ("int", "long"):
            self.length(at)
            if w.kind == "int":
                self.code.add(at, "if n >> 32: fail('a number of more than 32 bits')")
            self.code.add(at, f"{x} = (n >> 1) ^ -(n & 1)")
        elif w.kind in ("string", "bytes"):
            # One that is longer than the body puts the offset behind its end, where whatever is read next fails.
            self.code.add(at, "n = b[p]", "p += 1", "if n & 129: n, p = size(b, p, n)", "q = p + (n >> 1)")
            self.code.add(at, f"{x} = b[p:q].decode()" if w.kind == "string" else f"{x} = b[p:q]", "p = q")
        else:
            self.simple(w.kind, x, at)
        self.converted(w, r, x, at)

    def simple(self, kind: str, x: str, at: int) -> None:
        if kind == "null":
            self.code.add(at, f"{x} = None")
        elif kind == "boolean":
            self.code.add(at, f"{x} = b[p] == 1", "if b[p] > 1: fail('a boolean that is neither 0 nor 1')", "p += 1")
        else:
            name, size = {"float": ("single", 4), "double": ("double", 8)}[kind]
            self.code.add(at, f"{x} = {name}(b, p)[0]", f"p += {size}")

    def converted(self, w: Plain | Fixed, r: Any, x: str, at: int) -> None:
        logical = w.logical or r.logical
        if r.logical == "" and w.logical:
            logical = ""
        if logical == "decimal":
            self.code.add(at, f"{x} = digits({x}, {self.code.constant(10**w.precision)}, {w.scale})")
        elif logical == "uuid":
            self.code.add(at, f"{x} = uuid({x})")
        elif logical:
            make, factor = _LOGICAL[logical]
            self.code.add(at, f"{x} = {self.code.constant(make)}({x}{factor})")
        elif promoted := _PROMOTED.get((w.kind, r.kind)):
            self.code.add(at, f"{x} = {promoted.format(x)}")

    def symbol(self, w: Symbols, r: Any, x: str, at: int) -> None:
        if not ({w.name.rpartition(".")[2]} & {name.rpartition(".")[2] for name in (r.name, *r.aliases)}):
            raise ConfigError(f"{self.code.path}: {told(w)} was written, which is not read as {told(r)}")
        table = tuple(symbols(w, r))
        self.length(at)
        self.code.add(at, f"if n & 1 or n >= {len(table) << 1}: fail('no symbol has this index')")
        self.code.add(at, f"{x} = {self.code.constant(table)}[n >> 1]")
        if MISSING in table:
            self.code.add(at, f"if {x} is MISSING: fail('a symbol that is not known, and there is no default')")

    def many(self, w: Any, r: Any, x: str, at: int, loops: int) -> None:
        inner, other = (w.values, r.values) if isinstance(w, Map) else (w.items, r.items)
        if not isinstance(w, Map) and not takes_bytes(inner):
            raise ConfigError(f"{self.code.path}: an array of what takes no bytes is not read: it has no limit")
        key, item, left, end = self.new(), self.new(), self.new(), self.new()
        self.code.add(at, f"{x} = {'{}' if isinstance(w, Map) else '[]'}", f"{left} = b[p]")
        self.code.add(at, f"while {left}:")
        self.code.add(at + 1, f"if {left} & 129: {left}, p, {end} = block(b, p, e)")
        self.code.add(at + 1, f"else: {left}, p, {end} = {left} >> 1, p + 1, -1")
        self.code.add(at + 1, f"if {left} > e - p: fail(f'{{{left}}} items are said to follow, {{e - p}} bytes do')")
        self.code.add(at + 1, f"for _ in range({left}):")
        if isinstance(w, Map):
            self.plain(Plain("string"), Plain("string"), key, at + 2)
        self.value(inner, other, item, at + 2, loops + 2)
        self.code.add(at + 2, f"{x}[{key}] = {item}" if isinstance(w, Map) else f"{x}.append({item})")
        self.code.add(at + 1, f"if {end} >= 0 and p != {end}: fail('a block is not as long as it says')")
        self.code.add(at + 1, f"{left} = b[p]")
        self.code.add(at, "p += 1")

    def union(self, w: Union, r: Node, x: str, at: int, loops: int) -> None:
        u = self.new()
        if len(w.members) > 64:
            raise ConfigError(f"{self.code.path}: a union of more than 64 members is not read")
        self.code.add(at, f"{u} = b[p]", "p += 1")
        faults = []
        for place, member in enumerate(w.members):
            self.code.add(at, f"{'elif' if place else 'if'} {u} == {place << 1}:")
            begin, path, soft, inside = len(self.code.lines), self.code.path, self.soft, [*self.inside]
            self.soft = True
            try:
                self.value(member, r, x, at + 1, loops)
            except ConfigError as error:
                del self.code.lines[begin:], self.code.paths[begin:]
                faults.append(str(error))
                self.code.add(at + 1, f"fail({self.code.constant(str(error))})")
            self.code.path, self.soft, self.inside = path, soft, inside
        if len(faults) == len(w.members):
            raise ConfigError(f"{self.code.path}: no member of the union that was written can be read: {faults[0]}")
        self.code.add(at, "else: fail('no member of the union has this index')")
