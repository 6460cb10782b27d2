"""What a service needs on SQS and SNS, told before anything is there. Sans-IO.

Names, attributes and policies come from where `topology` takes them too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgbus.broker import Binding, Mode, Part, QueueSpec, TopicSpec
from msgbus.brokers.aws.arns import Arn, Home
from msgbus.brokers.aws.templates import FORMATS
from msgbus.brokers.plan import Plan, Resource, Right, Use
from msgbus.brokers.sqs import plans, rights
from msgbus.brokers.sqs.names import Place, dead_name, queue_name, topic_name
from msgbus.brokers.sqs.options import SqsOptions
from msgbus.message import Address, Source


class Planning:
    """For one broker: where its things are, and what of them is given."""

    def __init__(self, home: Home, options: SqsOptions) -> None:
        self._home = home
        self._options = options
        self._places: Mapping[Address, Place] = options.places

    def plan(self, uses: Sequence[Use], mode: Mode) -> Plan:
        """All that these uses need."""
        resources: list[Resource] = []
        allowed: list[Right] = []
        for use in uses:
            allowed += self._role(use)
            resources += [] if use.parts else self._used(use.source)
            for part in use.parts:
                resources += self._resources(part)
                allowed += self._rights(part, mode)
        return Plan(resources=resources, rights=allowed, formats=FORMATS)

    # -- where things are

    def _queue(self, source: Source) -> Arn:
        place = self._places.get(source.address)
        if place is not None:
            return Arn("sqs", place.name, place.region, place.account)
        return self._home.arn("sqs", queue_name(source.address, ordered=source.ordered))

    def _topic(self, name: str, *, ordered: bool) -> Arn:
        place = self._places.get(Address("topic", name))
        if place is not None:
            return Arn("sns", place.name, place.region, place.account)
        return self._home.arn("sns", topic_name(name, ordered=ordered))

    def _dead(self, queue: Arn) -> Arn:
        """Of a queue that is given, its owner's redrive policy may name another."""
        return queue._replace(resource=dead_name(queue.resource))

    # -- what is made

    def _resources(self, part: Part) -> list[Resource]:
        if isinstance(part, TopicSpec):
            topic = self._topic(part.name, ordered=part.ordered)
            given = Address("topic", part.name) in self._places
            return [_given(plans.TOPIC, topic) if given else plans.topic(topic.resource)]
        queue = self._queue(part.source)
        given = part.source.address in self._places
        if isinstance(part, QueueSpec):
            dead = plans.dead_queue("", queue.resource)
            return [_given(plans.QUEUE, queue)] if given else [dead, self._made(part, queue)]
        return self._bound(part, queue, given=given)

    def _made(self, part: QueueSpec, queue: Arn) -> Resource:
        return plans.queue(part, queue.resource, self._dead(queue))

    def _bound(self, part: Binding, queue: Arn, *, given: bool) -> list[Resource]:
        topic, dead = self._topic(part.topic, ordered=part.source.ordered), self._dead(queue)
        name = f"{topic.resource} to {queue.resource}"
        letters = None if given else dead
        permits = [] if given else [plans.permission(each.resource, each, topic) for each in (dead, queue)]
        return [*permits, plans.subscription(part.source, topic, queue, letters, name)]

    def _used(self, source: Source) -> list[Resource]:
        if source.kind == "topic":
            return [_given(plans.TOPIC, self._topic(source.name, ordered=source.ordered))]
        return [_given(plans.QUEUE, self._queue(source))]

    # -- what is allowed

    def _role(self, use: Use) -> list[Right]:
        if use.role == "publish":
            return rights.publish(self._topic(use.source.name, ordered=use.source.ordered))
        queue = self._queue(use.source)
        if use.role in ("consume", "answer"):
            found = rights.consume(queue, self._dead(queue))
            return found + (rights.answer(self._replies()) if use.role == "answer" else [])
        found = rights.send(queue, *self._also_looked_for(use.source))
        return found + (self._ask() if use.role == "request" else [])

    def _also_looked_for(self, source: Source) -> list[Arn]:
        """Whoever only sends to a queue was told nothing of its order, and finds out which of the two there is."""
        is_known = source.address in self._places or not source.ordered
        return [] if is_known else [self._home.arn("sqs", queue_name(source.address, ordered=False))]

    def _replies(self) -> Arn:
        return rights.reply_queues(self._home.arn("sqs", ""))

    def _ask(self) -> list[Right]:
        given = self._options.reply_queue
        return rights.ask([self._home.arn("sqs", given) if given else self._replies()], own=not given)

    def _rights(self, part: Part, mode: Mode) -> list[Right]:
        if isinstance(part, TopicSpec):
            is_given = Address("topic", part.name) in self._places
            return rights.topic(_least(mode, is_given), self._topic(part.name, ordered=part.ordered))
        queue = self._queue(part.source)
        is_given = part.source.address in self._places
        if isinstance(part, QueueSpec):
            return rights.queue(_least(mode, is_given), queue, self._dead(queue))
        return rights.binding(mode, self._topic(part.topic, ordered=part.source.ordered), queue, self._dead(queue))


def _given(kind: str, arn: Arn) -> Resource:
    return Resource(kind=kind, name=arn.resource, given=True)


def _least(mode: Mode, is_given: bool) -> Mode:
    """What is given is looked at, never made."""
    return "verify" if is_given and mode == "create" else mode
