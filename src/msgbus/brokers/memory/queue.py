"""One queue of the embedded broker: ready, in flight, delayed, dead."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from msgbus.brokers.memory.lanes import Lanes
from msgbus.brokers.memory.leases import Leases
from msgbus.brokers.memory.stored import Holder, Stored, by_sequence
from msgbus.brokers.memory.waiters import Waiters
from msgbus.clock import Alarms, Call, Clock
from msgbus.message import Delivery, Source


class MemoryQueue:
    """Competing consumers on one list of messages.

    What comes back to an ordered queue goes where it was. `lease`: seconds, for a holder that asks for none.
    `receivers` wait for messages, senders for `room`. `bury(source, stored, reason)` is called for a message that was
    delivered too often.
    """

    def __init__(
        self, source: Source, clock: Clock, alarms: Alarms, *, lease: float, bury: Callable[[Source, Stored, str], None]
    ) -> None:
        self.source = source
        self.lease = lease
        self.max_deliveries: int | None = None
        self.depth = 0  # messages that wait, delayed ones too
        self.receivers = Waiters(alarms, self._has_more)
        self.room = Waiters(alarms, lambda: False)
        self.leases = Leases(clock, alarms, self.give_up)
        self.in_flight = self.leases.in_flight
        self._waiting = self.receivers.waiting  # looked at for each message
        self._clock = clock
        self._alarms = alarms
        self._bury = bury
        self._ready: deque[Stored] = deque()
        self._delayed: list[tuple[float, int, Stored]] = []
        self._delay_alarm: Call | None = None
        self._lanes = Lanes()
        self._expires = False  # some message here may
        self._waking = False

    def oldest(self) -> float | None:
        """When the oldest waiting message came, on the clock's `time`."""
        return min((stored.since for stored in (*self._ready, *self._lanes)), default=None)

    def _has_more(self) -> bool:
        return bool(self._ready or self._lanes.free)

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
            self._lanes.add(stored)
        if self._waiting and not self._waking:  # a turn of the loop later, to gather what this turn brings
            self._waking = True
            self._alarms.loop.call_soon(self._wake_soon)

    def _wake_soon(self) -> None:
        self._waking = False
        self.receivers.wake()

    def _put_back(self, returned: Iterable[Stored]) -> None:
        for stored in sorted(returned, key=by_sequence, reverse=True):
            self.depth += 1
            if not self._ready or stored.sequence < self._ready[0].sequence:
                self._ready.appendleft(stored)
            else:
                self._ready = deque(sorted((stored, *self._ready), key=by_sequence))
        self.receivers.wake()

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
            if stored.lane is None:
                self._ready.append(stored)
            else:
                self._lanes.add(stored)
                self._lanes.arrived(stored)
        self._arm_delay()
        self.receivers.wake()

    # -- out

    def take(self, limit: int, holder: Holder) -> list[Delivery]:
        """Up to `limit` messages, leased to `holder`."""
        taken: list[Stored] = []
        ready = self._ready
        while ready and len(taken) < limit:
            taken.append(ready.popleft())
        if self._lanes.free:
            self._lanes.take(limit, taken)
        if not taken:
            return []
        self.depth -= len(taken)
        if self.room.waiting:
            self.room.wake_all()
        if self._waiting and self._has_more():
            self.receivers.wake()
        deliveries = self.leases.lease_out(taken, self.source, holder)
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
        if stored.lane is not None and self._lanes.unlock(stored.lane):
            self.receivers.wake()

    def retry(self, stored: Stored, delay: float) -> None:
        """Back to where it was after `delay` seconds; the rest of its lane waits."""
        if delay > 0:
            self.depth += 1
            self._put_later(stored, delay)
            if stored.lane is not None:
                self._lanes.wait_for(stored)
            self.remove(stored)
        else:
            self.give_back([stored])

    def give_back(self, returned: Sequence[Stored]) -> None:
        """Back to where they were, at once."""
        for stored in returned:
            if stored.lane is not None:  # into its lane before the lock goes: no later message may pass it
                self.depth += 1
                self._lanes.add(stored)
            self.remove(stored)
        self._put_back([stored for stored in returned if stored.lane is None])

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

    def purge(self) -> int:
        """Throw away what waits; how many."""
        count, self.depth = self.depth, 0
        for _, _, stored in self._delayed:
            self._lanes.arrived(stored)
        self._ready.clear()
        self._lanes.clear()
        self._delayed.clear()
        self._arm_delay()
        self.room.wake_all()
        return count
