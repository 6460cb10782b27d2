"""How payloads become bytes and come back. A codec is bound to a payload type once, at registration.

`json`: the default codec. `avro/`: schemas derived from message types. `framing`: the bytes before a body that name its
schema in a registry.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

OCTETS = "application/octet-stream"
TEXT = "text/plain"  # in UTF-8; with a charset behind it FastStream and kombu take it for binary


@dataclass(frozen=True, slots=True)
class Coder:
    """A codec bound to one payload type.

    `encode` and `decode` are called once per message and are, where possible, the compiled functions themselves.
    `errors`: what `decode` raises for a bad body; the core turns it into DecodeError. `accepts(value)` says
    whether the value is of the payload type; it is asked before `encode` only when the class is not `exact`.
    `max_bytes`: larger bodies are refused on both ways. `valid_json`: `encode` writes JSON and nothing else, so an
    envelope in JSON may take it in unseen. `unreadable`: why `decode` can't read what `encode` writes, so
    that nothing of the type may be published. `strict`: a body whose content type is another one is not tried.
    """

    content_type: str
    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Any]
    accepts: Callable[[Any], bool]
    exact: type | None = None
    errors: tuple[type[Exception], ...] = (ValueError, TypeError)
    max_bytes: int = 16 * 1024 * 1024
    valid_json: bool = False
    unreadable: str = ""
    strict: bool = False


class Codec(Protocol):
    """A wire format for payloads."""

    @property
    def content_type(self) -> str:
        """What it writes into the `content-type` header."""
        ...

    def bind(self, type_: Any) -> Coder:
        """Compile encode and decode for one payload type. Raises ConfigError where the type can't be carried."""
        ...


def _encode_text(value: str) -> bytes:
    return value.encode()


def _decode_text(body: bytes) -> str:
    return body.decode()


RAW: dict[type, Coder] = {
    bytes: Coder(OCTETS, bytes, bytes, lambda value: isinstance(value, bytes), bytes),
    str: Coder(TEXT, _encode_text, _decode_text, lambda value: isinstance(value, str), str),
}
"""`bytes` and `str` payloads bypass every codec: they are the body."""
