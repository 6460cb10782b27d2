"""Leases in SQLite or PostgreSQL, by SQLAlchemy: one table for all groups. Needs the extra `sql` and a driver."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine

from msgbus.broker import Mode
from msgbus.brokers.databases import TROUBLE, unavailable
from msgbus.brokers.kinesis.rows import DAMAGE, Row, checked, damaged
from msgbus.errors import BusError

TABLE = sa.Table(
    "msgbus_kinesis_leases",
    sa.MetaData(),
    sa.Column("application", sa.String(255), primary_key=True),
    sa.Column("shard", sa.String(255), primary_key=True),
    sa.Column("owner", sa.String(255), nullable=False),
    sa.Column("giver", sa.String(255), nullable=False),
    sa.Column("counter", sa.BigInteger, nullable=False),
    sa.Column("checkpoint", sa.String(255), nullable=False),
    sa.Column("state", sa.Text, nullable=False),
)
"""`state`: the rest of a lease, as JSON."""

_COLUMNS = ("shard", "owner", "giver", "counter", "checkpoint")


class SqlStore:
    """The leases of one group in that table."""

    def __init__(self, engine: AsyncEngine, name: str) -> None:
        self.name = name
        self._engine = engine
        self._mine = TABLE.c.application == name

    async def is_there(self) -> bool:
        """Whether the table is."""
        try:
            async with self._engine.connect() as connection:
                return bool(await connection.run_sync(lambda sync: sa.inspect(sync).has_table(TABLE.name)))
        except TROUBLE as error:
            raise self._translated(error) from error

    async def ensure(self, mode: Mode) -> bool:
        """Make the table."""
        if await self.is_there() or mode != "create":
            return False
        try:
            async with self._engine.begin() as connection:
                await connection.run_sync(lambda sync: TABLE.create(sync, checkfirst=True))
        except TROUBLE as error:
            if not await self.is_there():  # else another process was faster
                raise self._translated(error) from error
        return True

    async def rows(self) -> Sequence[Row]:
        """All leases."""
        return [self._row(found) for found in await self._read(sa.select(TABLE).where(self._mine))]

    async def read(self, shard: str) -> Row | None:
        """One lease."""
        found = await self._read(sa.select(TABLE).where(self._mine, TABLE.c.shard == shard))
        return self._row(found[0]) if found else None

    async def add(self, row: Row) -> bool:
        """A new lease."""
        try:
            async with self._engine.begin() as connection:
                await connection.execute(sa.insert(TABLE).values(application=self.name, **_values(row)))
        except IntegrityError:
            return False
        except TROUBLE as error:
            raise self._translated(error) from error
        return True

    def _row(self, found: Any) -> Row:
        try:
            return _row(found)
        except DAMAGE as error:
            raise damaged(f"leases of {self.name}", found["shard"], error) from error

    async def swap(self, old: Row, new: Row) -> bool:
        """One UPDATE with the condition in its WHERE."""
        return await self._write(sa.update(TABLE).where(*self._same(old)).values(**_values(new)))

    async def remove(self, row: Row) -> bool:
        """One DELETE with the same condition."""
        return await self._write(sa.delete(TABLE).where(*self._same(row)))

    def _same(self, row: Row) -> Sequence[Any]:
        return (
            self._mine,
            TABLE.c.shard == row.shard,
            TABLE.c.counter == row.counter,
            TABLE.c.owner == row.owner,
            TABLE.c.giver == row.giver,
        )

    async def _read(self, query: Any) -> Sequence[Any]:
        try:
            async with self._engine.connect() as connection:
                return (await connection.execute(query)).mappings().all()
        except TROUBLE as error:
            raise self._translated(error) from error

    async def _write(self, statement: Any) -> bool:
        try:
            async with self._engine.begin() as connection:
                return bool((await connection.execute(statement)).rowcount)
        except TROUBLE as error:
            raise self._translated(error) from error

    def _translated(self, error: Exception) -> BusError:
        return unavailable(f"leases of {self.name}", self._engine, error)


def _values(row: Row) -> dict[str, Any]:
    every = asdict(row)
    columns = {name: every.pop(name) for name in _COLUMNS}
    every["first"], every["last"] = str(row.first), str(row.last)  # more than JSON readers take for granted
    return {**columns, "state": json.dumps(every, separators=(",", ":"))}


def _row(found: Any) -> Row:
    state = json.loads(found["state"])
    columns = {name: found[name] for name in _COLUMNS}
    parents, children = tuple(state.pop("parents")), tuple(state.pop("children"))
    first, last = int(state.pop("first")), int(state.pop("last"))
    return checked(Row(**columns, **state, parents=parents, children=children, first=first, last=last))
