"""SQLAlchemy engines, for what keeps its state in a database. Needs the extra `sql` and a driver."""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from msgbus.brokers.hiding import scrub, shown
from msgbus.errors import ConfigError, Refused, Unavailable


def _of_drivers() -> tuple[type[Exception], ...]:
    """Of asyncpg: SQLAlchemy wraps none that it raises while connecting, and its InternalClientError nowhere."""
    with suppress(ImportError):
        asyncpg = import_module("asyncpg")  # by name, as SQLAlchemy finds the driver that a URL names
        return (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
    return ()


TROUBLE: tuple[type[Exception], ...] = (SQLAlchemyError, OSError, *_of_drivers())
"""What a database's answer, or none, is raised as. A connection that is cut in mid-call may be any of them."""


def open_engine(url: str, what: str = "leases") -> AsyncEngine:
    """An engine for an SQLAlchemy URL with an asynchronous driver. Raises Refused; ConfigError without the driver.

    `what`: the option that has the URL.
    """
    try:
        return create_async_engine(url, pool_pre_ping=True)
    except ModuleNotFoundError as error:
        driver = error.name
        raise ConfigError(f"{what}={shown(url)}: {driver} is missing, install it with: pip install {driver}") from error
    except SQLAlchemyError as error:
        raise Refused(f"{what}={shown(url)}: {scrub(str(error))}") from error


def unavailable(what: str, engine: AsyncEngine, error: Exception) -> Unavailable:
    """The error of `what` for what the database answered, without the password."""
    return Unavailable(f"{what} in {engine.url.render_as_string(hide_password=True)}: {error}")
