"""Every store lets one relay have a partition, and believes no other."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest
from tests.outbox.databases import Database, empty_postgres, empty_sqlite, run

from msgbus.errors import ConfigError, Refused, Unavailable
from msgbus.outbox.rows import PARTS, Row
from msgbus.outbox.sql import SqlStore
from msgbus.outbox.store import Store, Wanted


@pytest.fixture
async def store(database: Database) -> AsyncIterator[SqlStore]:
    """With tables."""
    store = SqlStore(database.url)
    yield store
    await store.close()


async def fill(database: Database, *rows: tuple[int, str, str | None]) -> None:
    """Rows of a partition, an id and a key."""
    for part, id_, key in rows:
        shown = "NULL" if key is None else f"'{key}'"
        values = f"({part}, '{id_}', 'topic', 'orders', {shown}, '{{}}', '', 1)"
        columns = "part, id, kind, name, key, headers, body, created"
        await run(database, f"INSERT INTO msgbus_outbox ({columns}) VALUES {values}")  # noqa: S608


async def all_of(store: Store, owner: str) -> list[Wanted]:
    """Every partition that it holds, from the start."""
    share = await store.share(owner, 60)
    return [Wanted(part, 0, hold) for part, hold in sorted(share.parts.items())]


async def ids(
    store: Store, owner: str, wanted: list[Wanted], limit: int = 100, skip: tuple[str, ...] = ()
) -> list[str]:
    """What a read finds."""
    return [row.id for row in (await store.read(owner, wanted, skip, limit)).rows]


async def test_a_partition_has_one_owner(store: SqlStore) -> None:
    await store.check()
    assert (await store.share("a", 60)).parts == {}
    assert await store.take("a", 60, 40) == 40
    share = await store.share("b", 60)
    assert (share.parts, share.relays) == ({}, 2)
    assert await store.take("b", 60, 40) == PARTS - 40
    held = (await store.share("a", 60)).parts
    assert not set(held) & set((await store.share("b", 60)).parts)
    assert await store.take("c", 60, 5) == 0
    await store.release("a", [min(held), max(held)])
    assert await store.take("c", 60, 5) == 2
    await store.leave("b")
    assert await store.take("c", 60, PARTS) == PARTS - 40


async def test_a_lease_that_ended_is_taken_with_a_new_token(store: SqlStore) -> None:
    await store.take("a", -1, PARTS)
    old = await all_of(store, "a")
    await store.share("a", -1)
    assert await store.take("b", 60, PARTS) == PARTS
    assert (await store.share("a", 60)).parts == {}
    new = await all_of(store, "b")
    assert all(after.hold.token > before.hold.token for before, after in zip(old, new, strict=True))


async def test_rows_come_in_order_and_go_by_their_token(database: Database, store: SqlStore) -> None:
    await fill(database, (0, "a", "k"), (5, "b", None), (0, "c", "k"), (0, "d", None))
    await store.take("me", 60, PARTS)
    wanted = await all_of(store, "me")
    page = await store.read("me", wanted, (), 100)
    assert [row.id for row in page.rows if row.part == 0] == ["a", "c", "d"]
    assert sorted(row.id for row in page.rows) == ["a", "b", "c", "d"]
    assert len(await ids(store, "me", wanted, limit=2)) == 2
    assert await ids(store, "me", wanted, skip=("topic/orders",)) == []
    assert await ids(store, "other", wanted) == []
    tokens = {each.part: each.hold.token for each in wanted}
    assert await store.done("other", page.rows, tokens) == 0
    assert await store.done("me", page.rows, {part: token - 1 for part, token in tokens.items()}) == 0
    gone = [row for row in page.rows if row.id in "ab"]
    assert await store.done("me", gone, tokens) == 2
    assert await ids(store, "me", wanted) == ["c", "d"]


async def test_a_zombie_reads_and_deletes_nothing(database: Database, store: SqlStore) -> None:
    await fill(database, (0, "a", "k"))
    await store.take("old", -1, PARTS)
    wanted = await all_of(store, "old")
    page = await store.read("old", wanted, (), 10)
    await store.share("old", -1)
    await store.take("new", 60, PARTS)
    tokens = {each.part: each.hold.token for each in wanted}
    assert await ids(store, "old", wanted) == []
    assert await store.done("old", page.rows, tokens) == 0
    assert not await store.bury("old", page.rows[0], tokens[0], "no", holds=False)
    assert await ids(store, "new", await all_of(store, "new")) == ["a"]
    assert (await store.status()).dead == 0


@pytest.mark.parametrize("holds", [False, True])
async def test_a_dead_row_holds_its_key_or_not(holds: bool, database: Database, store: SqlStore) -> None:
    await fill(database, (3, "a", "k"), (3, "b", "k"), (3, "c", "other"), (3, "d", None))
    await store.take("me", 60, PARTS)
    wanted = await all_of(store, "me")
    first: Row = (await store.read("me", wanted, (), 1)).rows[0]
    token = next(each.hold.token for each in wanted if each.part == 3)
    assert await store.bury("me", first, token, "too odd", holds=holds)
    assert not await store.bury("me", first, token, "again", holds=holds)
    assert await ids(store, "me", wanted) == (["c", "d"] if holds else ["b", "c", "d"])
    assert await run(database, "SELECT id, reason FROM msgbus_outbox_dead") == [("a", "too odd")]


@pytest.mark.parametrize("way", ["retry", "purge"])
async def test_a_dead_row_comes_back_to_its_place_or_goes(way: str, database: Database, store: SqlStore) -> None:
    """Its partition is read from the beginning again by who knows of it; what waited for it goes on."""
    await fill(database, (3, "a", "k"), (3, "b", "k"), (3, "c", "other"))
    await store.take("me", 60, PARTS)
    wanted = await all_of(store, "me")
    for row in (await store.read("me", wanted, (), 10)).rows[::2]:
        assert await store.bury("me", row, wanted[3].hold.token, "why", holds=True)
    assert await ids(store, "me", wanted) == []
    dead = await store.dead(10)
    assert [(each.id, each.place, each.key, each.holds) for each in dead] == [
        ("a", "topic/orders", "k", True),
        ("c", "topic/orders", "other", True),
    ]
    assert [each.id for each in await store.dead(1, after=dead[0].seq)] == ["c"]
    (only,) = await store.dead(10, ids=["a", "nobody"])
    act = store.retry if way == "retry" else store.purge
    assert await act([only]) == 1
    assert await act([only]) == 0
    assert await ids(store, "me", wanted) == []  # a floor might hide it
    assert await ids(store, "me", await all_of(store, "me")) == (["a", "b"] if way == "retry" else ["b"])
    assert [each.id for each in await store.dead(10)] == ["c"]


async def test_status_tells_what_waits(database: Database, store: SqlStore) -> None:
    status = await store.status()
    assert (status.waiting, status.oldest, status.dead, status.relays, status.unowned) == (0, None, 0, {}, PARTS)
    await fill(database, (0, "a", None), (1, "b", None))
    await store.share("me", 60)
    await store.take("me", 60, 10)
    status = await store.status()
    assert (status.waiting, status.relays, status.unowned) == (2, {"me": 10}, PARTS - 10)
    assert status.oldest is not None
    assert status.oldest > 1_700_000_000


async def test_tables_that_are_missing_or_of_another_version(tmp_path: Path) -> None:
    for database in (await empty_postgres(), empty_sqlite(tmp_path)):
        store = SqlStore(database.url)
        with pytest.raises(ConfigError, match="missing or of another version"):
            await store.check()
        await store.create()
        await store.check()
        await run(database, "UPDATE msgbus_outbox_version SET version = 7")
        with pytest.raises(ConfigError, match=r"of version \[7\], this msgbus has version 1"):
            await store.check()
        await store.close()


async def test_a_database_that_is_down_is_unavailable() -> None:
    store = SqlStore("postgresql+asyncpg://me:secret@127.0.0.1:1/db")
    with pytest.raises(Unavailable) as caught:
        await store.check()
    assert "secret" not in str(caught.value)
    await store.close()


def test_a_url_of_anything_else_is_refused() -> None:
    with pytest.raises(Refused, match="outbox="):
        SqlStore("nonsense+nothing://x")
    with pytest.raises(ConfigError, match="asyncmy is missing"):
        SqlStore("mysql+asyncmy://me@h/d")


@pytest.mark.parametrize("error", [asyncpg.InternalClientError("cannot switch to state 15"), ConnectionResetError()])
async def test_a_connection_that_is_cut_in_mid_call_is_unavailable(on_postgres: Database, error: Exception) -> None:
    """Whatever the driver says of it. (The rig in tests/chaos cuts real ones; which error comes is chance.)"""
    store = SqlStore(on_postgres.url)

    class Cut:
        url = store._engine.url

        @asynccontextmanager
        async def begin(self) -> AsyncIterator[None]:
            raise error
            yield

    store._engine, engine = Cut(), store._engine  # type: ignore[assignment]
    with pytest.raises(Unavailable, match="the outbox in postgresql") as raised:
        await store.share("a", 60)
    assert raised.value.__cause__ is error
    await engine.dispose()
