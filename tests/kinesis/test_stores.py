"""Every lease store keeps rows whole, and lets one of two writers win."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from tests.servers import Handle
from tests.servers.fixtures import shared

from msgbus.brokers.aws import AwsClient, AwsSettings
from msgbus.brokers.databases import open_engine
from msgbus.brokers.kinesis.hashing import HIGHEST
from msgbus.brokers.kinesis.rows import AT_TIMESTAMP, Row
from msgbus.brokers.kinesis.stores import LeaseStore
from msgbus.brokers.kinesis.stores.dynamodb import DynamoStore, row_of_item
from msgbus.brokers.kinesis.stores.memory import MemoryStore
from msgbus.brokers.kinesis.stores.sql import TABLE, SqlStore
from msgbus.clock import SystemClock
from msgbus.errors import Refused, Unavailable

_names = itertools.count()

FULL = Row(
    shard="shardId-000000000001",
    owner="me",
    giver="you",
    counter=3,
    checkpoint="49590338271490256608559692538361571095921575989136588898",
    sub=7,
    at=1700000000.123,
    parents=("shardId-000000000000",),
    children=("shardId-000000000002", "shardId-000000000003"),
    first=5,
    last=HIGHEST,
    switches=2,
    progress='{"last":["9",0],"open":[]}',
    crashes=1,
    suspects=99,
)
PLAIN = Row(shard="s")


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")


@pytest.fixture(params=["memory", "sqlite", "postgres", "dynamodb"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[LeaseStore]:
    name = f"orders--billing-{next(_names)}-{tmp_path.name}"[:100]
    if request.param == "memory":
        yield MemoryStore("here", name)
    elif request.param == "dynamodb":
        handle: Handle = shared("ministack")
        async with AwsClient(AwsSettings(endpoint=handle.url, region="us-east-1")) as client:
            yield DynamoStore(client, name, SystemClock())
    else:
        url = f"sqlite+aiosqlite:///{tmp_path}/leases.db"
        if request.param == "postgres":
            url = shared("postgres").url.replace("postgresql://", "postgresql+asyncpg://")
        engine = open_engine(url)
        yield SqlStore(engine, name)
        await engine.dispose()


@pytest.fixture
async def made(store: LeaseStore) -> LeaseStore:
    await store.ensure("create")
    return store


async def test_it_is_made_once(store: LeaseStore) -> None:
    assert not await store.ensure("verify")
    await store.ensure("create")
    assert await store.is_there()
    assert not await store.ensure("create")
    assert list(await store.rows()) == []


async def test_rows_come_back_whole(made: LeaseStore) -> None:
    assert await made.add(FULL)
    assert await made.add(PLAIN)
    assert {row.shard: row for row in await made.rows()} == {FULL.shard: FULL, "s": PLAIN}
    assert await made.read(FULL.shard) == FULL
    assert await made.read("other") is None


async def test_a_row_is_added_once(made: LeaseStore) -> None:
    assert await made.add(PLAIN)
    assert not await made.add(PLAIN.taken("me"))
    assert await made.read("s") == PLAIN


async def test_a_swap_writes_everything_and_takes_away_what_is_gone(made: LeaseStore) -> None:
    await made.add(FULL)
    emptied = Row(shard=FULL.shard, counter=4, checkpoint=AT_TIMESTAMP, at=5.5)
    assert await made.swap(FULL, emptied)
    assert await made.read(FULL.shard) == emptied
    assert await made.swap(emptied, FULL)
    assert await made.read(FULL.shard) == FULL


async def test_a_swap_of_what_changed_changes_nothing(made: LeaseStore) -> None:
    await made.add(PLAIN)
    taken = PLAIN.taken("me")
    assert await made.swap(PLAIN, taken)
    for stale in (PLAIN, Row(shard="s", counter=1), Row(shard="s", counter=1, owner="me", giver="x")):
        assert not await made.swap(stale, stale.taken("you"))
        assert not await made.remove(stale)
    assert await made.read("s") == taken
    assert not await made.swap(Row(shard="missing"), Row(shard="missing").taken("me"))


async def test_one_of_many_wins(made: LeaseStore) -> None:
    await made.add(PLAIN)
    won = await asyncio.gather(*(made.swap(PLAIN, PLAIN.taken(f"w{place}")) for place in range(8)))
    assert sum(won) == 1
    row = await made.read("s")
    assert row is not None
    assert row.owner == f"w{won.index(True)}"


async def test_it_can_be_removed(made: LeaseStore) -> None:
    await made.add(FULL)
    assert await made.remove(FULL)
    assert not await made.remove(FULL)
    assert list(await made.rows()) == []


async def test_dynamodb_keeps_what_others_wrote_and_reads_their_leases(ministack: Handle) -> None:
    """A table that the Kinesis Client Library made, with attributes that are not ours and without some that are."""
    async with AwsClient(AwsSettings(endpoint=ministack.url, region="us-east-1")) as client:
        store = DynamoStore(client, f"kcl-{next(_names)}-{id(client)}", SystemClock())
        await store.ensure("create")
        item: dict[str, Any] = {
            "leaseKey": {"S": "shardId-000000000000"},
            "leaseCounter": {"N": "41"},
            "checkpoint": {"S": "LATEST"},
            "checkpointSubSequenceNumber": {"N": "0"},
            "leaseOwner": {"S": "java"},
            "throughputKBps": {"N": "17.5"},
        }
        metrics = {**item, "leaseKey": {"S": "worker-1"}, "entityType": {"S": "WORKER_METRIC_STATS"}}
        for each in (item, metrics):
            await client.call("dynamodb", "PutItem", {"TableName": store.name, "Item": each})
        (row,) = await store.rows()
        assert (row.owner, row.counter, row.checkpoint, row.last) == ("java", 41, "LATEST", HIGHEST)
        assert await store.swap(row, row.taken("me"))
        key = {"leaseKey": item["leaseKey"]}
        found = (await client.call("dynamodb", "GetItem", {"TableName": store.name, "Key": key}))["Item"]
        assert (found["throughputKBps"], found["entityType"]) == ({"N": "17.5"}, {"S": "LEASE"})
        assert row_of_item(found).owner == "me"


class _Says:
    """In the place of a client: the table has this lease."""

    def __init__(self, item: dict[str, dict[str, Any]]) -> None:
        self._item = item

    async def call(self, service: str, operation: str, params: dict[str, Any]) -> dict[str, Any]:
        return {"Items": [self._item], "Item": self._item}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("leaseCounter", {"N": "x"}), ("leaseCounter", {}), ("checkpoint", {"S": "somewhere"}), ("other", {})),
        *(("parentShardId", {"BOOL": True}), ("msgbusAt", {"S": ""}), ("msgbusCrashes", {"N": "1" * 5000})),
    ],
)
async def test_a_damaged_lease_is_refused_by_its_name(name: str, value: dict[str, Any]) -> None:
    item = {"leaseKey": {"S": "shardId-7"}, "leaseCounter": {"N": "1"}, name: value}
    store = DynamoStore(_Says(item), "orders", SystemClock())  # type: ignore[arg-type]
    for reading in (store.rows, lambda: store.read("shardId-7")):
        with pytest.raises(Refused, match=r"table orders: the lease .*shardId-7.* is damaged"):
            await reading()


@pytest.mark.parametrize("state", ["", "[]", "{}", "[" * 100_000, '{"parents":5}'])
async def test_a_damaged_lease_in_a_database_is_refused_by_its_name(state: str, tmp_path: Path) -> None:
    engine = open_engine(f"sqlite+aiosqlite:///{tmp_path}/leases.db")
    store = SqlStore(engine, "orders")
    await store.ensure("create")
    await store.add(PLAIN)
    async with engine.begin() as connection:
        await connection.execute(sa.update(TABLE).values(state=state))
    for reading in (store.rows, lambda: store.read(PLAIN.shard)):
        with pytest.raises(Refused, match="leases of orders: the lease 's' is damaged"):
            await reading()
    await engine.dispose()


async def test_a_missing_table_is_refused(ministack: Handle) -> None:
    async with AwsClient(AwsSettings(endpoint=ministack.url, region="us-east-1")) as client:
        with pytest.raises(Refused, match="nobody-made-this"):
            await DynamoStore(client, "nobody-made-this", SystemClock()).rows()


async def test_a_database_that_is_down_is_unavailable() -> None:
    engine = open_engine("postgresql+asyncpg://me:secret@127.0.0.1:1/db")
    with pytest.raises(Unavailable) as caught:
        await SqlStore(engine, "x").rows()
    assert "secret" not in str(caught.value)
    await engine.dispose()


def test_a_bad_url_is_refused() -> None:
    with pytest.raises(Refused):
        open_engine("nonsense+nothing://x")
