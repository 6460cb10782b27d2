"""`msgbus outbox`, as an operator types it."""

from __future__ import annotations

import asyncio
import compileall
import json
import signal
import sqlite3
from pathlib import Path

import pytest
from tests.cli.process import ROOT, running
from tests.outbox.databases import Database, empty_sqlite, with_tables
from typer.testing import CliRunner

from msgbus.cli.app import app
from msgbus.cli.health import ask

SERVICE = """
from msgbus import Bus, Queue
from tests.cli import spool

spool.register()

words = Queue("words", str)
bus = Bus()
bus.publishes(words)
"""


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Database:
    """With tables, and named by the environment as any other program names it."""
    database = asyncio.run(with_tables(empty_sqlite(tmp_path)))
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{database.plain}")
    return database


def fill(database: Database, *ids: str, dead: bool = False) -> None:
    """Messages that wait, or are dead and hold their key."""
    table, more = ("msgbus_outbox_dead", ", seq, reason, holds, died") if dead else ("msgbus_outbox", "")
    connection = sqlite3.connect(database.plain)
    with connection:
        for n, id_ in enumerate(ids, 1):
            values = f"0, '{id_}', 'queue', 'words', 'k', '{{}}', CAST('hi' AS blob), 1"
            values += f", {n}, 'too odd', 1, 1700000000" if dead else ""
            connection.execute(
                f"INSERT INTO {table} (part, id, kind, name, key, headers, body, created{more}) VALUES ({values})"  # noqa: S608
            )
    connection.close()


def outbox(*arguments: str) -> tuple[int, str]:
    """The exit code and what was printed."""
    result = CliRunner().invoke(app, ["outbox", *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout if "--json" in arguments else result.output


def test_status_says_that_nobody_relays(database: Database) -> None:
    fill(database, "a", "b")
    code, text = outbox("status", "--json")
    assert code == 1
    said = json.loads(text)
    assert (said["waiting"], said["dead"], said["relays"], said["unowned"]) == (2, 0, {}, 64)
    code, text = outbox("status")
    assert "nobody" in text
    assert "no relay runs" in text


def test_dead_ones_are_listed_retried_and_purged(database: Database) -> None:
    fill(database, "a", "b", "c", dead=True)
    code, text = outbox("dead")
    assert (code, "too odd" in text, "2023-11-14T22:13:20+00:00" in text) == (0, True, True)
    assert [each["id"] for each in json.loads(outbox("dead", "--json", "--limit", "2")[1])] == ["a", "b"]
    assert "1 messages wait" in outbox("retry", "b")[1]
    assert "1 messages thrown away" in outbox("purge", "a", "--yes")[1]
    assert "1 messages wait" in outbox("retry", "--all")[1]
    assert json.loads(outbox("dead", "--json")[1]) == []
    for wrong in (("retry",), ("retry", "a", "--all"), ("purge", "--yes")):
        assert outbox(*wrong)[0] == 2


@pytest.mark.parametrize("dialect", ["postgresql", "sqlite"])
def test_the_schema_is_printed_for_a_migration_too(dialect: str, tmp_path: Path) -> None:
    text = outbox("schema", "--dialect", dialect)[1]
    if dialect == "sqlite":
        sqlite3.connect(":memory:").executescript(text).connection.close()
    migration = tmp_path / "migration.py"
    migration.write_text(outbox("schema", "--dialect", dialect, "--alembic")[1])
    assert compileall.compile_file(migration, quiet=1)
    assert migration.read_text().count("op.execute(") == text.count(";\n") + 5
    assert outbox("schema", "--dialect", "oracle")[0] == 2


def test_tables_that_are_missing_are_said(tmp_path: Path) -> None:
    code, text = outbox("status", "--database", f"sqlite:///{tmp_path}/none.db")
    assert (code, "tables of the outbox are missing" in " ".join(text.split())) == (2, True)


async def test_a_relay_sends_until_it_is_stopped(database: Database, tmp_path: Path) -> None:
    fill(database, "a", "b")
    (tmp_path / "relayed.py").write_text(SERVICE)
    place = tmp_path / "spool" / "queue+words"
    place.mkdir(parents=True)
    environment = {"PYTHONPATH": f"{ROOT}:{ROOT}/src", "MSGBUS_URL": f"spool://{tmp_path}/spool"}
    async with running("outbox", "relay", "relayed", cwd=tmp_path, environment=environment) as relay:
        await relay.until("outbox: relaying")
        connection = sqlite3.connect(database.plain)
        async with asyncio.timeout(60):
            while connection.execute("SELECT count(*) FROM msgbus_outbox").fetchone() != (0,):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        _, said = await asyncio.to_thread(outbox, "status", "--json")
        assert json.loads(said)["unowned"] == 0
        connection.close()
        relay.process.send_signal(signal.SIGTERM)
        assert await relay.process.wait() == 0
    assert len(list(place.iterdir())) == 2


async def test_the_health_of_a_relay_tells_what_it_can_t_send(database: Database, tmp_path: Path) -> None:
    fill(database, "a")
    connection = sqlite3.connect(database.plain)
    with connection:
        connection.execute("UPDATE msgbus_outbox SET name = 'elsewhere'")
    (tmp_path / "sick_relayed.py").write_text(SERVICE)
    (tmp_path / "spool" / "queue+words").mkdir(parents=True)
    environment = {"PYTHONPATH": f"{ROOT}:{ROOT}/src", "MSGBUS_URL": f"spool://{tmp_path}/spool"}
    door = tmp_path / "health"
    relay_of = ("outbox", "relay", "sick_relayed", "--health", f"unix:{door}")
    async with running(*relay_of, cwd=tmp_path, environment=environment) as relay:
        await relay.until("outbox: queue/elsewhere waits")
        health = await ask(str(door))
        async with asyncio.timeout(60):
            while health.ready:
                health = await ask(str(door))
        assert (health.live, "queue/elsewhere is not declared here" in " ".join(health.problems)) == (True, True)
        with connection:
            connection.execute("DELETE FROM msgbus_outbox")
        async with asyncio.timeout(60):
            while not health.ready:
                health = await ask(str(door))
        relay.process.send_signal(signal.SIGTERM)
        assert await relay.process.wait() == 0
    connection.close()


def test_a_relay_into_its_own_process_is_refused(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "private_relayed.py").write_text(SERVICE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("MSGBUS_URL", "memory://")
    code, text = outbox("relay", "private_relayed")
    assert (code, "lives inside the process" in " ".join(text.split())) == (2, True)
    (tmp_path / "idle_relayed.py").write_text("from msgbus import Bus\nbus = Bus()")
    code, text = outbox("relay", "idle_relayed")
    assert (code, "declares nothing that could be relayed" in " ".join(text.split())) == (2, True)
