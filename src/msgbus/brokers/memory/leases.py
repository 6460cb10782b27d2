"""What is leased out of one queue, and the alarm for the lease that ends first."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from msgbus.brokers.memory.stored import Holder, Stored
from msgbus.clock import Alarms, Call, Clock
from msgbus.message import Delivery, Source


class Leases:
    """`in_flight`: the messages whose deliveries are out. `lapsed(messages)` is told whose leases ended unsettled."""

    def __init__(self, clock: Clock, alarms: Alarms, lapsed: Callable[[Iterable[Stored]], None]) -> None:
        self.in_flight: dict[Stored, None] = {}
        self._clock = clock
        self._alarms = alarms
        self._lapsed = lapsed
        self._alarm: Call | None = None

    def lease_out(self, taken: Sequence[Stored], source: Source, holder: Holder) -> list[Delivery]:
        """A delivery of each, leased to `holder`."""
        ends = self._clock.now() + holder.lease
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
        if self._alarm is None or ends < self._alarm.at:
            self._arm(holder.lease)
        return deliveries

    def extend(self, stored: Stored, seconds: float) -> None:
        """Have the lease end `seconds` from now."""
        stored.lease_ends = self._clock.now() + seconds
        if self._alarm is None or stored.lease_ends < self._alarm.at:
            self._arm(seconds)

    def _arm(self, seconds: float) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = self._alarms.call(seconds, self._over)

    def _over(self) -> None:
        self._alarm = None
        now = self._clock.now()
        self._lapsed(stored for stored in self.in_flight if stored.lease_ends <= now)
        if self.in_flight:
            self._arm(min(stored.lease_ends for stored in self.in_flight) - now)
