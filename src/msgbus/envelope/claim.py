"""Claim check: a body that is too large for the broker travels by way of a store, the message carries a pointer."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

from msgbus import headers as h
from msgbus.errors import DecodeError, Unavailable
from msgbus.message import Delivery, Outgoing

T = TypeVar("T")

POINTER = "application/vnd.msgbus.claim+json"
"""The content type of DirectoryStore's pointers; other stores have formats of their own."""


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


class DirectoryStore:
    """Bodies as files in a folder that every process sees: for development, tests and shared disks."""

    def __init__(self, folder: Path | str) -> None:
        self._folder = Path(folder)

    async def put(self, out: Outgoing) -> None:
        """Raises Unavailable where the folder can't be written."""
        await self._run(self._write, out.id, out.body)
        kind = out.headers.get(h.CONTENT_TYPE, "")
        out.body = json.dumps({"id": out.id, "bytes": len(out.body), "content_type": kind}).encode()
        out.headers[h.CONTENT_TYPE] = POINTER

    def holds(self, delivery: Delivery) -> bool:
        """Whether it is a pointer that `put` wrote."""
        return delivery.headers.get(h.CONTENT_TYPE) == POINTER

    async def fetch(self, delivery: Delivery) -> None:
        """Raises DecodeError where the pointer is damaged, Unavailable where the file can't be read."""
        try:
            pointer = json.loads(delivery.body)
            reference, kind = str(pointer["id"]), str(pointer["content_type"])
        except (ValueError, KeyError, TypeError) as error:
            raise DecodeError(f"{delivery.source}: the claim-check pointer is damaged: {error}") from error
        delivery.body = await self._run(self._file(reference).read_bytes)
        delivery.headers = {**delivery.headers, h.CONTENT_TYPE: kind, h.CLAIM: reference}

    async def forget(self, delivery: Delivery) -> None:
        """Harmless where it is gone already."""
        await self._run(lambda: self._file(delivery.headers[h.CLAIM]).unlink(missing_ok=True))

    def _file(self, reference: str) -> Path:
        """Inside the folder, whatever the reference says: it may come from another service."""
        return self._folder / (re.sub(r"[^A-Za-z0-9_-]", "_", reference) or "_")

    def _write(self, name: str, body: bytes) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        whole = self._file(name)
        part = whole.with_suffix(".part")
        part.write_bytes(body)
        part.rename(whole)  # whole or not at all

    async def _run(self, function: Callable[..., T], *arguments: Any) -> T:
        try:
            return await asyncio.to_thread(function, *arguments)
        except OSError as error:
            raise Unavailable(f"the body store {self._folder} can't be used: {error}") from error
