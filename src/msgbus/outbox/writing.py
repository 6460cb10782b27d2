"""Rows into the caller's own transaction, by the driver that its connection is of.

SQLAlchemy tells of a commit beforehand, so rows are gathered until then (unit.py). asyncpg, psycopg and sqlite3 don't:
there one statement goes out at once, with all rows of the call.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from msgbus.errors import BusError, ConfigError
from msgbus.outbox.rows import COLUMNS, Row
from msgbus.outbox.schema import schema_error

_NO_TRANSACTION = "outbox: publish inside a transaction: there is none on this connection"
_TYPES = ("smallint", "text", "text", "text", "text", "text", "bytea", "text", "float8", "float8")
_NAMES = ", ".join(COLUMNS)


def _insert_arrays(places: Sequence[str]) -> str:
    """An array per column; `seq` is drawn in the order of the rows."""
    arrays = ", ".join(f"{place}::{type_}[]" for place, type_ in zip(places, _TYPES, strict=True))
    return (
        f"INSERT INTO msgbus_outbox ({_NAMES}) SELECT {_NAMES} FROM unnest({arrays})"  # noqa: S608 - names of ours
        f" WITH ORDINALITY AS r({_NAMES}, place) ORDER BY place"
    )


_ASYNCPG = _insert_arrays([f"${place}" for place in range(1, len(COLUMNS) + 1)])
_PSYCOPG = _insert_arrays(["%s"] * len(COLUMNS))
_SQLITE = f"INSERT INTO msgbus_outbox ({_NAMES}) VALUES ({', '.join('?' * len(COLUMNS))})"  # noqa: S608


async def write(where: Any, rows: Sequence[Row]) -> None:
    """Insert rows through a session or connection, or gather them there. Raises BusError, ConfigError.

    What the driver raises beside that is raised as it is: it is the caller's connection.
    """
    for base in type(where).__mro__:
        writer = _WRITERS.get(base.__module__.partition(".")[0])
        if writer is not None:
            break
    else:
        raise ConfigError(
            f"outbox: got a {type(where).__name__}: give a session or connection of SQLAlchemy, or a connection of"
            " asyncpg, psycopg, sqlite3 or aiosqlite"
        )
    try:
        await writer(where, rows)
    except BusError:
        raise
    except Exception as error:
        raise schema_error(error) or error from error


async def _sqlalchemy(where: Any, rows: Sequence[Row]) -> None:
    from msgbus.outbox.unit import gather  # noqa: PLC0415 - needs an extra

    await gather(where, rows)


async def _asyncpg(where: Any, rows: Sequence[Row]) -> None:
    if not where.is_in_transaction():
        raise BusError(_NO_TRANSACTION)
    await where.execute(_ASYNCPG, *_by_column(rows))


async def _psycopg(where: Any, rows: Sequence[Row]) -> None:
    if where.autocommit and where.info.transaction_status.name == "IDLE":
        raise BusError(_NO_TRANSACTION)
    done = where.execute(_PSYCOPG, _by_column(rows))
    if inspect.isawaitable(done):
        await done


async def _sqlite(where: Any, rows: Sequence[Row]) -> None:
    """Both of sqlite3 and aiosqlite: an INSERT begins a transaction, except where there is none by choice."""
    commits_itself = where.isolation_level is None or getattr(where, "autocommit", None) is True
    if commits_itself and not where.in_transaction:
        raise BusError(_NO_TRANSACTION)
    done = where.executemany(_SQLITE, [tuple(row.values.values()) for row in rows])
    if inspect.isawaitable(done):
        await done


def _by_column(rows: Sequence[Row]) -> list[list[Any]]:
    return [[getattr(row, name) for row in rows] for name in COLUMNS]


_WRITERS: dict[str, Callable[[Any, Sequence[Row]], Awaitable[None]]] = {
    "sqlalchemy": _sqlalchemy,
    "asyncpg": _asyncpg,
    "psycopg": _psycopg,
    "sqlite3": _sqlite,
    "aiosqlite": _sqlite,
}
