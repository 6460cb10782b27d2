"""Each command of the command line."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

import typer
from tests.newcomer.brokers import own, urls
from tests.newcomer.environment import Fresh, Variables
from tests.servers import Handle

from msgbus.cli.app import app


def every_command() -> Iterator[tuple[str, ...]]:
    """The words of each, groups too."""

    def walk(command: Any, words: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        yield words
        for name, inner in getattr(command, "commands", {}).items():
            yield from walk(inner, (*words, name))

    return walk(typer.main.get_command(app), ())


def helps(fresh: Fresh) -> str:
    """`--help` of each, and the version."""
    for words in every_command():
        assert "Usage: msgbus" in fresh.run("msgbus", *words, "--help"), words
    assert fresh.run("msgbus", "--version").strip()
    return f"help of {len(list(every_command()))} commands"


def looks(fresh: Fresh) -> str:
    """What asks no server."""
    assert "memory://" in fresh.run("msgbus", "capabilities")
    assert json.loads(fresh.run("msgbus", "capabilities", "--json", "sqs://"))
    assert "| --- |" in fresh.run("msgbus", "capabilities", "--markdown")
    assert "jobs" in fresh.run("msgbus", "topology", "service:bus")
    assert json.loads(fresh.run("msgbus", "topology", "service:bus", "--json"))
    fresh.run("msgbus", "publish", "service:jobs", '{"name": "one"}', expect=2)  # memory:// would be empty
    return "capabilities, topology"


def shared(fresh: Fresh, running: Mapping[str, Handle]) -> str:
    """Topology, publish and dead letters on RabbitMQ."""
    given = own(urls(running)["amqp"])
    fresh.run("msgbus", "topology", "service:bus", "--verify", expect=1, variables=given)
    fresh.run("msgbus", "topology", "service:bus", "--apply", variables=given)
    fresh.run("msgbus", "topology", "service:bus", "--verify", variables=given)
    _publish(fresh, given)
    with fresh.serving(given) as service:
        service.until("consuming", "dead after", "dead after")
        service.stop()
    _dead(fresh, given)
    return "publish, topology, dead"


def _publish(fresh: Fresh, given: Variables) -> None:
    """As an argument, from a file, from stdin."""
    (fresh.home / "jobs.ndjson").write_text('{"name": "good"}\n{"name": "bad"}\n')
    fresh.run("msgbus", "publish", "service:jobs", '{"name": "bad"}', "--header", "a=b", variables=given)
    fresh.run("msgbus", "publish", "service:jobs", "@jobs.ndjson", "--count", variables=given)
    fresh.run("msgbus", "publish", "service:jobs", "-", given='{"name": "good"}\n', variables=given)
    said = fresh.run("msgbus", "publish", "service:jobs", '{"nam": "x"}', expect=2, variables=given)
    assert said == "", "an error goes to stderr"


def _dead(fresh: Fresh, given: Variables) -> None:
    letters = json.loads(fresh.run("msgbus", "dead", "list", "service:bus", "jobs/work", "--json", variables=given))
    assert len(letters) == 2, letters
    shown = fresh.run("msgbus", "dead", "show", "service:bus", "jobs/work", letters[0]["id"], variables=given)
    assert '"bad"' in shown, shown
    fresh.run("msgbus", "dead", "redrive", "service:bus", "jobs/work", "--id", letters[0]["id"], variables=given)
    fresh.run("msgbus", "dead", "purge", "service:bus", "jobs/work", "--yes", variables=given)
    assert json.loads(fresh.run("msgbus", "dead", "list", "service:bus", "jobs/work", "--json", variables=given)) == []


S3 = """
import asyncio, sys
from aiobotocore.session import get_session
async def main(bucket, what):
    async with get_session().create_client("s3") as s3:
        if what == "make":
            await s3.create_bucket(Bucket=bucket)
        while what == "wait" and not (await s3.list_objects_v2(Bucket=bucket)).get("Contents"):
            await asyncio.sleep(0.2)
asyncio.run(main(*sys.argv[1:]))
"""
"""Make a bucket, or wait until something is in it."""


def kinesis(fresh: Fresh, running: Mapping[str, Handle]) -> str:
    """Lag, reset, archive and replay on Kinesis."""
    given = own(urls(running)["kinesis"])
    with fresh.serving(given) as service:
        service.until("consuming")
        fresh.run("msgbus", "publish", "service:jobs", '{"name": "good"}', variables=given)
        service.until("handled good")
        service.stop()
    assert "shardId" in fresh.run("msgbus", "kinesis", "lag", "service:bus", "jobs/work", variables=given)
    fresh.run("msgbus", "kinesis", "reset", "service:bus", "jobs/work", "--to", "oldest", "--yes", variables=given)
    _archive(fresh, given)
    return "kinesis, archive"


def _archive(fresh: Fresh, given: Variables) -> None:
    """Write what is there, and send it again."""
    bucket = f"new-{uuid.uuid4().hex[:8]}"
    place = ("service:bus", "jobs", f"s3://{bucket}/events")
    fresh.run("python", "-c", S3, bucket, "make", variables=given)
    with fresh.started("archive", "write", *place, "--window", "1", variables=given) as process:
        fresh.run("python", "-c", S3, bucket, "wait", variables=given)
        process.terminate()
        said = process.communicate()[1]
    assert "1 records written" in said, said
    since = ("--since", "2026-01-01", "--into", "jobs/work")
    printed = fresh.run("msgbus", "archive", "replay", *place, *since, variables=given)
    assert printed.startswith("1 records sent"), printed
