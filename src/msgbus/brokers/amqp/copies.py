"""RETRY and DEAD: a copy is published and confirmed, then the caller acknowledges the original."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pamqp.commands import Queue

from msgbus import headers as h
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

_YEAR_9999 = 253_370_764_800.0

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
        now = self.time()
        return await self._send(queue_of(source), [(each, {}, now + _left(each, now)) for each in early], now)

    def is_early(self, arrived: Arrived) -> bool:
        """Whether it must wait again. What need not has lost the header that says so."""
        if _left(arrived, self.time()) > 0.0005:
            return True
        del arrived.headers[DUE]
        return False

    async def _send(self, queue: str, wanted: Sequence[_Wanted], now: float) -> list[BusError | None]:
        try:
            copies = [await self._copy(queue, *each, now) for each in wanted]
            outcomes = await self._wires.publish(copies)
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
                headers[DUE] = f"{due:.3f} {due - now - milliseconds / 1000:.3f}"
            place = await self._delay_queue(queue, milliseconds) if milliseconds else queue
        return _with_native(Publication("", place, headers, arrived.body, int(arrived.timestamp or now)), arrived, more)

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


def _with_native(copy: Publication, arrived: Arrived, more: Mapping[str, str]) -> Publication:
    """What the original had beside headers and body. The server itself checks `user_id`: a copy can't have it."""
    extras = arrived.extras or {}
    copy.priority, copy.app_id = extras.get("priority"), extras.get("app_id", "")
    expiration, typed = extras.get("expiration", ""), arrived.typed or {}
    if typed:
        copy.typed = {name: value for name, value in typed.items() if name not in more}
        copy.headers = {name: value for name, value in copy.headers.items() if name not in copy.typed}
    if arrived.timestamp is not None and expiration.isdecimal() and len(expiration) < 16:
        expires = h.rfc3339(min(arrived.timestamp + int(expiration) / 1000, _YEAR_9999))
        copy.headers = {h.EXPIRES: expires, **copy.headers}
    return copy


def _left(arrived: Arrived, now: float) -> float:
    """Seconds of its wait. The clock may have been set meanwhile: never more than were left when it was sent."""
    due, _, left = arrived.headers[DUE].partition(" ")
    try:
        wait = min(float(due) - now, float(left)) if left else float(due) - now
    except ValueError:
        return 0.0
    return wait if 0.0 < wait <= LONGEST else 0.0  # NaN is neither
