"""Topology and operations of the embedded broker."""

from __future__ import annotations

from collections.abc import Sequence

from msgbus.broker import Backlog, Difference, Mode, Part, QueueSpec, TopicSpec
from msgbus.brokers.memory.hub import Hub
from msgbus.errors import Refused
from msgbus.message import Source, Start


class MemoryAdmin:
    """The admin side of a Hub."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    async def ensure(self, topology: Sequence[Part], mode: Mode) -> Sequence[Difference]:
        """Create, or say what is not there."""
        if mode == "trust":
            return []
        missing = [part for part in topology if not self._is_there(part)]
        if mode == "create":
            for part in topology:
                self._make(part)
        return [Difference(_name(part), "there", "missing", made=mode == "create") for part in missing]

    def _is_there(self, part: Part) -> bool:
        if isinstance(part, TopicSpec):
            return part.name in self._hub.topics
        return part.source.address in self._hub.queues

    def _make(self, part: Part) -> None:
        if isinstance(part, TopicSpec):
            self._hub.topic(part.name)
            return
        queue = self._hub.queue(part.source)
        if isinstance(part, QueueSpec):
            queue.max_deliveries = part.max_deliveries
            queue.lease = part.lease or queue.lease

    async def dead_letters(self, source: Source) -> Source | None:
        """Every queue has a dead-letter queue, made when it is first needed or asked for."""
        dead = self._hub.dead_source(source)
        self._hub.queue(dead)
        return dead

    async def purge(self, source: Source) -> int:
        """What is in flight stays."""
        return self._hub.queue(source).purge()

    async def backlog(self, source: Source) -> Backlog | None:
        """Exact; None for a queue that was never made."""
        queue = self._hub.queues.get(source.address)
        if queue is None:
            return None
        oldest = queue.oldest()
        age = None if oldest is None else max(0.0, self._hub.clock.time() - oldest)
        return Backlog(queue.depth, len(queue.in_flight), age)

    async def seek(self, source: Source, start: Start) -> None:
        """Replaces what waits by what the topic kept from `start` on."""
        if start.at == "position":
            raise Refused(f"{source}: the embedded broker has no positions; seek to oldest, latest or a time")
        queue = self._hub.queue(source)
        queue.purge()
        if start.at != "latest":
            self._hub.replay(queue, float(start.value or 0.0) if start.at == "time" else 0.0)


def _name(part: Part) -> str:
    return f"topic {part.name}" if isinstance(part, TopicSpec) else str(part.source)
