"""The definitions that are printed make what is created: RabbitMQ takes them, and nothing differs then."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest
from tests.amqp.conftest import Connect
from tests.amqp.management import manage
from tests.servers import Handle

from msgbus import headers as h
from msgbus.brokers.plan import Use
from msgbus.handlers.topology import parts_of
from msgbus.message import Source


@pytest.mark.parametrize("queue_type", ["quorum", "classic"])
async def test_definitions(connect: Connect, rabbitmq: Handle, name: str, queue_type: str) -> None:
    broker = await connect(f"queue_type={queue_type}")
    group = Source("topic", name, "g", filter=((h.TYPE, ("Order", "Refund")),))
    line = Source("queue", f"{name}-line", ordered=True)
    parts = [*parts_of(group, 20), *parts_of(line, 20)]
    plan = broker.plan([Use("consume", each, tuple(parts_of(each, 20))) for each in (group, line)], "verify")
    missing = await broker.admin.ensure(parts, "verify")
    assert len(missing) == 5
    definitions = json.loads(plan.formats["rabbitmq"]([plan, plan]))
    await manage(rabbitmq, "POST", "definitions", definitions)
    assert await broker.admin.ensure(parts, "verify") == []
    bindings = await manage(rabbitmq, "GET", f"queues/%2F/{quote(name)}.g/bindings")
    bound = {each["routing_key"] for each in bindings if each["source"] == name}
    assert bound == {"Order", "Refund"}
    assert await broker.admin.ensure(parts, "create") == []
    assert await manage(rabbitmq, "GET", f"queues/%2F/{quote(name)}.g/bindings") == bindings  # no other ones are made
