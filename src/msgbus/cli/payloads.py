"""Payloads from the command line: read, split and checked against the type of their topic."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from msgbus import headers as h
from msgbus.errors import ConfigError, DecodeError
from msgbus.handlers.decoding import decoder
from msgbus.message import Delivery, Source
from msgbus.topic import Queue, Topic

BATCH = 500  # payloads of one publish_many
_CHUNK = 1 << 18


@dataclass(frozen=True, slots=True)
class Line:
    """One payload as it was written, and where."""

    number: int
    body: bytes


class Checker:
    """Turns bodies into payloads of a topic's type."""

    def __init__(self, target: Topic[Any] | Queue[Any]) -> None:
        self.takes_bytes = target.type is bytes
        self._source = Source("queue", target.name)
        self._decode = decoder(repr(target), target.type, target.codec)
        self._content_type = target.codec.content_type

    def payload(self, line: Line) -> Any:
        """Raises ConfigError naming the line, where there are several, and the field."""
        headers = {} if self.takes_bytes else {h.CONTENT_TYPE: self._content_type}
        try:
            return self._decode(Delivery(line.body, self._source, headers))
        except DecodeError as error:
            where = f"line {line.number}: " if line.number else ""
            hint = ""
            if line.number and line.body.strip() in (b"{", b"["):
                hint = "; write one JSON document a line (NDJSON)"
            raise ConfigError(f"{where}{error}{hint}") from error


@contextmanager
def opened(argument: str) -> Iterator[BinaryIO]:
    """The stream behind `-` or `@FILE`. Raises ConfigError where there is no such file."""
    if argument == "-":
        yield sys.stdin.buffer
        return
    try:
        with Path(argument[1:]).open("rb") as stream:
            yield stream
    except OSError as error:
        raise ConfigError(f"{argument}: {error.strerror or error}") from error


def batches(stream: BinaryIO, *, whole: bool) -> Iterator[list[Line]]:
    """Up to BATCH lines, as soon as there are some: a slow pipe is not waited for. `whole`: all of it is one."""
    if whole:
        yield [Line(0, stream.read())]
        return
    number, rest = 0, b""
    while chunk := _read_some(stream):
        *complete, rest = (rest + chunk).split(b"\n")
        lines = list(_numbered(complete, number))
        number += len(complete)
        for start in range(0, len(lines), BATCH):
            yield lines[start : start + BATCH]
    if last := list(_numbered([rest], number)):
        yield last


def _read_some(stream: BinaryIO) -> bytes:
    read1 = getattr(stream, "read1", stream.read)
    chunk: bytes = read1(_CHUNK)
    return chunk


def _numbered(bodies: list[bytes], before: int) -> Iterator[Line]:
    """Empty lines are no messages."""
    for number, body in enumerate(bodies, before + 1):
        if stripped := body.rstrip(b"\r"):
            yield Line(number, stripped)
