"""An outbox in PostgreSQL or SQLite, as its relay sees it. Needs the extra `sql` and an asynchronous driver."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from msgbus.brokers.databases import TROUBLE, open_engine, unavailable
from msgbus.errors import BusError, ConfigError
from msgbus.outbox import texts
from msgbus.outbox.rows import Row
from msgbus.outbox.schema import VERSION, Dialect, schema_error, statements
from msgbus.outbox.store import Dead, Hold, Page, Share, Status, Wanted

_CHANNEL = "msgbus_outbox"
_END = 2 + len(Row._fields)  # of the columns of `read` that are a row's
_OPENING = 5.0  # seconds that a connection may take when nobody wants it any more


class SqlStore:
    """`url`: as SQLAlchemy takes it, such as `postgresql+asyncpg://...` or `sqlite+aiosqlite:///...`.

    Raises ConfigError for a database or a driver that it can't use.
    """

    def __init__(self, url: str) -> None:
        self._engine = open_engine(url, "outbox")
        self._single = self._engine.execution_options(isolation_level="AUTOCOMMIT")  # fewer round trips
        name = self._engine.dialect.name
        if name not in ("postgresql", "sqlite"):
            raise ConfigError(f"outbox={name}: an outbox is in postgresql or sqlite")
        self.dialect: Dialect = "postgresql" if name == "postgresql" else "sqlite"
        self._texts = texts.POSTGRESQL if name == "postgresql" else texts.SQLITE

    async def create(self) -> None:
        """Make the tables. Raises Unavailable where they are there."""
        async with self._begin() as connection:
            for statement in statements(self.dialect):
                await connection.execute(sa.text(statement))

    async def check(self) -> None:
        """Read the version."""
        async with self._begin() as connection:
            found = (await connection.execute(sa.text(texts.VERSION))).scalars().all()
        if found != [VERSION]:
            raise ConfigError(f"the tables of the outbox are of version {found}, this msgbus has version {VERSION}")

    async def share(self, owner: str, seconds: float) -> Share:
        """One transaction."""
        about = {"owner": owner, "seconds": seconds}
        async with self._begin() as connection:
            await self._run(connection, texts.LIVES, about)
            await self._run(connection, texts.FORGET, {})
            held = (await self._run(connection, texts.RENEW, about)).all()
            relays = (await self._run(connection, texts.COUNT, {})).scalar_one()
        return Share({part: Hold(token, scan) for part, token, scan in held}, relays)

    async def take(self, owner: str, seconds: float, count: int) -> int:
        """Any of them."""
        return await self._count(self._texts.take, {"owner": owner, "seconds": seconds, "count": count})

    async def release(self, owner: str, parts: Collection[int]) -> None:
        """One UPDATE."""
        async with self._begin() as connection:
            await connection.execute(_with_list(texts.RELEASE, "parts"), {"owner": owner, "parts": list(parts)})

    async def leave(self, owner: str) -> None:
        """Its leases, and itself."""
        async with self._begin() as connection:
            await self._run(connection, texts.RELEASE_ALL, {"owner": owner})
            await self._run(connection, texts.LEAVE, {"owner": owner})

    async def read(self, owner: str, wanted: Sequence[Wanted], skip: Collection[str], limit: int) -> Page:
        """One statement."""
        about: dict[str, Any] = {"owner": owner, "limit": limit}
        if self.dialect == "sqlite":
            about["skip"] = json.dumps(list(skip))
            about["floors"] = json.dumps({each.part: each.floor for each in wanted})
            about["lowest"] = min(each.floor for each in wanted)
        else:
            about |= {"skip": list(skip), "parts": [each.part for each in wanted]}
            about |= {"floors": [each.floor for each in wanted], "tokens": [each.hold.token for each in wanted]}
            about["scans"] = [each.hold.scan for each in wanted]
        async with self._begin(self._single) as connection:
            found = (await self._run(connection, self._texts.read, about)).all()
        if self.dialect == "sqlite":
            held = {each.part: each.hold for each in wanted}
            found = [row for row in found if held.get(row.part) == (row.token, row.scan)]
        oldest, next_ = (found[0][0], found[0][1]) if found else (0, 0)
        return Page([Row._make(row[2:_END]) for row in found if row[2] is not None], oldest, next_)

    async def done(self, owner: str, rows: Sequence[Row], tokens: Mapping[int, int]) -> int:
        """One DELETE."""
        about: dict[str, Any] = {"owner": owner, "seqs": [row.seq for row in rows]}
        if self.dialect == "sqlite":
            about["seqs"] = json.dumps(about["seqs"])
            about["held"] = json.dumps([f"{part}:{token}" for part, token in tokens.items()])
        else:
            about |= {"parts": [row.part for row in rows], "tokens": [tokens[row.part] for row in rows]}
        return await self._count(self._texts.done, about)

    async def bury(self, owner: str, row: Row, token: int, reason: str, *, holds: bool) -> bool:
        """Copied and deleted in one transaction."""
        about = {"owner": owner, "token": token, "part": row.part, "seq": row.seq}
        async with self._begin() as connection:
            await self._run(connection, texts.BURY, {**about, "reason": reason, "holds": holds})
            return bool((await self._run(connection, texts.REMOVE, about)).rowcount)

    async def dead(self, limit: int, after: int = 0, ids: Collection[str] = ()) -> Sequence[Dead]:
        """One SELECT."""
        about = {"limit": limit, "after": after, "every": not ids, "ids": list(ids) or [""]}
        async with self._begin() as connection:
            found = await connection.execute(_with_list(texts.LIST_DEAD, "ids"), about)
            return [Dead(*row) for row in found.all()]

    async def retry(self, dead: Sequence[Dead]) -> int:
        """In one transaction."""
        return await self._end(dead, texts.RESTORE)

    async def purge(self, dead: Sequence[Dead]) -> int:
        """In one transaction."""
        return await self._end(dead)

    async def _end(self, dead: Sequence[Dead], *before: str) -> int:
        """Relays read those partitions from their beginning again: floors hide what comes back below them."""
        about = {"seqs": [each.seq for each in dead]}
        async with self._begin() as connection:
            for text in (texts.RESCAN, *before):
                await connection.execute(_with_list(text, "seqs"), about)
            return int((await connection.execute(_with_list(texts.DISCARD, "seqs"), about)).rowcount)

    async def notify(self) -> None:
        """On PostgreSQL."""
        if self.dialect == "postgresql":
            async with self._begin() as connection:
                await connection.execute(sa.text(f"NOTIFY {_CHANNEL}"))

    @asynccontextmanager
    async def listening(self, wake: Callable[[], None]) -> AsyncIterator[asyncio.Event]:
        """By a connection of its own, on asyncpg; polling is enough for the others."""
        ended = asyncio.Event()
        if self._engine.dialect.driver != "asyncpg":
            yield ended
            return
        driver = await self._own_connection()
        try:
            driver.add_termination_listener(lambda _: ended.set())
            await driver.add_listener(_CHANNEL, lambda *_: wake())
            yield ended
        finally:
            driver.terminate()

    async def _own_connection(self) -> Any:
        """The driver's, outside of the pool. Whoever is cancelled meanwhile leaves none behind that is half open."""
        opening = asyncio.ensure_future(self._engine.raw_connection())
        try:
            connection = await asyncio.shield(opening)
        except TROUBLE as error:
            raise self._translated(error) from error
        except asyncio.CancelledError:
            opening.add_done_callback(_terminate)
            await asyncio.wait([opening], timeout=_OPENING)
            raise
        return _detached(connection)

    async def status(self) -> Status:
        """One transaction."""
        async with self._begin() as connection:
            waiting, oldest = (await self._run(connection, texts.WAITING, {})).one()
            dead = (await self._run(connection, texts.DEAD, {})).scalar_one()
            relays = {row[0]: row[1] for row in (await self._run(connection, texts.RELAYS, {})).all()}
            unowned = (await self._run(connection, texts.UNOWNED, {})).scalar_one()
        return Status(waiting, oldest, dead, relays, unowned)

    async def close(self) -> None:
        """Every connection."""
        await self._engine.dispose()

    @asynccontextmanager
    async def _begin(self, engine: AsyncEngine | None = None) -> AsyncIterator[AsyncConnection]:
        try:
            async with (engine or self._engine).begin() as connection:
                yield connection
        except TROUBLE as error:
            raise schema_error(error) or self._translated(error) from error

    def _translated(self, error: Exception) -> BusError:
        return unavailable("the outbox", self._engine, error)

    async def _run(self, connection: AsyncConnection, text: str, about: Mapping[str, Any]) -> Any:
        return await connection.execute(sa.text(text.replace("{now}", self._texts.now)), about)

    async def _count(self, text: str, about: Mapping[str, Any]) -> int:
        async with self._begin(self._single) as connection:
            return int((await self._run(connection, text, about)).rowcount)


def _terminate(opening: asyncio.Future[Any]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        _detached(opening.result()).terminate()


def _detached(connection: Any) -> Any:
    """The driver's connection, which never goes back to the pool."""
    driver = connection.driver_connection
    connection.detach()
    return driver


def _with_list(text: str, name: str) -> sa.TextClause:
    return sa.text(text).bindparams(sa.bindparam(name, expanding=True))
