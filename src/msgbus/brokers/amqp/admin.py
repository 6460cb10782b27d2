"""Topology and operations of the AMQP broker."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from pamqp.commands import Queue

from msgbus.broker import Backlog, Binding, Difference, Mode, Part, QueueSpec, TopicSpec
from msgbus.brokers.amqp import declare, planning
from msgbus.brokers.amqp.errors import NOT_FOUND, has_code
from msgbus.brokers.amqp.settings import Options
from msgbus.brokers.amqp.topology import Exchanges, ask
from msgbus.brokers.amqp.wire import Wire
from msgbus.brokers.amqp.wires import Wires
from msgbus.brokers.mq.rabbitmq import dead_of, queue_of
from msgbus.errors import BusError, Refused
from msgbus.message import Source, Start


class AmqpAdmin:
    """Everything over AMQP itself, on the consuming connection: no management plugin is needed."""

    def __init__(self, wires: Wires, options: Options, exchanges: Exchanges) -> None:
        self._wires = wires
        self._options = options
        self._exchanges = exchanges

    async def ensure(self, topology: Sequence[Part], mode: Mode) -> Sequence[Difference]:
        """Make what is missing, or say what differs.

        Bindings can't be looked at over AMQP: "create" makes them again, "verify" says nothing of them. In mode
        "create" a queue that is there with arguments that break a promise raises Refused and says which.
        """
        if mode == "trust":
            return []
        wire = await self._wires.consuming()
        differences: list[Difference] = []
        for part in topology:
            if isinstance(part, TopicSpec):
                differences += await declare.exchange(wire, part.name, mode)
                self._exchanges.known.discard(part.name)
            elif isinstance(part, QueueSpec):
                differences += await self._queues(wire, part, mode)
            elif mode == "create":
                await self._bind(wire, part)
        return differences

    async def _queues(self, wire: Wire, spec: QueueSpec, mode: Mode) -> list[Difference]:
        """The dead queue first: nothing may die before there is a place for it."""
        differences: list[Difference] = []
        for each in planning.queues(spec, self._options):
            differences += await declare.queue(wire, str(spec.source), each.name, dict(each.properties), mode)
        return differences

    @staticmethod
    async def _bind(wire: Wire, binding: Binding) -> None:
        for each in planning.bindings(binding):
            await ask(wire, Queue.Bind(**each.properties))

    async def dead_letters(self, source: Source) -> Source | None:
        """Every queue has a dead queue."""
        return Source("queue", dead_of(queue_of(source)))

    async def purge(self, source: Source) -> int:
        """What is in flight, or waits for a retry, stays."""
        answer = await ask(await self._wires.consuming(), Queue.Purge(queue=queue_of(source)))
        return cast(Queue.PurgeOk, answer).message_count or 0

    async def backlog(self, source: Source) -> Backlog | None:
        """What is ready; the server tells nothing of what is in flight, nor of ages, over AMQP."""
        try:
            found = await ask(await self._wires.consuming(), Queue.Declare(queue=queue_of(source), passive=True))
        except BusError as error:
            if has_code(error, NOT_FOUND):
                return None
            raise
        return Backlog(cast(Queue.DeclareOk, found).message_count or 0)

    async def seek(self, source: Source, start: Start) -> None:
        """There is no replay."""
        raise Refused(f"{source}: a queue of AMQP keeps nothing that was acknowledged: there is no replay")
