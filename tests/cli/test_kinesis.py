"""`msgbus kinesis lag` and `reset`, as an operator types them."""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from tests import awsenv
from tests.servers import Handle
from tests.servers.fixtures import ministack, server_pool
from typer.testing import CliRunner

from msgbus import ConfigError
from msgbus.cli.app import app
from msgbus.cli.kinesis import start_of
from msgbus.message import Start

__all__ = ["ministack", "server_pool"]

SERVICE = """
import asyncio
from msgbus import Bus, Topic
from pydantic import BaseModel

class Order(BaseModel):
    n: int

orders = Topic("cli-orders", Order, key=lambda order: str(order.n))
bus = Bus()
handled = []

@bus.subscriber(orders, group="billing")
async def bill(order: Order) -> None:
    handled.append(order.n)

async def consume(count):
    handled.clear()
    async with bus.consuming():
        if count < 0:
            await bus.publish_many(orders, [Order(n=n) for n in range(-count)])
        async with asyncio.timeout(60):
            while len(handled) < abs(count):
                await asyncio.sleep(0.02)
    return sorted(handled)
"""


@pytest.fixture
def service(ministack: Handle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module `kinesis_shop`, its topic's name apart by a prefix."""
    awsenv.use(monkeypatch, tmp_path)
    (tmp_path / "kinesis_shop.py").write_text(SERVICE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    sys.modules.pop("kinesis_shop", None)
    options = "shards=2&lease=2&poll=0.02&reads=50&rate=0"
    monkeypatch.setenv("MSGBUS_URL", f"kinesis://us-east-1?{options}&endpoint={quote(ministack.url, safe='')}")
    monkeypatch.setenv("MSGBUS_PROVISION", "create")
    monkeypatch.setenv("MSGBUS_PREFIX", f"p{abs(hash(tmp_path)) % 10**9}-")
    return importlib.import_module("kinesis_shop")


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["kinesis", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_lag_and_reset(service: Any) -> None:
    assert asyncio.run(service.consume(-10)) == list(range(10))
    shards = json.loads(run("lag", "kinesis_shop:bus", "cli-orders/billing", "--json"))
    assert [(each["shard"], each["owner"], each["waiting"]) for each in shards] == [
        ("shardId-000000000000", "", 0),
        ("shardId-000000000001", "", 0),
    ]
    assert "begins from oldest" in run("reset", "kinesis_shop:bus", "cli-orders/billing", "--to", "oldest", "--yes")
    shards = json.loads(run("lag", "kinesis_shop:bus", "cli-orders/billing", "--json"))
    assert sum(each["waiting"] for each in shards) == 10
    assert "shardId-000000000001" in run("lag", "kinesis_shop:bus", "cli-orders/billing")
    assert asyncio.run(service.consume(10)) == list(range(10))


@pytest.mark.parametrize("group", ["cli-orders", "/billing", "cli-orders/"])
def test_a_group_is_a_topic_and_a_name(service: Any, group: str) -> None:
    result = CliRunner().invoke(app, ["kinesis", "lag", "kinesis_shop:bus", group])
    assert result.exit_code == 2
    assert "TOPIC/GROUP" in result.output


def test_a_group_that_never_read_is_no_empty_table(service: Any) -> None:
    result = CliRunner().invoke(app, ["kinesis", "lag", "kinesis_shop:bus", "cli-orders/nobody"])
    assert result.exit_code == 2
    assert "cli-orders/nobody: no such group has ever read that topic here" in result.output.replace("\n", " ")


def test_another_broker_is_refused(service: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MSGBUS_URL", "memory://")
    sys.modules.pop("kinesis_shop")
    result = CliRunner().invoke(app, ["kinesis", "lag", "kinesis_shop:bus", "cli-orders/billing"])
    assert result.exit_code == 2


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("oldest", Start("oldest")),
        ("latest", Start("latest")),
        ("1970-01-01T00:01:00Z", Start("time", 60.0)),
        ("1970-01-01T01:01:00+01:00", Start("time", 60.0)),
        ("1970-01-01 00:01:00", Start("time", 60.0)),
        ("shardId-000000000000:77", Start("position", "shardId-000000000000:77")),
    ],
)
def test_where_to(text: str, start: Start) -> None:
    assert start_of(text) == start


def test_anything_else_is_refused() -> None:
    with pytest.raises(ConfigError, match="oldest"):
        start_of("yesterday")
