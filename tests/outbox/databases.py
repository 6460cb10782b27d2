"""Databases with the tables of an outbox, each empty."""

import itertools
import os
from dataclasses import dataclass
from pathlib import Path

import asyncpg
from tests.servers.fixtures import shared

from msgbus.outbox.schema import Dialect, statements

_names = itertools.count()


@dataclass(frozen=True)
class Database:
    """`url` as SQLAlchemy takes it, with an asynchronous driver; `plain` as others do: a path for SQLite."""

    dialect: Dialect
    url: str
    plain: str


async def empty_postgres(url: str = "") -> Database:
    """A database of its own on the shared server, or on the one at `url`."""
    server = url or shared("postgres").url
    name = f"outbox_{os.getpid()}_{next(_names)}"
    connection = await asyncpg.connect(server)
    try:
        await connection.execute(f"CREATE DATABASE {name}")
    finally:
        await connection.close()
    plain = f"{server.rpartition('/')[0]}/{name}"
    return Database("postgresql", plain.replace("postgresql://", "postgresql+asyncpg://"), plain)


def empty_sqlite(folder: Path) -> Database:
    """A new file."""
    path = folder / f"outbox{next(_names)}.db"
    return Database("sqlite", f"sqlite+aiosqlite:///{path}", str(path))


async def run(database: Database, *texts: str) -> list[tuple[object, ...]]:
    """Statements in one transaction; the rows of the last one."""
    import sqlalchemy as sa  # noqa: PLC0415
    from sqlalchemy.ext.asyncio import create_async_engine  # noqa: PLC0415

    engine = create_async_engine(database.url)
    try:
        async with engine.begin() as connection:
            for text in texts:
                result = await connection.execute(sa.text(text))
            return [tuple(row) for row in result.all()] if result.returns_rows else []
    finally:
        await engine.dispose()


async def with_tables(database: Database) -> Database:
    """With the tables of an outbox, and one of a business."""
    await run(database, *statements(database.dialect), "CREATE TABLE business (what text)")
    return database
