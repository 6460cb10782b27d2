"""The arguments of every queue that msgbus makes (https://www.rabbitmq.com/docs/quorum-queues)."""

from __future__ import annotations

from typing import Any

from msgbus.broker import QueueSpec
from msgbus.brokers.mq.rabbitmq import dead_lettering, queue_of

Arguments = dict[str, Any]

_DELIVERIES = 200  # deliveries of one message where nobody said how many
_FINE = 20  # limits up to this are taken as they are
_COARSE = 50  # larger ones are rounded up, so that one attempt more does not ask for another queue
_NEVER = 1_000_000_000  # a dead-letter queue drops nothing; RabbitMQ 4 would after 20 deliveries


def arguments_of(spec: QueueSpec, queue_type: str, max_priority: int = 0) -> Arguments:
    """A source's own queue: what is delivered too often goes to its dead queue; one active consumer where ordered."""
    arguments: Arguments = {**dead_lettering(queue_of(spec.source))}
    if spec.source.ordered:
        arguments["x-single-active-consumer"] = True
    if max_priority:
        arguments["x-max-priority"] = max_priority
    if queue_type == "classic":
        return arguments
    return arguments | _at_least_once() | {"x-delivery-limit": _redeliveries(spec.max_deliveries)}


def dead_arguments(queue_type: str) -> Arguments:
    """A dead-letter queue."""
    return {} if queue_type == "classic" else {"x-queue-type": "quorum", "x-delivery-limit": _NEVER}


def delay_arguments(queue: str, milliseconds: int, queue_type: str) -> Arguments:
    """Where a retry waits: after one fixed time it goes back to its own queue alone, through the default exchange.

    One time a queue, since a message blocks those behind it. At least once, and so with reject-publish: without it
    the server falls back to at most once, and a message whose queue is missing just then is lost.
    """
    arguments: Arguments = {
        "x-message-ttl": milliseconds,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": queue,
    }
    return arguments if queue_type == "classic" else arguments | _at_least_once()


def _at_least_once() -> Arguments:
    return {"x-queue-type": "quorum", "x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish"}


def _redeliveries(deliveries: int | None) -> int:
    """x-delivery-limit counts redeliveries: a limit of 3 lets a message be delivered 4 times."""
    limit = (deliveries or _DELIVERIES) - 1
    return limit if limit < _FINE else -(-limit // _COARSE) * _COARSE
