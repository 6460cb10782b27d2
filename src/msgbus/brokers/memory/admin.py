"""Topology and operations of the embedded broker."""

from __future__ import annotations

from collections.abc import Sequence

from msgbus.broker import Backlog, Difference, Mode, Part, QueueSpec, TopicSpec
from msgbus.brokers.memory.hub import Hub
from msgbus.errors import Refused
from msgbus.message import Address, Source, Start


class MemoryAdmin:
    """The admin side of a Hub. `leases`: what its broker asks for, seconds by address, filled by what is declared."""

    def __init__(self, hub: Hub, leases: dict[Address, float]) -> None:
        self._hub = hub
        self._leases = leases

    async def ensure(self, topology: Sequence[Part], mode: Mode) -> Sequence[Difference]:
        """Create, or say what is not there or has another lease. What is asked for in receiving is remembered."""
        differences: list[Difference] = []
        for part in topology:
            if mode != "trust":
                differences += self._compare(part, made=mode == "create")
            if mode == "create":
                self._make(part)
            self._remember(part, mode)
        return differences

    def _compare(self, part: Part, *, made: bool) -> Sequence[Difference]:
        if isinstance(part, TopicSpec):
            there = part.name in self._hub.topics
            return [] if there else [Difference(f"topic {part.name}", "there", "missing", made)]
        queue = self._hub.queues.get(part.source.address)
        if queue is None:
            return [Difference(str(part.source), "there", "missing", made)]
        if not isinstance(part, QueueSpec) or part.lease in (None, queue.lease):
            return []
        return [Difference(f"lease of {part.source}", f"{part.lease:g} s", f"{queue.lease:g} s", made)]

    def _make(self, part: Part) -> None:
        if isinstance(part, TopicSpec):
            self._hub.topic(part.name)
            return
        queue = self._hub.queue(part.source)
        if isinstance(part, QueueSpec):
            queue.max_deliveries = part.max_deliveries
            queue.lease = part.lease or queue.lease

    def _remember(self, part: Part, mode: Mode) -> None:
        if not isinstance(part, QueueSpec):
            return
        queue = self._hub.queues.get(part.source.address)
        if part.lease is not None:
            self._leases[part.source.address] = part.lease
        elif queue is not None and mode != "trust":
            self._leases[part.source.address] = queue.lease

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
