"""JSON as the AWS JSON protocols want it, by msgspec where it is installed, else by the standard library.

Figures for the choice: docs/decisions/0101-aws-data-plane.md.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable
from typing import Any


def _default(value: object) -> str:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return b64encode(value).decode()
    raise TypeError(f"{type(value).__name__} is nothing that AWS's JSON can carry")


def encode_std(value: object) -> bytes:
    """JSON bytes by the standard library; bytes become base64 text. Raises TypeError or ValueError."""
    return json.dumps(value, default=_default, separators=(",", ":"), allow_nan=False).encode()


def decode_std(data: bytes) -> Any:
    """The value of JSON bytes by the standard library. Raises ValueError."""
    return json.loads(data)


def reader_std(kind: Any) -> Callable[[bytes], Any] | None:
    """None: the standard library reads no shapes."""
    return None


encode: Callable[[Any], bytes] = encode_std
decode: Callable[[bytes], Any] = decode_std
reader: Callable[[Any], Callable[[bytes], Any] | None] = reader_std
"""A function that reads JSON bytes of one shape (a TypedDict), base64 text straight into bytes; None: there is none."""

try:
    import msgspec
except ModuleNotFoundError:
    pass
else:  # it writes bytes as base64 text too, and its errors are ValueErrors too
    encode, decode, DecodeError = (
        msgspec.json.Encoder().encode,
        msgspec.json.Decoder().decode,
        msgspec.DecodeError,
    )

    def _reader(kind: Any) -> Callable[[bytes], Any]:
        """Half the cost of text that is turned into bytes afterwards."""
        read: Callable[[bytes], Any] = msgspec.json.Decoder(kind).decode
        return read

    reader = _reader
