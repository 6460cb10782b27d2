"""Each broker by its URL, on each event loop."""

from __future__ import annotations

import uuid
from collections.abc import Mapping

from tests.newcomer.environment import Fresh, Variables
from tests.servers import Handle

LOOPS = ("uvloop", "asyncio")


def urls(running: Mapping[str, Handle]) -> dict[str, dict[str, str]]:
    """What a newcomer may write into MSGBUS_URL, by a name: with all other variables that it takes."""
    rabbit, active, aws = running["rabbitmq"], running["activemq"], running["ministack"].env
    return {
        "memory": {"MSGBUS_URL": "memory://"},
        "amqp": {"MSGBUS_URL": rabbit.url},
        "amqp, aio-pika": {"MSGBUS_URL": f"{rabbit.url}?client=aio-pika"},
        "stomp, RabbitMQ": {"MSGBUS_URL": rabbit.url_of("stomp")},
        "stomp, ActiveMQ": {"MSGBUS_URL": active.url},
        "stomp, ActiveMQ, stomp.py": {"MSGBUS_URL": f"{active.url}?client=stomp.py"},
        "sqs": {"MSGBUS_URL": "sqs://eu-west-1", **aws},
        "kinesis": {
            "MSGBUS_URL": "kinesis://eu-west-1?shards=1&poll=0.1&lease=3&start=oldest",
            "MSGBUS_ROUTES": '{"echo": "memory://"}',
            **aws,
        },
    }


def own(variables: Variables) -> Variables:
    """With names on the shared server that nobody else has."""
    return {**variables, "MSGBUS_PREFIX": f"new-{uuid.uuid4().hex[:8]}-"}


def round_trip(fresh: Fresh, name: str, variables: Variables, loop: str) -> str:
    """Publish, handle, ask, bury, look."""
    printed = fresh.run("python", "-W", "error", "service.py", loop, variables=own(variables))
    assert printed == f"{loop} as it says\n", printed
    return f"{name} on {loop}"
