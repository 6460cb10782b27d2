"""`msgbus topology` on real servers: what is declared, and what is refused, whether it is handled or published."""

from __future__ import annotations

import asyncio
import json
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests import awsenv
from tests.cli import shop
from tests.cli.process import ROOT
from tests.servers import Handle
from tests.servers.fixtures import ministack, server_pool
from typer.testing import CliRunner, Result

from msgbus import Bus
from msgbus.brokers.aws import AwsClient, AwsSettings
from msgbus.cli.app import app
from msgbus.errors import ConfigError, Refused

__all__ = ["ministack", "server_pool"]

Invoke = Callable[..., Result]


@pytest.fixture
def prefix(monkeypatch: pytest.MonkeyPatch) -> str:
    """Of the names of this test alone."""
    prefix = f"t{uuid.uuid4().hex[:8]}-"
    monkeypatch.setenv("MSGBUS_PREFIX", prefix)
    return prefix


@pytest.fixture
def invoke(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, prefix: str) -> Invoke:
    """Run `msgbus topology MODULE:BUS ...` with MSGBUS_URL set to a URL."""
    monkeypatch.chdir(ROOT)
    awsenv.use(monkeypatch, tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.setenv("COLUMNS", "250")

    def run(url: str, bus: str, *options: str) -> Result:
        monkeypatch.setenv("MSGBUS_URL", url)
        monkeypatch.setattr(getattr(shop, bus), "_settings", None)  # as in a new process
        return CliRunner().invoke(app, ("topology", f"tests.cli.shop:{bus}", *options))

    return run


def sqs_url(endpoint: str) -> str:
    return f"sqs://us-east-1?wait=1&endpoint={endpoint}"


async def opened(bus: Bus) -> None:
    async with bus:
        pass


def test_a_topic_that_is_only_published_to_is_verified_and_made(
    invoke: Invoke, ministack: Handle, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = sqs_url(ministack.url)
    monkeypatch.setenv("MSGBUS_PROVISION", "verify")
    missing = invoke(url, "reporter", "--verify")
    assert missing.exit_code == 1, missing.output
    assert f"SNS topic {prefix}orders" in missing.stdout
    with pytest.raises(ConfigError, match=f"SNS topic {prefix}orders: wanted there, found missing"):
        asyncio.run(opened(shop.reporter))
    made = invoke(url, "reporter", "--apply")
    assert made.exit_code == 0, made.output
    assert invoke(url, "reporter", "--verify").stdout == "everything is there, as declared\n"
    asyncio.run(opened(shop.reporter))


def test_what_a_start_refuses_is_not_applied(invoke: Invoke, ministack: Handle, prefix: str) -> None:
    result = invoke(f"kinesis://us-east-1?endpoint={ministack.url}", "reporter", "--apply")
    assert result.exit_code == 2
    assert f"topic {prefix}orders: filter_on=['region'] needs headers, and this broker has none" in result.stderr
    with pytest.raises(ConfigError, match="needs headers"):
        asyncio.run(opened(shop.reporter))

    async def look() -> None:
        async with AwsClient(AwsSettings(endpoint=ministack.url)) as client:
            await client.call("kinesis", "DescribeStreamSummary", {"StreamName": f"{prefix}orders"})

    with pytest.raises(Refused, match="ResourceNotFound"):
        asyncio.run(look())


# -- without a connection


def needs(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    return {f"{need['role']} {need['name'].partition('-')[2]}": need for need in json.loads(result.stdout)}


def test_names_at_the_server_are_told_without_one(invoke: Invoke, prefix: str) -> None:
    found = needs(invoke("sqs://eu-west-1", "bus", "--json"))
    assert found["consume orders"]["places"] == [
        f"SNS topic {prefix}orders",
        f"SQS queue {prefix}orders--billing-dead",
        f"SQS queue {prefix}orders--billing",
    ]
    assert found["consume line"]["places"] == [f"SQS queue {prefix}line-dead.fifo", f"SQS queue {prefix}line.fifo"]
    assert found["publish paid"] | {"broker": ""} == {
        "role": "publish",
        "handler": "",
        "kind": "topic",
        "name": f"{prefix}paid",
        "group": "",
        "type": "Order",
        "reply": None,
        "broker": "",
        "ordered": False,
        "attempts": None,
        "first_delay": None,
        "max_delay": None,
        "concurrency": None,
        "filter": {},
        "places": [f"SNS topic {prefix}paid"],
    }
    assert found["request stock"]["places"] == [f"SQS queue {prefix}stock"]
    table = invoke("sqs://eu-west-1", "bus").stdout
    assert "publishes to topic" in table
    assert "requests call" in table


@pytest.mark.parametrize(
    ("url", "places"),
    [
        (
            "amqp://nobody:secret@localhost/v",
            ["RabbitMQ exchange {}orders", "RabbitMQ queue {}orders.billing.dead", "RabbitMQ queue {}orders.billing"],
        ),
        (
            "stomp://localhost",
            [
                "ActiveMQ queue DLQ.Consumer.billing.VirtualTopic.{}orders",
                "ActiveMQ queue Consumer.billing.VirtualTopic.{}orders",
                "RabbitMQ queue {}orders.billing.dead",
                "RabbitMQ queue {}orders.billing",
            ],
        ),
        (
            "kinesis://",
            ["Kinesis stream {}orders", "SQS queue {}orders--billing-dead", "DynamoDB table {}orders--billing"],
        ),
        ("memory://", []),
    ],
)
def test_names_on_each_broker(
    invoke: Invoke, prefix: str, url: str, places: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    others = dict.fromkeys(("line", "quotes", "emails", "stock"), "memory://")
    monkeypatch.setenv("MSGBUS_ROUTES", json.dumps(others))
    found = needs(invoke(url, "bus", "--json"))
    assert found["consume orders"]["places"] == [place.format(prefix) for place in places]
    assert "secret" not in json.dumps(found)


@pytest.mark.parametrize("name", ["cloudformation", "terraform", "iam"])
def test_formats(invoke: Invoke, prefix: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MSGBUS_ROUTES", json.dumps({"paid": "kinesis://eu-west-1", "line": "memory://"}))
    monkeypatch.setenv("AWS_ACCOUNT_ID", "123456789012")
    result = invoke("sqs://eu-west-1", "bus", "--format", name)
    assert result.exit_code == 0, result.output
    assert result.stderr == f"memory:// is not in it: its broker has no format {name}\n"
    text = json.dumps(json.loads(result.stdout))
    assert f"{prefix}orders--billing" in text
    assert f"{prefix}paid" in text  # of both brokers in one
    assert "sqs:CreateQueue" in text  # of reply inboxes alone
    assert "sns:CreateTopic" not in text
    assert "sns:CreateTopic" in invoke("sqs://eu-west-1", "bus", "--format", name, "--provision", "create").stdout


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("memory://", "--format iam: no broker of what is declared has it; there are: none"),
        ("stomp://localhost", "--format iam: no broker of what is declared has it; there are: none"),
        ("amqp://localhost", "--format iam: no broker of what is declared has it; there are: rabbitmq"),
    ],
)
def test_a_format_that_a_broker_has_not_is_refused(invoke: Invoke, url: str, text: str) -> None:
    result = invoke(url, "bus", "--format", "iam")
    assert (result.exit_code, result.stdout) == (2, "")
    assert text in result.stderr


def test_two_virtual_hosts_are_not_written_together(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MSGBUS_ROUTES", json.dumps({"line": "amqp://localhost/other"}))
    result = invoke("amqp://localhost", "bus", "--format", "rabbitmq")
    assert result.exit_code == 2
    assert "write it each in a way of its own" in result.stderr
