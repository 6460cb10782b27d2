"""One queue of the embedded broker: ready, in flight, delayed, dead; leases that expire; lanes where ordered."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import operator
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from msgbus.clock import Alarms, Call, Clock
from msgbus.message import Delivery, Outgoing, Source

_sequence = itertools.count()
_by_sequence = operator.attrgetter("sequence")


class Holder(Protocol):
    """Who deliveries are leased to."""

    unsettled: int


class Stored:
    """A message in one queue, and the token of its deliveries.

    In flight it knows the `delivery` that is out and its `holder`: a token of an older lease settles nothing.
    """

    __slots__ = (
        "attempt",
        "deliveries",
        "delivery",
        "headers",
        "holder",
        "lane",
        "lease_ends",
        "out",
        "sequence",
        "since",
    )

    holder: Holder
    delivery: Delivery | None
    lease_ends: float

    def __init__(self, out: Outgoing, since: float, lane: str | None) -> None:
        self.out = out
        self.headers = out.headers
        self.since = since
        self.lane = lane
        self.sequence = next(_sequence)
        self.deliveries = 0
        self.attempt = 1


class MemoryQueue:
    """Competing consumers on one list of messages.

    An ordered queue locks a key to the receiver that has messages of it in flight, as SQS FIFO does, and puts
    what comes back where it was. `bury(source, stored, reason)` is called for a message that was delivered too often.
    """

    def __init__(
        self, source: Source, clock: Clock, alarms: Alarms, *, lease: float, bury: Callable[[Source, Stored, str], None]
    ) -> None:
        self.source = source
        self.lease = lease
        self.max_deliveries: int | None = None
        self.in_flight: dict[Stored, None] = {}
        self.depth = 0  # messages that wait, delayed ones too
        self._clock = clock
        self._alarms = alarms
        self._bury = bury
        self._ready: deque[Stored] = deque()
        self._delayed: list[tuple[float, int, Stored]] = []
        self._lanes: dict[str, deque[Stored]] = {}
        self._free_lanes: dict[str, None] = {}
        self._locked: dict[str, int] = {}
        self._waiting_heads: set[Stored] = set()  # retried, and their lanes wait for them
        self._expires = False  # some message here may
        self._lease_alarm: Call | None = None
        self._wait_alarm: Call | None = None
        self._waking = False
        self._delay_alarm: Call | None = None
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._room: deque[asyncio.Future[None]] = deque()

    def oldest(self) -> float | None:
        """When the oldest waiting message came, on the clock's `time`."""
        heads = [*self._ready, *(stored for lane in self._lanes.values() for stored in lane)]
        return min((stored.since for stored in heads), default=None)

    # -- in

    def put(self, stored: Stored, delay: float = 0.0) -> None:
        """Add a message, to be seen after `delay` seconds."""
        self.depth += 1
        if stored.out.expires_at is not None:
            self._expires = True
        if delay > 0:
            self._put_later(stored, delay)
        elif stored.lane is None:
            self._ready.append(stored)
        else:
            self._into_lane(stored)
        if self._waiters and not self._waking:  # a turn of the loop later, to gather what this turn brings
            self._waking = True
            self._alarms.loop.call_soon(self._wake_soon)

    def _wake_soon(self) -> None:
        self._waking = False
        self._wake_receiver()

    def _put_back(self, returned: Iterable[Stored]) -> None:
        for stored in sorted(returned, key=_by_sequence, reverse=True):
            self.depth += 1
            if not self._ready or stored.sequence < self._ready[0].sequence:
                self._ready.appendleft(stored)
            else:
                self._ready = deque(sorted((stored, *self._ready), key=_by_sequence))
        if self._waiters:
            self._wake_receiver()

    def _put_later(self, stored: Stored, delay: float) -> None:
        heapq.heappush(self._delayed, (self._clock.now() + delay, stored.sequence, stored))
        self._arm_delay()

    def _arm_delay(self) -> None:
        if self._delay_alarm is not None:
            self._delay_alarm.cancel()
        self._delay_alarm = None
        if self._delayed:
            self._delay_alarm = self._alarms.call(self._delayed[0][0] - self._clock.now(), self._delay_over)

    def _delay_over(self) -> None:
        self._delay_alarm = None
        now = self._clock.now()
        while self._delayed and self._delayed[0][0] <= now:
            stored = heapq.heappop(self._delayed)[2]
            if stored.lane is not None:
                self._into_lane(stored)
                self._unlock_head(stored)
            else:
                self._ready.append(stored)
        self._arm_delay()
        self._wake_receiver()

    def _into_lane(self, stored: Stored) -> None:
        lane = stored.lane or ""
        queue = self._lanes.get(lane)
        if queue is None:
            queue = self._lanes[lane] = deque()
        if queue and stored.sequence < queue[-1].sequence:
            self._lanes[lane] = deque(sorted((stored, *queue), key=_by_sequence))
        else:
            queue.append(stored)
        if lane not in self._locked:
            self._free_lanes[lane] = None

    # -- out

    async def wait(self, seconds: float) -> None:
        """Until there may be something, or `seconds` are over."""
        waiter: asyncio.Future[None] = self._alarms.loop.create_future()
        self._waiters.append(waiter)
        at = self._alarms.now() + seconds
        if self._wait_alarm is None or at < self._wait_alarm.at:  # one for all: a receive may return early
            if self._wait_alarm is not None:
                self._wait_alarm.cancel()
            self._wait_alarm = self._alarms.call(seconds, self._waits_over)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
            elif self._ready or self._free_lanes:  # woken for a message that will not be taken: pass it on
                self._wake_receiver()
            raise

    def _waits_over(self) -> None:
        self._wait_alarm = None
        self.wake_all()

    def wake_all(self) -> None:
        """Have every waiting receiver look again."""
        while self._waiters:
            self._wake_receiver()

    def _wake_receiver(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def take(self, limit: int, holder: Holder) -> list[Delivery]:
        """Up to `limit` messages, leased to `holder`."""
        taken: list[Stored] = []
        ready = self._ready
        while ready and len(taken) < limit:
            taken.append(ready.popleft())
        while self._free_lanes and len(taken) < limit:
            self._take_lane(next(iter(self._free_lanes)), limit, taken)
        if not taken:
            return []
        self.depth -= len(taken)
        if self._room:
            self._tell_room()
        if self._waiters and (ready or self._free_lanes):
            self._wake_receiver()
        deliveries = self._lease_out(taken, holder)
        return self._without_expired(deliveries) or self.take(limit, holder) if self._expires else deliveries

    def _without_expired(self, deliveries: list[Delivery]) -> list[Delivery]:
        now = self._clock.time()
        fresh: list[Delivery] = []
        for delivery in deliveries:
            ends = delivery.token.out.expires_at
            if ends is not None and ends <= now:
                self.remove(delivery.token)
            else:
                fresh.append(delivery)
        return fresh

    def _take_lane(self, lane: str, limit: int, taken: list[Stored]) -> None:
        queue = self._lanes[lane]
        count = min(len(queue), limit - len(taken))
        taken.extend(queue.popleft() for _ in range(count))
        self._locked[lane] = count
        del self._free_lanes[lane]
        if not queue:
            del self._lanes[lane]

    def _lease_out(self, taken: Sequence[Stored], holder: Holder) -> list[Delivery]:
        ends = self._clock.now() + self.lease
        source = self.source
        self.in_flight.update(dict.fromkeys(taken))
        deliveries = []
        for stored in taken:
            stored.deliveries += 1
            stored.holder = holder
            stored.lease_ends = ends
            delivery = Delivery(
                stored.out.body,
                source,
                stored.headers,
                stored,
                stored.attempt,
                stored.deliveries,
                stored.lane,
                stored.since,
            )
            stored.delivery = delivery
            deliveries.append(delivery)
        holder.unsettled += len(deliveries)
        if self._lease_alarm is None:
            self._arm_lease(self.lease)
        return deliveries

    # -- settling

    @staticmethod
    def holds(delivery: Delivery, holder: Holder) -> bool:
        """Whether this delivery's lease is still on, and `holder`'s."""
        stored: Stored = delivery.token
        return stored.delivery is delivery and stored.holder is holder

    def remove(self, stored: Stored) -> None:
        """It is no longer in flight."""
        del self.in_flight[stored]
        stored.delivery = None
        stored.holder.unsettled -= 1
        if stored.lane is not None:
            self._unlock(stored.lane)

    def _unlock_head(self, stored: Stored) -> None:
        if stored in self._waiting_heads and stored.lane is not None:
            self._waiting_heads.discard(stored)
            self._unlock(stored.lane)

    def _unlock(self, lane: str) -> None:
        left = self._locked.get(lane, 0) - 1
        if left > 0:
            self._locked[lane] = left
            return
        self._locked.pop(lane, None)
        if lane in self._lanes:
            self._free_lanes[lane] = None
            self._wake_receiver()

    def retry(self, stored: Stored, delay: float) -> None:
        """Back to where it was after `delay` seconds; the rest of its lane waits."""
        if delay > 0:
            self.depth += 1
            self._put_later(stored, delay)
            if stored.lane is not None:  # the whole lane waits for its head
                self._locked[stored.lane] += 1
                self._waiting_heads.add(stored)
            self.remove(stored)
        else:
            self.give_back([stored])

    def give_back(self, returned: Sequence[Stored]) -> None:
        """Back to where they were, at once."""
        for stored in returned:
            if stored.lane is not None:  # into its lane before the lock goes: no later message may pass it
                self.depth += 1
                self._into_lane(stored)
            self.remove(stored)
        self._put_back([stored for stored in returned if stored.lane is None])

    def extend(self, stored: Stored, seconds: float) -> None:
        """Have the lease end `seconds` from now."""
        stored.lease_ends = self._clock.now() + seconds
        if self._lease_alarm is None or stored.lease_ends < self._lease_alarm.at:
            self._arm_lease(seconds)

    def _arm_lease(self, seconds: float) -> None:
        if self._lease_alarm is not None:
            self._lease_alarm.cancel()
        self._lease_alarm = self._alarms.call(seconds, self._leases_over)

    def _leases_over(self) -> None:
        self._lease_alarm = None
        now = self._clock.now()
        self.give_up(stored for stored in self.in_flight if stored.lease_ends <= now)
        if self.in_flight:
            self._arm_lease(min(stored.lease_ends for stored in self.in_flight) - now)

    def give_up(self, lapsed: Iterable[Stored]) -> None:
        """Leases that ended unsettled: back to the queue, or dead where they were delivered too often."""
        back: list[Stored] = []
        for stored in list(lapsed):
            stored.attempt += 1  # its holder may have started it: a crash counts
            if self.max_deliveries is not None and stored.deliveries >= self.max_deliveries:
                self.remove(stored)
                self._bury(self.source, stored, f"delivered {stored.deliveries} times without being settled")
            else:
                back.append(stored)
        self.give_back(back)

    # -- back-pressure and purge

    async def wait_for_room(self) -> None:
        """Until a message was taken."""
        waiter: asyncio.Future[None] = self._alarms.loop.create_future()
        self._room.append(waiter)
        await waiter

    def _tell_room(self) -> None:
        while self._room:
            waiter = self._room.popleft()
            if not waiter.done():
                waiter.set_result(None)

    def purge(self) -> int:
        """Throw away what waits; how many."""
        count, self.depth = self.depth, 0
        for _, _, stored in self._delayed:
            self._unlock_head(stored)
        self._ready.clear()
        self._lanes.clear()
        self._free_lanes.clear()
        self._delayed.clear()
        self._arm_delay()
        self._tell_room()
        return count
