"""SQLAlchemy: what a transaction publishes is gathered on its connection, and inserted just before the commit."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession
from sqlalchemy.orm import Session
from sqlalchemy.sql.elements import SavepointClause

from msgbus.errors import BusError, ConfigError
from msgbus.outbox.rows import COLUMNS, Row
from msgbus.outbox.schema import schema_error

_INSERT = sa.text(
    f"INSERT INTO msgbus_outbox ({', '.join(COLUMNS)}) VALUES ({', '.join(f':{name}' for name in COLUMNS)})"  # noqa: S608 - names of ours
)
_units: weakref.WeakKeyDictionary[sa.Connection, Unit] = weakref.WeakKeyDictionary()


class Unit:
    """The rows of one connection's transaction. A savepoint that is rolled back takes its rows with it."""

    def __init__(self) -> None:
        self._rows: list[Row] = []
        self._savepoints: dict[str, int] = {}

    def listen(self, connection: sa.Connection) -> None:
        """Hear what becomes of its transactions, for as long as it lives."""
        event.listen(connection, "commit", self._commit)
        event.listen(connection, "prepare_twophase", self._prepare)
        event.listen(connection, "rollback", self._rollback)
        event.listen(connection, "before_execute", self._execute)
        event.listen(connection, "rollback_savepoint", self._rollback_savepoint)

    def add(self, rows: Sequence[Row]) -> None:
        """More of the same transaction."""
        self._rows += rows

    def _commit(self, connection: sa.Connection) -> None:
        rows, self._rows = self._rows, []
        self._savepoints.clear()
        if not rows:
            return
        try:
            connection.execute(_INSERT, [row.values for row in rows])
        except SQLAlchemyError as error:
            raise schema_error(error) or error from error

    def _prepare(self, connection: sa.Connection, xid: object) -> None:
        self._commit(connection)

    def _rollback(self, connection: sa.Connection) -> None:
        self._rows.clear()
        self._savepoints.clear()

    def _execute(self, connection: sa.Connection, clause: object, *about: object) -> None:
        """The event of a savepoint comes before it has a name; its statement tells."""
        if isinstance(clause, SavepointClause):
            self._savepoints[clause.ident] = len(self._rows)

    def _rollback_savepoint(self, connection: sa.Connection, name: str, context: object) -> None:
        """One that is older than the first message is unknown, and takes all of them."""
        del self._rows[self._savepoints.get(name, 0) :]


async def gather(where: Any, rows: Sequence[Row]) -> None:
    """Keep rows until the commit of a session or connection, synchronous or not. Raises BusError."""
    connection = await _connection(where)
    if connection.get_execution_options().get("isolation_level") == "AUTOCOMMIT":
        raise BusError("outbox: the connection is in AUTOCOMMIT, where there is no transaction to publish in")
    unit = _units.get(connection)
    if unit is None:
        unit = _units[connection] = Unit()
        unit.listen(connection)
    unit.add(rows)


async def _connection(where: Any) -> sa.Connection:
    if isinstance(where, AsyncSession):
        where = await where.connection()
    if isinstance(where, AsyncConnection):
        if where.sync_connection is None or where.closed:
            raise BusError("outbox: the connection is closed, or was never opened")
        return _begun(where.sync_connection)
    if isinstance(where, Session):
        return _begun(where.connection())
    if isinstance(where, sa.Connection):
        if where.closed:
            raise BusError("outbox: the connection is closed")
        return _begun(where)
    raise ConfigError(f"outbox: got a {type(where).__name__} of SQLAlchemy: give a session or a connection")


def _begun(connection: sa.Connection) -> sa.Connection:
    """A transaction of which nothing was executed yet is one all the same: else its commit would be none."""
    if not connection.in_transaction():
        connection.begin()
    return connection
