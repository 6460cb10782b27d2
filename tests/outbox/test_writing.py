"""Publishing in the caller's transaction: by each driver, what is committed is there, what is rolled back is not."""

import sqlite3
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiosqlite
import asyncpg
import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from tests.outbox.databases import Database, empty_sqlite, run

from msgbus import Bus, BusError, ConfigError, PublishFailed, Queue, Refused, SendOptions, Topic
from msgbus.outbox import Outbox


@dataclass
class Order:
    """The payload."""

    id: str


orders = Topic("orders", Order, key="id")
jobs = Queue("jobs", Order)
bus = Bus("amqp://nobody.invalid")  # never connected
bus.publishes(orders, jobs)
outbox = Outbox(bus)

Execute = Callable[[str], Awaitable[Any]]


@asynccontextmanager
async def engine_of(database: Database) -> AsyncIterator[Any]:
    """An engine, disposed of at the end."""
    engine = create_async_engine(database.url)
    try:
        yield engine
    finally:
        await engine.dispose()


@asynccontextmanager
async def _session(database: Database) -> AsyncIterator[tuple[Any, Execute]]:
    async with engine_of(database) as engine, AsyncSession(engine) as session, session.begin():
        yield session, lambda text: session.execute(sa.text(text))


@asynccontextmanager
async def _core(database: Database) -> AsyncIterator[tuple[Any, Execute]]:
    async with engine_of(database) as engine, engine.begin() as connection:
        yield connection, lambda text: connection.execute(sa.text(text))


@asynccontextmanager
async def _asyncpg(database: Database) -> AsyncIterator[tuple[Any, Execute]]:
    pool = asyncpg.create_pool(database.plain, min_size=1)
    async with pool, pool.acquire() as connection, connection.transaction():
        yield connection, connection.execute


@asynccontextmanager
async def _psycopg(database: Database) -> AsyncIterator[tuple[Any, Execute]]:
    connection = await psycopg.AsyncConnection.connect(database.plain)
    async with connection:
        yield connection, connection.execute


@asynccontextmanager
async def _aiosqlite(database: Database) -> AsyncIterator[tuple[Any, Execute]]:
    async with aiosqlite.connect(database.plain) as connection:
        yield connection, connection.execute
        await connection.commit()


@asynccontextmanager
async def _sqlite3(database: Database) -> AsyncIterator[tuple[Any, Execute]]:
    connection = sqlite3.connect(database.plain)

    async def execute(text: str) -> Any:
        return connection.execute(text)

    try:
        with connection:
            yield connection, execute
    finally:
        connection.close()


async def test_what_is_committed_is_there_in_order(database: Database) -> None:
    for kind in DRIVERS[database.dialect]:
        async with kind(database) as (where, execute):
            await execute("INSERT INTO business VALUES ('x')")
            first = await outbox.publish(where, orders, Order("a"), headers={"who": "me"})
            more = await outbox.publish_many(where, orders, [Order(str(n)) for n in range(20)])
            last = await outbox.publish(where, jobs, Order("c"), options=SendOptions(expires_in=60, dedup_id="d"))
        found = await run(
            database, "SELECT id, kind, name, key, dedup_id, expires_at IS NULL, body FROM msgbus_outbox ORDER BY seq"
        )
        assert [row[0] for row in found] == [first, *more, last]
        assert uuid.UUID(first).version == 7
        assert found[0][1:6] == ("topic", "orders", "a", None, True)
        assert found[-1][1:6] == ("queue", "jobs", None, "d", False)
        assert found[0][6] == b'{"id":"a"}'
        await run(database, "DELETE FROM msgbus_outbox")


async def _fail(kind: Any, database: Database) -> None:
    async with kind(database) as (where, _):
        await outbox.publish(where, orders, Order("a"))
        raise ZeroDivisionError


async def test_what_is_rolled_back_is_not(database: Database) -> None:
    for kind in DRIVERS[database.dialect]:
        with pytest.raises(ZeroDivisionError):
            await _fail(kind, database)
        assert await run(database, "SELECT id FROM msgbus_outbox") == []


async def test_what_cannot_be_sent_fails_in_the_transaction(database: Database) -> None:
    large = Order("x" * 20_000_000)  # AMQP's limit is 16 MiB, without asking it
    for kind in DRIVERS[database.dialect]:
        async with kind(database) as (where, _):
            with pytest.raises(Refused, match="this broker takes 16,777,216"):
                await outbox.publish(where, jobs, large)
            with pytest.raises(Refused, match="type int, the type declared is Order"):
                await outbox.publish(where, orders, 5)  # type: ignore[misc]
            with pytest.raises(PublishFailed, match="1 payloads"):
                await outbox.publish_many(where, jobs, [Order("good"), 7])  # type: ignore[misc]
            with pytest.raises(Refused, match="native"):
                await outbox.publish(where, orders, Order("a"), options=SendOptions(native=object()))
        assert await run(database, "SELECT id FROM msgbus_outbox") == []


@pytest.mark.parametrize("kind", [_session, _core])
async def test_a_savepoint_takes_its_messages_with_it(kind: Any, database: Database) -> None:
    async with kind(database) as (where, _):
        outer = await where.begin_nested()
        await outbox.publish(where, orders, Order("gone, though first"))
        await outer.rollback()
        kept = [await outbox.publish(where, orders, Order("1"))]
        async with where.begin_nested():
            kept.append(await outbox.publish(where, orders, Order("2")))
            inner = await where.begin_nested()
            await outbox.publish(where, orders, Order("gone"))
            await inner.rollback()
        outer = await where.begin_nested()
        async with where.begin_nested():
            await outbox.publish(where, orders, Order("released, and gone with what is around it"))
        await outer.rollback()
        kept.append(await outbox.publish(where, orders, Order("3")))
    assert [row[0] for row in await run(database, "SELECT id FROM msgbus_outbox ORDER BY seq")] == kept


async def test_nothing_is_sent_before_the_commit_of_sqlalchemy(database: Database) -> None:
    """One statement, behind what the session flushes."""
    seen: list[str] = []
    async with engine_of(database) as engine:
        sa.event.listen(engine.sync_engine, "before_cursor_execute", lambda *about: seen.append(about[2]))
        async with AsyncSession(engine) as session:
            for key in "abc":
                await outbox.publish(session, orders, Order(key))
            assert seen == []
            await session.execute(sa.text("INSERT INTO business VALUES ('x')"))
            await session.commit()
            assert [text.partition(" (")[0] for text in seen[-2:]] == [
                "INSERT INTO business VALUES",
                "INSERT INTO msgbus_outbox",
            ]
            assert len(seen) == 2
            await outbox.publish(session, orders, Order("the next transaction"))
            await session.commit()
    assert len(await run(database, "SELECT id FROM msgbus_outbox")) == 4


async def test_a_transaction_of_messages_alone(database: Database) -> None:
    """Nothing else begins it."""
    async with engine_of(database) as engine, engine.connect() as connection:
        await outbox.publish(connection, orders, Order("a"))
        await connection.commit()
        await outbox.publish(connection, orders, Order("b"))
        await connection.rollback()
        await connection.commit()
    assert [row[0] for row in await run(database, "SELECT key FROM msgbus_outbox")] == ["a"]


async def test_a_synchronous_session(on_sqlite: Database) -> None:
    from sqlalchemy.orm import Session  # noqa: PLC0415

    engine = sa.create_engine(f"sqlite:///{on_sqlite.plain}")
    with Session(engine) as session, session.begin():
        await outbox.publish(session, orders, Order("a"))
    with engine.begin() as connection:
        await outbox.publish(connection, orders, Order("b"))
    engine.dispose()
    assert len(await run(on_sqlite, "SELECT id FROM msgbus_outbox")) == 2


async def test_a_synchronous_connection_of_psycopg(on_postgres: Database) -> None:
    with psycopg.connect(on_postgres.plain) as connection:
        await outbox.publish(connection, orders, Order("a"))
    assert len(await run(on_postgres, "SELECT id FROM msgbus_outbox")) == 1


async def test_outside_a_transaction_it_is_refused(on_postgres: Database, on_sqlite: Database) -> None:
    pg = await asyncpg.connect(on_postgres.plain)
    psy = await psycopg.AsyncConnection.connect(on_postgres.plain, autocommit=True)
    lite = sqlite3.connect(on_sqlite.plain, isolation_level=None)
    try:
        for where in (pg, psy, lite):
            with pytest.raises(BusError, match="inside a transaction"):
                await outbox.publish(where, orders, Order("a"))
        async with engine_of(on_postgres) as engine, engine.connect() as core:
            await core.execution_options(isolation_level="AUTOCOMMIT")
            with pytest.raises(BusError, match="AUTOCOMMIT"):
                await outbox.publish(core, orders, Order("a"))
        with pytest.raises(BusError, match="closed"):
            await outbox.publish(core, orders, Order("a"))
    finally:
        await pg.close()
        await psy.close()
        lite.close()


async def test_missing_tables_are_said(tmp_path: Path, on_postgres: Database) -> None:
    for name in ("msgbus_outbox", "msgbus_outbox_dead"):
        await run(on_postgres, f"DROP TABLE {name}")
    for database in (on_postgres, empty_sqlite(tmp_path)):
        for kind in DRIVERS[database.dialect]:
            with pytest.raises(ConfigError, match="tables of the outbox are missing or of another version"):
                async with kind(database) as (where, _):
                    await outbox.publish(where, orders, Order("a"))


async def test_what_nobody_declared_or_can_write_to_is_refused() -> None:
    with pytest.raises(ConfigError, match="is not declared"):
        await outbox.publish(None, Topic("other", Order), Order("a"))
    with pytest.raises(ConfigError, match="give a Topic or a Queue"):
        await outbox.publish(None, "orders", Order("a"))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="got a object: give a session or connection"):
        await outbox.publish(object(), orders, Order("a"))
    with pytest.raises(ConfigError, match="of SQLAlchemy"):
        await outbox.publish(sa.MetaData(), orders, Order("a"))


DRIVERS: dict[str, list[Any]] = {
    "postgresql": [_session, _core, _asyncpg, _psycopg],
    "sqlite": [_session, _core, _aiosqlite, _sqlite3],
}
