"""Leases in this process: for tests, and for one process that may begin anew after a restart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from msgbus.broker import Mode
from msgbus.brokers.kinesis.rows import Row
from msgbus.brokers.kinesis.stores import same


class MemoryStore:
    """Shared by all brokers of the process that name the same `place` and group."""

    _tables: ClassVar[dict[tuple[str, str], dict[str, Row]]] = {}

    def __init__(self, place: str, name: str) -> None:
        self.name = name
        self._key = (place, name)

    async def is_there(self) -> bool:
        """Whether somebody made it."""
        return self._key in self._tables

    async def ensure(self, mode: Mode) -> bool:
        """Make it."""
        if await self.is_there() or mode != "create":
            return False
        self._tables[self._key] = {}
        return True

    @property
    def _rows(self) -> dict[str, Row]:
        return self._tables.setdefault(self._key, {})

    async def rows(self) -> Sequence[Row]:
        """All leases."""
        return list(self._rows.values())

    async def read(self, shard: str) -> Row | None:
        """One lease."""
        return self._rows.get(shard)

    async def add(self, row: Row) -> bool:
        """A new lease."""
        return self._rows.setdefault(row.shard, row) is row

    async def swap(self, old: Row, new: Row) -> bool:
        """Nothing else runs in between: there is no await."""
        current = self._rows.get(old.shard)
        if current is None or not same(current, old):
            return False
        self._rows[old.shard] = new
        return True

    async def remove(self, row: Row) -> bool:
        """Delete it."""
        current = self._rows.get(row.shard)
        if current is None or not same(current, row):
            return False
        del self._rows[row.shard]
        return True
