"""The bytes of an object in the archive: the records of a chunk, in one of two formats."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Sequence
from types import ModuleType
from typing import cast

from msgbus.archive.record import Archived, Format
from msgbus.errors import missing_extra

_CONTAINER = b"Obj\x01"  # how an Avro container begins


def encode(name: str, stream: str, records: Sequence[Archived], kind: Format) -> bytes:
    """A chunk under its name. The same records under the same name are the same bytes."""
    if kind == "jsonl":
        return b"".join(record.to_line() for record in records)
    return cast(bytes, _containers().encode(name, stream, records))


def decode(content: bytes) -> Iterable[Archived]:
    """The records of a chunk, in either format. Raises DecodeError."""
    if content.startswith(_CONTAINER):
        return cast(Iterable[Archived], _containers().decode(content))
    return (Archived.from_line(line) for line in content.splitlines() if line)


def _containers() -> ModuleType:
    try:
        return importlib.import_module("msgbus.archive.containers")
    except ModuleNotFoundError as error:
        raise missing_extra("Avro containers", error, "avro") from error
