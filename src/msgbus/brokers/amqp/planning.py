"""Exchanges, queues and bindings as they are declared, whoever declares them; written as definitions of RabbitMQ.

Source: https://www.rabbitmq.com/docs/definitions. Queues in which retries wait come and go, and are not among them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import cache, partial
from typing import Any

from msgbus.broker import Binding, Part, QueueSpec, TopicSpec
from msgbus.brokers.amqp.names import binding_keys
from msgbus.brokers.amqp.queues import arguments_of, dead_arguments
from msgbus.brokers.amqp.settings import Options
from msgbus.brokers.mq.rabbitmq import dead_of, queue_of
from msgbus.brokers.plan import Plan, Render, Resource, Use

_EXCHANGE, _QUEUE, _BINDING = "RabbitMQ exchange", "RabbitMQ queue", "RabbitMQ binding"


def exchange(name: str) -> Resource:
    """The exchange of a topic."""
    return Resource(kind=_EXCHANGE, name=name, properties={"exchange_type": "topic", "durable": True})


def queues(spec: QueueSpec, options: Options) -> tuple[Resource, Resource]:
    """The dead queue first: nothing may die before there is a place for it. Properties: a queue's arguments."""
    name = queue_of(spec.source)
    dead = Resource(kind=_QUEUE, name=dead_of(name), properties=dead_arguments(options.queue_type))
    own = arguments_of(spec, options.queue_type, options.max_priority)
    return dead, Resource(kind=_QUEUE, name=name, properties=own)


def bindings(part: Binding) -> list[Resource]:
    """The bindings of a group's queue."""
    queue = queue_of(part.source)
    return [
        Resource(
            kind=_BINDING,
            name=f"{part.topic} to {queue} by {key}",
            properties={"queue": queue, "exchange": part.topic, "routing_key": key},
            named=False,
        )
        for key in binding_keys(part.source)
    ]


def planned(uses: Iterable[Use], options: Options, vhost: str) -> Plan:
    """All that these uses need, for the definitions of one virtual host."""
    resources = [each for use in uses for part in use.parts for each in _resources(part, options)]
    given = [
        Resource(kind=_QUEUE, name=queue_of(use.source), given=True)
        for use in uses
        if not use.parts and use.source.kind == "queue"
    ]
    return Plan(resources=[*resources, *given], formats={"rabbitmq": _writer(vhost)})


@cache
def _writer(vhost: str) -> Render:
    """The same one for each broker of a virtual host, so that they are written together."""
    return partial(_write, vhost)


def _resources(part: Part, options: Options) -> Sequence[Resource]:
    if isinstance(part, TopicSpec):
        return [exchange(part.name)]
    return queues(part, options) if isinstance(part, QueueSpec) else bindings(part)


def _write(vhost: str, plans: Sequence[Plan]) -> str:
    found = {str(each): each for plan in plans for each in plan.resources if not each.given}
    definitions: dict[str, list[dict[str, Any]]] = {"exchanges": [], "queues": [], "bindings": []}
    for each in found.values():
        section, definition = _definition(each)
        definitions[section].append({"vhost": vhost, **definition})
    return json.dumps(definitions, indent=2)


def _definition(resource: Resource) -> tuple[str, dict[str, Any]]:
    properties = resource.properties
    kept = {"durable": True, "auto_delete": False}
    if resource.kind == _QUEUE:
        return "queues", {"name": resource.name, **kept, "arguments": dict(properties)}
    if resource.kind == _EXCHANGE:
        kind = properties["exchange_type"]
        return "exchanges", {"name": resource.name, "type": kind, **kept, "internal": False, "arguments": {}}
    ends = {"source": properties["exchange"], "destination": properties["queue"], "destination_type": "queue"}
    return "bindings", {**ends, "routing_key": properties["routing_key"], "arguments": {}}
