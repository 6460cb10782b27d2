"""A message as a row of the outbox: whole, and not yet fitted to any broker."""

from __future__ import annotations

import json
import random
import zlib
from typing import Any, NamedTuple

import pydantic_core

from msgbus import headers as h
from msgbus.message import Outgoing
from msgbus.publishing.outlet import Outlet
from msgbus.topic import Queue, Topic

PARTS = 64
"""Partitions of an outbox: at most so many relays share it. Part of the schema: never changed within a version."""

_TEXT = {str}

COLUMNS = ("part", "id", "kind", "name", "key", "headers", "body", "dedup_id", "expires_at", "created")
"""What a writer fills in; the database gives `seq`."""


class Row(NamedTuple):
    """`kind` and `name` are those of its topic or queue, without the prefix. `headers` is JSON.

    `created`, `expires_at`: Unix times. `seq`: its place, 0 until it is read from a table. A tuple, since there is one
    per message, which `_make` takes from what a driver read.
    """

    part: int
    id: str
    kind: str
    name: str
    key: str | None
    headers: str
    body: bytes
    dedup_id: str | None
    expires_at: float | None
    created: float
    seq: int = 0

    @property
    def place(self) -> str:
        """Where it is to be sent, as `topic/orders`."""
        return f"{self.kind}/{self.name}"

    @property
    def values(self) -> dict[str, Any]:
        """By column, to be inserted."""
        return {name: getattr(self, name) for name in COLUMNS}


def part_of(key: str | None) -> int:
    """The partition of a key, the same in every process; any, where there is no key."""
    return random.randrange(PARTS) if key is None else zlib.crc32(key.encode(errors="surrogatepass")) % PARTS


def row_of(out: Outgoing, target: Topic[Any] | Queue[Any], created: float) -> Row:
    """The row of a message."""
    return Row(
        part=part_of(out.key),
        id=out.id,
        kind=target.kind,
        name=target.name,
        key=out.key,
        headers=json.dumps(out.headers),
        body=out.body,
        dedup_id=out.dedup_id,
        expires_at=out.expires_at,
        created=created,
    )


def outgoing_of(row: Row, outlet: Outlet) -> Outgoing:
    """The message of a row. Raises ValueError where it is none (somebody wrote into the table)."""
    headers = pydantic_core.from_json(row.headers)
    if not isinstance(headers, dict) or set(map(type, headers.values())) - _TEXT:
        raise ValueError("its headers are no JSON object of texts")
    if row.expires_at is not None:
        headers.setdefault(h.EXPIRES, h.rfc3339(row.expires_at))
    return Outgoing(
        outlet.address,
        row.id,
        bytes(row.body),
        headers,
        row.key,
        dedup_id=row.dedup_id,
        expires_at=row.expires_at,
        mandatory=outlet.mandatory,
        lane=row.key if outlet.ordered else None,
    )
