"""RETRY and DEAD: a copy is published and confirmed, then the caller acknowledges the original."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pamqp.commands import Queue

from msgbus.brokers.amqp.errors import NOT_FOUND, said
from msgbus.brokers.amqp.names import dead_of, delay_of, queue_of, rung
from msgbus.brokers.amqp.properties import without_brokers_own
from msgbus.brokers.amqp.queues import Arguments, delay_arguments
from msgbus.brokers.amqp.wire import Arrived, Fate, Outcome, Publication
from msgbus.brokers.amqp.wires import Wires
from msgbus.errors import BusError, Disconnected, Refused, Unavailable
from msgbus.message import Act, Settlement, Source


class Copies:
    """Sends what must wait, or is dead, to its queue. Delay queues are made when they are first needed."""

    def __init__(self, wires: Wires, queue_type: str, time: Callable[[], float]) -> None:
        self.time = time
        self.counts_deliveries = queue_type == "quorum"
        self._wires = wires
        self._queue_type = queue_type
        self._known: set[str] = set()  # delay queues that are there

    async def send(self, source: Source, settlements: Sequence[Settlement]) -> list[BusError | None]:
        """None for each that is confirmed, else its error. Raises nothing but a cancellation."""
        try:
            return await self._send(queue_of(source), settlements)
        except BusError as error:
            known = error if isinstance(error, Disconnected | Unavailable) else Unavailable(str(error))
            return [known] * len(settlements)

    async def _send(self, queue: str, settlements: Sequence[Settlement]) -> list[BusError | None]:
        now = int(self.time())
        copies = [Publication("", await self._place(queue, each), *_content(each), now) for each in settlements]
        channel = await self._wires.publisher()
        outcomes = await channel.publish(copies)
        return [self._result(copy, outcome) for copy, outcome in zip(copies, outcomes, strict=True)]

    async def _place(self, queue: str, settlement: Settlement) -> str:
        if settlement.act is Act.DEAD:
            return dead_of(queue)
        milliseconds = rung(settlement.delay)
        if not milliseconds:
            return queue
        name = delay_of(queue, milliseconds)
        if name not in self._known:
            await self._make(name, delay_arguments(queue, milliseconds, self._queue_type))
            self._known.add(name)
        return name

    async def _make(self, name: str, arguments: Arguments) -> None:
        """Look first: where it is there, no right to make it is needed."""
        wire = await self._wires.consuming()
        channel = await wire.channel()
        try:
            await channel.call(Queue.Declare(queue=name, passive=True))
        except BusError as error:
            cause = said(error)
            if cause is None or cause.code != NOT_FOUND:
                raise
            channel = await wire.channel()
            await channel.call(Queue.Declare(queue=name, durable=True, arguments=arguments))
        finally:
            channel.abandon()

    def _result(self, copy: Publication, outcome: Outcome) -> BusError | None:
        if outcome is Fate.TAKEN:
            return None
        if outcome is Fate.UNROUTED:
            self._known.discard(copy.routing_key)
            missing = f"the queue {copy.routing_key} is missing"
            return Unavailable(missing) if ".retry." in copy.routing_key else Refused(missing)
        return outcome


def _content(settlement: Settlement) -> tuple[dict[str, str], bytes]:
    arrived: Arrived = settlement.delivery.token
    return {**without_brokers_own(arrived.headers), **(settlement.headers or {})}, arrived.body
