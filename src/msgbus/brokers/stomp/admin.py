"""Topology and operations of the STOMP broker."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgbus.broker import Backlog, Difference, Mode, Part, QueueSpec
from msgbus.brokers.mailbox import Mailbox
from msgbus.brokers.stomp.catalog import Catalog
from msgbus.brokers.stomp.codec import Frame
from msgbus.brokers.stomp.dialect import Dialect
from msgbus.brokers.stomp.wires import Wires
from msgbus.clock import Clock
from msgbus.errors import Refused, Unavailable
from msgbus.message import Source, Start

_QUIET = 0.5  # seconds without a message after which a queue counts as empty
_PAUSES = (0.05, 0.2, 0.8)  # seconds before queues are made again


class StompAdmin:
    """What can be done over STOMP. Topics and bindings need no making: names make them.

    Limits, policies and the arguments of queues that are there can neither be set nor compared: that is for the
    server's own configuration.
    """

    def __init__(self, wires: Wires, catalog: Catalog, clock: Clock, dialect: Callable[[], Dialect]) -> None:
        self._wires = wires
        self._catalog = catalog
        self._clock = clock
        self._dialect = dialect

    async def ensure(self, topology: Sequence[Part], mode: Mode) -> Sequence[Difference]:
        """Make what is missing, or say it. Where the server can't tell what is there, nothing is said."""
        if mode == "trust":
            return []
        self._wires.publishing.alive()
        wanted: dict[str, tuple[Source, str]] = {}
        for part in topology:
            if isinstance(part, QueueSpec):
                queue = self._dialect().queue_of(part.source)
                for name in (self._dialect().dead_of(queue), queue):  # nothing may die before there is a place for it
                    wanted[name] = (part.source, name)
        missing = await self._catalog.missing(self._dialect(), wanted, anew=True)
        if missing and mode == "create":
            await self._make([wanted[name] for name in missing])
        return [
            Difference(f"{wanted[name][0]}: queue {name}", "there", "missing", made=mode == "create")
            for name in missing
        ]

    async def _make(self, sources: Sequence[tuple[Source, str]]) -> None:
        """RabbitMQ's plugin dies of a quorum queue that another connection is just making: once more, then."""
        for pause in _PAUSES:
            try:
                await self._make_once(sources)
                return
            except Unavailable:
                await self._clock.sleep(pause)
        await self._make_once(sources)

    async def _make_once(self, sources: Sequence[tuple[Source, str]]) -> None:
        conversation = await self._wires.another()
        try:
            await self._dialect().make(conversation, sources)
        finally:
            await conversation.close()
        self._catalog.known.update(name for _, name in sources)

    async def dead_letters(self, source: Source) -> Source | None:
        """Every queue has a queue of dead letters."""
        return Source("queue", self._dialect().dead_of(self._dialect().queue_of(source)))

    async def purge(self, source: Source) -> int:
        """By reading it until nothing comes. What is in flight, or waits for a retry, stays."""
        queue = self._dialect().queue_of(source)
        await self._catalog.check(self._dialect(), source, queue)
        conversation = await self._wires.another()
        mailbox: Mailbox[Frame] = Mailbox(self._clock)
        count = 0
        try:
            await conversation.subscribe("purge", self._dialect().subscription(source, 1000), mailbox)
            while frames := await mailbox.take(1000, _QUIET):
                count += len(frames)
                conversation.acknowledge([self._dialect().arrived(frame) for frame in frames])
        finally:
            await conversation.close()
        return count

    async def backlog(self, source: Source) -> Backlog | None:
        """STOMP does not tell."""
        return None

    async def seek(self, source: Source, start: Start) -> None:
        """There is no replay."""
        raise Refused(f"{source}: a queue of STOMP keeps nothing that was acknowledged: there is no replay")
