"""RETRY and DEAD: a copy is published and confirmed, then the caller acknowledges the original."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pamqp.commands import Queue

from msgbus.brokers.amqp.errors import NOT_FOUND, said
from msgbus.brokers.amqp.names import DUE, LONGEST, dead_of, delay_of, queue_of, rung
from msgbus.brokers.amqp.properties import without_brokers_own
from msgbus.brokers.amqp.queues import Arguments, delay_arguments
from msgbus.brokers.amqp.wire import Arrived, Fate, Outcome, Publication
from msgbus.brokers.amqp.wires import Wires
from msgbus.clock import Clock
from msgbus.errors import BusError, Disconnected, Refused, Unavailable
from msgbus.message import Act, Settlement, Source


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
        return await self._send(queue_of(source), [_copy(each, now) for each in settlements], now)

    async def send_on(self, source: Source, early: Sequence[Arrived]) -> list[BusError | None]:
        """The same for what came before its time: it waits again, for the rest."""
        return await self._send(queue_of(source), [_again(each) for each in early], self.time())

    def is_early(self, arrived: Arrived) -> bool:
        """Whether it must wait again. What need not has lost the header that says so."""
        left = _time(arrived.headers[DUE]) - self.time()
        if 0.0005 < left <= LONGEST:
            return True
        del arrived.headers[DUE]
        return False

    async def _send(self, queue: str, copies: Sequence[_Copy], now: float) -> list[BusError | None]:
        try:
            publications = [await self._publication(queue, copy, now) for copy in copies]
            outcomes = await (await self._wires.publisher()).publish(publications)
        except BusError as error:
            known = error if isinstance(error, Disconnected | Unavailable) else Unavailable(str(error))
            return [known] * len(copies)
        return [self._result(*each) for each in zip(publications, outcomes, strict=True)]

    async def _publication(self, queue: str, copy: _Copy, now: float) -> Publication:
        if copy.due is None:
            place = dead_of(queue)
        else:
            milliseconds = rung(copy.due - now)
            if milliseconds < round((copy.due - now) * 1000):
                copy.headers[DUE] = f"{copy.due:.3f}"
            place = await self._delay_queue(queue, milliseconds) if milliseconds else queue
        publication = Publication("", place, copy.headers, copy.body, int(now))
        publication.priority = copy.priority
        return publication

    async def _delay_queue(self, queue: str, milliseconds: int) -> str:
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


@dataclass(slots=True)
class _Copy:
    """`due`: the Unix time at which it is wanted back; None: it is dead."""

    headers: dict[str, str]
    body: bytes
    due: float | None
    priority: int | None


def _copy(settlement: Settlement, now: float) -> _Copy:
    arrived: Arrived = settlement.delivery.token
    headers = {**without_brokers_own(arrived.headers), **(settlement.headers or {})}
    due = None if settlement.act is Act.DEAD else now + settlement.delay
    return _Copy(headers, arrived.body, due, _priority(arrived))


def _again(arrived: Arrived) -> _Copy:
    headers = without_brokers_own(arrived.headers)
    return _Copy(headers, arrived.body, _time(headers.pop(DUE)), _priority(arrived))


def _priority(arrived: Arrived) -> int | None:
    return arrived.extras.get("priority") if arrived.extras is not None else None


def _time(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0
