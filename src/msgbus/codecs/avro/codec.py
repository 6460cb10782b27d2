"""Avro as the codec of a topic, queue or call."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

from pydantic import PydanticSchemaGenerationError, PydanticUserError, TypeAdapter
from typing_extensions import is_typeddict

from msgbus.codecs import RAW, Coder
from msgbus.codecs.avro.deriving import derive
from msgbus.codecs.avro.parsing import parse
from msgbus.codecs.avro.reading import compile_reader
from msgbus.codecs.avro.resolving import agrees
from msgbus.codecs.avro.schema import Record, fingerprint
from msgbus.codecs.avro.writing import compile_writer
from msgbus.codecs.framing import read_single_object, single_object_prefix
from msgbus.errors import ConfigError, DecodeError

Framing = Literal["bare", "single-object"]
_Decode = Callable[[bytes], Any]


class Avro:
    """Avro's binary form, with the schema derived from the message type.

    `framing`: "bare" (the default) is the record alone, which both sides must read with one schema; "single-object"
    has the schema's fingerprint before it, so that types can change. `reads`: the texts of older schemas (.avsc) that
    may come, for "single-object"; each is for the type of its name. `max_bytes`: largest body, 16 MiB by default.

    A type that Avro has no form for is a ConfigError where the topic is used, with field, reason and remedy.
    """

    content_type = "application/avro"

    def __init__(
        self, *, framing: Framing = "bare", reads: Sequence[str] = (), max_bytes: int = 16 * 1024 * 1024
    ) -> None:
        if framing not in ("bare", "single-object"):
            raise ConfigError(f"Avro(framing={framing!r}): allowed are 'bare' and 'single-object'")
        if reads and framing == "bare":
            raise ConfigError("Avro(reads=...): a bare body doesn't say its schema; use framing='single-object'")
        self._framing = framing
        self._reads = [_record(parse(text)) for text in reads]
        self._max_bytes = max_bytes

    def bind(self, type_: Any) -> Coder:
        """Derive and compile for one payload type; `bytes` and `str` are the body itself."""
        if type_ in RAW:
            return RAW[type_]
        if not isinstance(type_, type):
            return self._of_any(type_)
        node = derive(type_)
        encode, decode = self._both(node, type_)
        is_instance: type = dict if is_typeddict(type_) else type_
        return self._coder(encode, decode, lambda value: isinstance(value, is_instance), type_)

    def _both(self, node: Record, type_: Any) -> tuple[Callable[[Any], bytes], _Decode]:
        encode, build = compile_writer(node), validator_of(type_)
        own = _built(compile_reader(node, node, validator_of), build)
        if self._framing == "bare":
            return encode, own
        number = fingerprint(node)
        readers = {
            fingerprint(each): _built(compile_reader(each, node, validator_of), build)
            for each in self._reads
            if agrees(each, node)
        }
        return _framed(encode, single_object_prefix(number)), _unframed({**readers, number: own}, node.name)

    def _coder(self, encode: Any, decode: Any, accepts: Callable[[Any], bool], exact: type | None) -> Coder:
        return Coder(
            self.content_type, encode, decode, accepts, exact=exact,
            errors=(ValueError, TypeError, RecursionError), max_bytes=self._max_bytes, strict=True,
        )  # fmt: skip

    def _of_any(self, type_: Any) -> Coder:
        """A union as a whole: its members have coders of their own, and `ce-type` tells which one."""
        name = str(type_)

        def refuse(_: Any) -> Any:
            raise ValueError(f"nothing tells which member of {name} it is; `ce-type` does, where there are headers")

        return self._coder(refuse, refuse, lambda value: False, None)


def validator_of(type_: Any) -> Callable[[Any], Any]:
    """What makes a value of a type of plain ones."""
    msgspec: Any = sys.modules.get("msgspec")
    if msgspec is not None and isinstance(type_, type) and issubclass(type_, msgspec.Struct):
        return partial(msgspec.convert, type=type_)
    try:
        return TypeAdapter(type_).validator.validate_python
    except (PydanticSchemaGenerationError, PydanticUserError) as error:
        raise ConfigError(f"{type_!r} can't be made of plain values: {error.message}") from error


def _built(read: _Decode, build: Callable[[Any], Any]) -> _Decode:
    return lambda body: build(read(body))


def _framed(encode: Callable[[Any], bytes], prefix: bytes) -> Callable[[Any], bytes]:
    return lambda value: prefix + encode(value)


def _unframed(readers: dict[int, _Decode], name: str) -> _Decode:
    def decode(body: bytes) -> Any:
        try:
            number, rest = read_single_object(body)
        except DecodeError as error:
            raise ValueError(str(error)) from error
        read = readers.get(number)
        if read is None:
            raise ValueError(f"{name}: no schema with fingerprint {number:016x} is known; give it to Avro(reads=...)")
        return read(rest)

    return decode


def _record(node: object) -> Record:
    if not isinstance(node, Record):
        raise ConfigError("Avro(reads=...): an Avro message is a record")
    return node
