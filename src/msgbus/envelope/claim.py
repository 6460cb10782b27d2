"""Claim check: a body that is too large for the broker travels by way of a store, the message carries a pointer."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

from msgbus import headers as h
from msgbus.errors import BusError, DecodeError, Unavailable, said
from msgbus.message import Delivery, Outgoing, Source

T = TypeVar("T")

POINTER = "application/vnd.msgbus.claim+json"
"""The content type of DirectoryStore's pointers; other stores have formats of their own."""

_NAME_BYTES = 16  # of chance: who knows no name can't make one up
_ENDING = ".body"
_NAME = re.compile(r"[0-9a-f]{32}\.body")


class BodyStore(Protocol):
    """Keeps large bodies. Raises Unavailable where it can't be reached: the message is not at fault."""

    async def put(self, out: Outgoing) -> None:
        """Store the body and put a pointer in its place."""
        ...

    def holds(self, delivery: Delivery) -> bool:
        """Whether this delivery is a pointer into this store, not yet fetched."""
        ...

    async def fetch(self, delivery: Delivery) -> None:
        """Put the stored body in place of the pointer, and its reference into the header `msgbus-claim`."""
        ...

    async def forget(self, delivery: Delivery) -> None:
        """The message was handled and acknowledged, and nobody else gets it: delete the body."""
        ...


@runtime_checkable
class Closes(Protocol):
    """A store with connections: the bus closes it when it is closed itself. It may be used again after that."""

    async def close(self) -> None:
        """Let go of what it holds."""


class DirectoryStore:
    """Bodies as files in a folder that every process sees: for development, tests and shared disks.

    Each body has a file with a name that nobody can guess, so that a pointer reaches no body but its own, and no file
    that this store did not write.
    """

    def __init__(self, folder: Path | str) -> None:
        self._folder = Path(folder)

    async def put(self, out: Outgoing) -> None:
        """Raises Unavailable where the folder can't be written."""
        name = secrets.token_hex(_NAME_BYTES) + _ENDING
        await self._run(self._write, name, out.body)
        kind = out.headers.get(h.CONTENT_TYPE, "")
        out.body = json.dumps({"file": name, "bytes": len(out.body), "content_type": kind}).encode()
        out.headers[h.CONTENT_TYPE] = POINTER

    def holds(self, delivery: Delivery) -> bool:
        """Whether it is a pointer that `put` wrote."""
        return delivery.headers.get(h.CONTENT_TYPE) == POINTER

    async def fetch(self, delivery: Delivery) -> None:
        """Raises DecodeError where the pointer is damaged, Unavailable where the folder can't be read.

        A file that is not there, or not yet, is an error that counts as an attempt.
        """
        name, kind = self._pointer(delivery)
        try:
            body = await self._run(self._read, name)
        except FileNotFoundError as error:
            raise BusError(f"{delivery.source}: the body {name} is not in the store {self._folder}") from error
        delivery.body = body
        delivery.headers = {**delivery.headers, h.CONTENT_TYPE: kind, h.CLAIM: name}

    async def forget(self, delivery: Delivery) -> None:
        """Harmless where it is gone already."""
        await self._run(self._file(delivery.headers[h.CLAIM], delivery.source).unlink, missing_ok=True)

    def _pointer(self, delivery: Delivery) -> tuple[str, str]:
        try:
            pointer = json.loads(delivery.body)
            name, kind = pointer["file"], pointer["content_type"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise DecodeError(f"{delivery.source}: the claim-check pointer is damaged: {said(error)}") from error
        if not isinstance(name, str) or not isinstance(kind, str):
            raise DecodeError(f"{delivery.source}: the claim-check pointer is damaged: its members must be text")
        self._file(name, delivery.source)
        return name, kind

    def _file(self, name: str, source: Source) -> Path:
        """Where `put` may have written it: a pointer can come from anybody, and lead anywhere. Raises DecodeError."""
        if _NAME.fullmatch(name) is None:
            raise DecodeError(f"{source}: the claim-check pointer {name!a:.100} is no name that the store gives")
        return self._folder / name

    def _read(self, name: str) -> bytes:
        """A missing folder is a disk that is not mounted, and may come back."""
        path = self._folder / name
        if path.is_symlink():
            raise FileNotFoundError(name)
        try:
            return path.read_bytes()
        except FileNotFoundError:
            if self._folder.is_dir():
                raise
            raise NotADirectoryError(f"{self._folder} is not there") from None

    def _write(self, name: str, body: bytes) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        whole = self._folder / name
        part = whole.with_suffix(".part")
        part.write_bytes(body)
        part.rename(whole)  # whole or not at all

    async def _run(self, function: Callable[..., T], *arguments: Any, **named: Any) -> T:
        try:
            return await asyncio.to_thread(function, *arguments, **named)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise Unavailable(f"the body store {self._folder} can't be used: {error}") from error
