"""RETRY, DEAD and RELEASE by a copy: it is sent and confirmed, then the caller acknowledges the original.

Not both in one transaction: ActiveMQ stores a delayed message after the commit, and loses it when it dies in between.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgbus.brokers.mq.errors import passing
from msgbus.brokers.mq.sending import missing_queue
from msgbus.brokers.stomp.catalog import Catalog
from msgbus.brokers.stomp.dialect import Dialect
from msgbus.brokers.stomp.wires import Wires
from msgbus.errors import BusError, Unavailable
from msgbus.message import Act, Settlement, Source


class Copies:
    """Sends copies on the publishing connection."""

    def __init__(self, wires: Wires, catalog: Catalog, dialect: Dialect, time: Callable[[], float]) -> None:
        self._dialect = dialect
        self._time = time
        self._wires = wires
        self._catalog = catalog

    async def send(self, source: Source, settlements: Sequence[Settlement]) -> Sequence[BusError | None]:
        """None for each that is confirmed, else its error. Raises nothing but a cancellation."""
        dialect, queue = self._dialect, self._dialect.queue_of(source)
        dead = dialect.dead_of(queue)
        try:
            if not dialect.makes_queues and await self._catalog.missing(dialect, [dead]):
                refused = missing_queue(source, dead)
                return [refused if each.act is Act.DEAD else Unavailable(str(refused)) for each in settlements]
            frames = [dialect.copy(queue, each, self._time()) for each in settlements]
            return await self._wires.publish(frames, together=False)
        except BusError as error:
            return [passing(error)] * len(settlements)
