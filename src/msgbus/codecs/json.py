"""JSON: pydantic-core for models, dataclasses, TypedDicts and everything a TypeAdapter takes, msgspec for Structs.

NaN and Infinity are no JSON (RFC 8259, section 6): they are refused both ways unless asked for.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple

from pydantic import BaseModel, PydanticSchemaGenerationError, PydanticUserError, TypeAdapter, ValidationError

from msgbus.codecs import RAW, Coder
from msgbus.codecs.readback import Readback, readback_of
from msgbus.errors import ConfigError

# Names, exponents of 100 and more, and so many digits that a small exponent is enough (the largest float is 1.8e308).
_MAY_BE_INFINITE = re.compile(rb"(?i)nan|inf|e\+?0*[1-9]\d\d|(?<!\d)\d{200}")
# The same, cheaply and a little too widely: few bodies are left for the expression, which reads byte by byte.
_MANY_DIGITS = b"0" * 200
_SHAPE = bytes(48 if c in b"0123456789" else 101 if c in b"eE" else c if c == 43 else 32 for c in range(256))
_DEPTH = 200  # what pydantic-core's parser allows


class Json:
    """The default codec.

    `allow_nan`: let NaN and Infinity pass (then other JSON parsers may refuse the body). `max_bytes`: largest
    body, 16 MiB by default. `max_depth`: deepest nesting, at most 200.
    """

    content_type = "application/json"

    def __init__(self, *, allow_nan: bool = False, max_bytes: int = 16 * 1024 * 1024, max_depth: int = _DEPTH) -> None:
        if not 0 < max_depth <= _DEPTH:
            raise ConfigError(f"Json(max_depth={max_depth}): allowed are 1 to {_DEPTH}, the parser's own limit")
        self._allow_nan = allow_nan
        self._max_bytes = max_bytes
        self._max_depth = max_depth

    def bind(self, type_: Any) -> Coder:
        """Compile for one payload type; `bytes` and `str` are the body itself."""
        if type_ in RAW:
            return RAW[type_]
        encode, decode, accepts, floats, back = _msgspec(type_) if _is_struct(type_) else _pydantic(type_)
        if floats is not None and not self._allow_nan:
            encode, decode = _finite_encode(encode), _finite_decode(decode, floats)
        if self._max_depth < _DEPTH or _is_struct(type_):
            decode = _limited_depth(decode, self._max_depth)
        if back.nests or self._max_depth < _DEPTH:
            encode = _limited_encode(encode, self._max_depth)
        return Coder(
            self.content_type,
            encode,
            decode,
            accepts,
            exact=type_ if isinstance(type_, type) else None,
            errors=(ValueError, TypeError, RecursionError),  # ValidationError and msgspec's are ValueErrors
            max_bytes=self._max_bytes,
            valid_json=True,
            unreadable=back.fault,
        )


_Floats = tuple[str, ...]
"""The fields of a model that are floats, where these are all; empty: they may be anywhere."""

_Compiled = tuple[Callable[[Any], bytes], Callable[[bytes], Any], Callable[[Any], bool], _Floats | None, Readback]


def _pydantic(type_: Any) -> _Compiled:
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(type_)
    except (PydanticSchemaGenerationError, PydanticUserError) as error:
        raise ConfigError(
            f"{type_!r} can't be carried as JSON: use a pydantic model, a dataclass, a TypedDict, a msgspec Struct,"
            f" bytes, str or a type that pydantic's TypeAdapter takes ({error.message})"
        ) from error
    validator, serializer = adapter.validator, adapter.serializer

    def accepts(value: object) -> bool:
        try:
            validator.validate_python(value, strict=True)
        except ValidationError:
            return False
        return True

    if isinstance(type_, type) and (issubclass(type_, BaseModel) or not issubclass(type_, (dict, list, tuple, set))):
        is_instance = type_

        def accepts(value: object) -> bool:
            return isinstance(value, is_instance)

    schema = adapter.core_schema
    back = readback_of(schema)
    encode = serializer.to_json
    if back.by_alias or back.round_trip:
        encode = partial(encode, by_alias=back.by_alias, round_trip=back.round_trip)
    return encode, validator.validate_json, accepts, _float_fields(schema) if _has_floats(schema) else None, back


def _is_struct(type_: Any) -> bool:
    msgspec = sys.modules.get("msgspec")  # never imported for those who don't use it
    return msgspec is not None and isinstance(type_, type) and issubclass(type_, msgspec.Struct)


def _msgspec(type_: Any) -> _Compiled:
    msgspec: Any = sys.modules["msgspec"]

    def accepts(value: object) -> bool:
        return isinstance(value, type_)

    back = Readback(by_alias=None, round_trip=False, nests=True, fault="")
    return msgspec.json.Encoder().encode, msgspec.json.Decoder(type_).decode, accepts, (), back


def _has_floats(schema: object) -> bool:
    """Whether a core schema lets a float in somewhere: only such payloads pay for the checks."""
    if isinstance(schema, Mapping):
        if schema.get("type") in ("float", "any", "complex"):
            return True
        return any(_has_floats(value) for key, value in schema.items() if key != "metadata")
    if isinstance(schema, (list, tuple)):
        return any(map(_has_floats, schema))
    return False


def _float_fields(schema: Mapping[str, Any]) -> _Floats:
    """The float fields of a plain model whose other fields have none and that takes no others."""
    inner = schema.get("schema") or {}
    if schema["type"] != "model" or inner.get("type") != "model-fields" or _takes_more(schema, inner):
        return ()
    kinds = {name: _bare(field["schema"]) for name, field in inner["fields"].items()}
    floats = tuple(name for name, kind in kinds.items() if kind["type"] == "float")
    return floats if not any(_has_floats(kind) for name, kind in kinds.items() if name not in floats) else ()


def _takes_more(schema: Mapping[str, Any], inner: Mapping[str, Any]) -> bool:
    config = schema.get("config") or {}
    return "extras_schema" in inner or "allow" in (inner.get("extra_behavior"), config.get("extra_fields_behavior"))


def _bare(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Without its default, and without None beside it."""
    while schema["type"] in ("default", "nullable"):
        schema = schema["schema"]
    return schema


def _finite_encode(encode: Callable[[Any], bytes]) -> Callable[[Any], bytes]:
    """Both encoders write NaN as `null`: only a body that has one is looked at closely."""

    def checked(value: Any) -> bytes:
        body = encode(value)
        if b"null" in body or b"NaN" in body or b"Infinity" in body:
            _refuse_infinite(value)
        return body

    return checked


def _finite_decode(decode: Callable[[bytes], Any], floats: _Floats) -> Callable[[bytes], Any]:
    def checked(body: bytes) -> Any:
        value = decode(body)
        if _is_suspect(body) and _MAY_BE_INFINITE.search(body):
            json.loads(body, parse_constant=_no_constant)
            _refuse_infinite(value)
        return value

    def checked_fields(body: bytes) -> Any:
        if b"NaN" in body or b"Infinity" in body:  # it may be in a field that is passed over
            return checked(body)
        value = decode(body)
        fields = value.__dict__
        for name in floats:
            number = fields[name]
            if number.__class__ is float and number - number != 0.0:
                _refuse_infinite(value)
        return value

    return checked_fields if floats else checked


def _is_suspect(body: bytes) -> bool:
    """Whether `_MAY_BE_INFINITE` can match at all: every digit counts as 0, every other character as a space."""
    lower = body.lower()
    if b"nan" in lower or b"inf" in lower:
        return True
    shape = body.translate(_SHAPE)
    return b"e000" in shape or b"e+000" in shape or _MANY_DIGITS in shape


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON; Json(allow_nan=True) lets it pass")


class _Part(NamedTuple):
    """A part of a payload, and how it is reached. The whole has no `parent`."""

    parent: _Part | None
    name: object
    value: Any

    def __str__(self) -> str:
        names: list[str] = []
        part = self
        while part.parent is not None:
            names.append(str(part.name))
            part = part.parent
        return ".".join(reversed(names)) or "the payload"


def _refuse_infinite(value: Any) -> None:
    """Each part is looked at once, however deep it lies; the path is put together for the one that is refused."""
    parts = [_Part(None, "", value)]
    while parts:
        part = parts.pop()
        if not isinstance(part.value, float):
            parts.extend(_Part(part, name, child) for name, child in _children(part.value))
        elif not math.isfinite(part.value):
            raise ValueError(f"{part} is {part.value}, which is no JSON; Json(allow_nan=True) lets it pass")


def _children(value: Any) -> Iterable[tuple[object, Any]]:
    if isinstance(value, Mapping):
        return value.items()
    if isinstance(value, (list, tuple, set, frozenset)):
        return enumerate(value)
    if fields := getattr(value, "__struct_fields__", None):
        return [(name, getattr(value, name)) for name in fields]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [(field.name, getattr(value, field.name)) for field in dataclasses.fields(value)]
    return (value.__dict__ | (value.model_extra or {})).items() if isinstance(value, BaseModel) else ()


def _limited_encode(encode: Callable[[Any], bytes], limit: int) -> Callable[[Any], bytes]:
    def checked(value: Any) -> bytes:
        body = encode(value)
        _refuse_deep(body, limit)
        return body

    return checked


def _limited_depth(decode: Callable[[bytes], Any], limit: int) -> Callable[[bytes], Any]:
    def checked(body: bytes) -> Any:
        _refuse_deep(body, limit)
        return decode(body)

    return checked


# A string that never ends is read once: were it no match, each quote in it would be tried as a start.
_STRUCTURE = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|([\[{])|([\]}])', re.DOTALL)


def _refuse_deep(body: bytes, limit: int) -> None:
    if body.count(b"{") + body.count(b"[") <= limit:  # a cheap bound; only other bodies are walked
        return
    depth = 0
    for match in _STRUCTURE.finditer(body):
        depth += 1 if match[1] else -1 if match[2] else 0
        if depth > limit:
            raise ValueError(f"nested deeper than {limit}")
