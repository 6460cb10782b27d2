"""The fixtures of the outbox's tests."""

from pathlib import Path

import pytest
from tests.outbox.databases import Database, empty_postgres, empty_sqlite, with_tables


@pytest.fixture(params=["postgresql", "sqlite"])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> Database:
    """With the tables, for each dialect."""
    return await with_tables(await empty_postgres() if request.param == "postgresql" else empty_sqlite(tmp_path))


@pytest.fixture
async def on_postgres() -> Database:
    """With the tables."""
    return await with_tables(await empty_postgres())


@pytest.fixture
async def on_sqlite(tmp_path: Path) -> Database:
    """With the tables."""
    return await with_tables(empty_sqlite(tmp_path))
