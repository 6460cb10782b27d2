"""RETRY and DEAD: a copy is published and confirmed, then the caller acknowledges the original."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from pamqp.commands import Queue

from msgbus.brokers.amqp.names import DUE, LONGEST, USER, delay_of, rung
from msgbus.brokers.amqp.queues import Arguments, delay_arguments
from msgbus.brokers.amqp.topology import ask, is_missing
from msgbus.brokers.amqp.wire import Arrived, Publication, Unrouted
from msgbus.brokers.amqp.wires import Wires
from msgbus.brokers.mq.errors import passing
from msgbus.brokers.mq.rabbitmq import dead_of, expires_of, queue_of, without_servers_own
from msgbus.clock import Clock
from msgbus.errors import BusError, Refused, Unavailable
from msgbus.message import Act, CopyOf, Settlement, Source

_Wanted = tuple[Arrived, Mapping[str, str], float | None]
"""What to copy, the headers that its copy has more, and the Unix time at which it is wanted back; None: it is dead."""


class _NoDelayQueue(Refused):
    """The server does not let us make a queue, for good; no word about the connection."""


class Copies:
    """Sends what must wait, or is dead, to its queue. Delay queues are made when they are first needed."""

    def __init__(self, wires: Wires, queue_type: str, clock: Clock, user: str = "") -> None:
        """`user`: as whom we are connected, where that is known."""
        self.time, self.sleep = clock.time, clock.sleep
        self.counts_deliveries = queue_type == "quorum"
        self._wires = wires
        self._user = user
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
            copies = [await self._copy_or_refusal(queue, each, now) for each in wanted]
            outcomes = iter(await self._wires.publish([copy for copy in copies if isinstance(copy, Publication)]))
        except BusError as error:
            return [passing(error)] * len(wanted)
        return [copy if isinstance(copy, BusError) else self._result(copy, next(outcomes)) for copy in copies]

    async def _copy_or_refusal(self, queue: str, wanted: _Wanted, now: float) -> Publication | _NoDelayQueue:
        """What has no queue to wait in fails alone."""
        try:
            return await self._copy(queue, *wanted, now)
        except _NoDelayQueue as refusal:
            return refusal

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
        copy = Publication("", place, headers, arrived.body, int(arrived.timestamp or now))
        self._keep_native(copy, arrived, more)
        return copy

    def resend(self, copy: Publication, native: CopyOf) -> None:
        """Make `copy`, which has its way, the message that came: body, headers with their types, properties."""
        arrived: Arrived = native.delivery.token
        came = without_servers_own(arrived.headers)
        copy.headers = {**{name: came[name] for name in came if name not in native.dropped}, **native.added}
        copy.body, copy.timestamp = arrived.body, int(arrived.timestamp or copy.timestamp)
        self._keep_native(copy, arrived, (*native.dropped, *native.added))

    def _keep_native(self, copy: Publication, arrived: Arrived, more: Collection[str]) -> None:
        """What the original had beside headers and body. `more`: headers whose own type is not wanted.

        The server lets nobody have the `user_id` of another: that one becomes a header.
        """
        extras, typed = arrived.extras or {}, arrived.typed or {}
        copy.priority, copy.app_id = extras.get("priority"), extras.get("app_id", "")
        if typed:
            copy.typed = {name: value for name, value in typed.items() if name not in more}
            copy.headers = {name: value for name, value in copy.headers.items() if name not in copy.typed}
        if "expiration" in extras:
            copy.headers = {**expires_of(extras["expiration"], copy.timestamp, self.time()), **copy.headers}
        user = extras.get("user_id", "")
        if user and user == self._user:
            copy.user_id = user
        elif user:
            copy.headers = {USER: user, **copy.headers}

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
            try:
                await ask(wire, Queue.Declare(queue=name, durable=True, arguments=arguments))
            except Refused as error:
                said = f"the delay queue {name} can't be made (it takes the permission to configure it): {error}"
                raise _NoDelayQueue(said) from error

    def _result(self, copy: Publication, outcome: BusError | None) -> BusError | None:
        if not isinstance(outcome, Unrouted):
            return outcome
        self._known.discard(copy.routing_key)
        missing = f"the queue {copy.routing_key} is missing"
        return Unavailable(missing) if ".retry." in copy.routing_key else Refused(missing)


def _left(arrived: Arrived, now: float) -> float:
    """Seconds of its wait. The clock may have been set meanwhile: never more than were left when it was sent."""
    due, _, left = arrived.headers[DUE].partition(" ")
    try:
        wait = min(float(due) - now, float(left)) if left else float(due) - now
    except ValueError:
        return 0.0
    return wait if 0.0 < wait <= LONGEST else 0.0  # NaN is neither
