"""RETRY and DEAD: a copy is published and confirmed, then the caller acknowledges the original."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pamqp.commands import Queue

from msgbus.brokers.amqp.names import DUE, LONGEST, delay_of, rung
from msgbus.brokers.amqp.queues import Arguments, delay_arguments
from msgbus.brokers.amqp.topology import ask, is_missing
from msgbus.brokers.amqp.wire import Arrived, Publication, Unrouted
from msgbus.brokers.amqp.wires import Wires
from msgbus.brokers.mq.errors import passing
from msgbus.brokers.mq.rabbitmq import dead_of, queue_of, without_servers_own
from msgbus.clock import Clock
from msgbus.errors import BusError, Refused, Unavailable
from msgbus.message import Act, Settlement, Source

_Wanted = tuple[Arrived, Mapping[str, str], float | None]
"""What to copy, the headers that its copy has more, and the Unix time at which it is wanted back; None: it is dead."""


class Copies:
    """Sends what must wait, or is dead, to its queue. Delay queues are made when they are first needed."""

    def __init__(self, wires: Wires, queue_type: str, clock: Clock) -> None:
        self.time, self.sleep = clock.time, clock.sleep
        self.counts_deliveries = queue_type == "quorum"
        self._wires = wires
        self._queue_type = queue_type
        self._known: set[str] = set()  # delay queues that are there

    async def send(self, source: Source, settlements: Sequence[Settlement]) -> list[BusError | None]:
        """None for each that is confirmed, else its error. Raises nothing but a cancellation."""
        now = self.time()
        wanted = [
            (each.delivery.token, each.headers or {}, None if each.act is Act.DEAD else now + each.delay)
            for each in settlements
        ]
        return await self._send(queue_of(source), wanted, now)

    async def send_on(self, source: Source, early: Sequence[Arrived]) -> list[BusError | None]:
        """The same for what came before its time: it waits again, for the rest."""
        return await self._send(queue_of(source), [(each, {}, _time(each.headers[DUE])) for each in early], self.time())

    def is_early(self, arrived: Arrived) -> bool:
        """Whether it must wait again. What need not has lost the header that says so."""
        left = _time(arrived.headers[DUE]) - self.time()
        if 0.0005 < left <= LONGEST:
            return True
        del arrived.headers[DUE]
        return False

    async def _send(self, queue: str, wanted: Sequence[_Wanted], now: float) -> list[BusError | None]:
        try:
            copies = [await self._copy(queue, *each, now) for each in wanted]
            outcomes = await (await self._wires.publisher()).publish(copies)
        except BusError as error:
            return [passing(error)] * len(wanted)
        return [self._result(*each) for each in zip(copies, outcomes, strict=True)]

    async def _copy(
        self, queue: str, arrived: Arrived, more: Mapping[str, str], due: float | None, now: float
    ) -> Publication:
        headers, place = {**without_servers_own(arrived.headers), **more}, dead_of(queue)
        headers.pop(DUE, None)
        if due is not None:
            milliseconds = rung(due - now)
            if milliseconds < round((due - now) * 1000):
                headers[DUE] = f"{due:.3f}"
            place = await self._delay_queue(queue, milliseconds) if milliseconds else queue
        copy = Publication("", place, headers, arrived.body, int(now))
        copy.priority = arrived.extras.get("priority") if arrived.extras is not None else None
        return copy

    async def _delay_queue(self, queue: str, milliseconds: int) -> str:
        name = delay_of(queue, milliseconds)
        if name not in self._known:
            await self._make(name, delay_arguments(queue, milliseconds, self._queue_type))
            self._known.add(name)
        return name

    async def _make(self, name: str, arguments: Arguments) -> None:
        """Look first: where it is there, no right to make it is needed."""
        wire = await self._wires.consuming()
        if await is_missing(wire, Queue.Declare(queue=name, passive=True)):
            await ask(wire, Queue.Declare(queue=name, durable=True, arguments=arguments))

    def _result(self, copy: Publication, outcome: BusError | None) -> BusError | None:
        if not isinstance(outcome, Unrouted):
            return outcome
        self._known.discard(copy.routing_key)
        missing = f"the queue {copy.routing_key} is missing"
        return Unavailable(missing) if ".retry." in copy.routing_key else Refused(missing)


def _time(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0
