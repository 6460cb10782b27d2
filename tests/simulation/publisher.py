"""What publishes and asks in a simulation."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence

from tests.simulation.ledger import Ledger
from tests.simulation.scenario import Item, Scenario
from tests.simulation.service import Load, Targets, bus_of

from msgbus import BusError, Outgoing
from msgbus.broker import Result
from msgbus.clock import Clock
from msgbus.errors import PublishFailed, RemoteError
from msgbus.publishing.middleware import SendNext

_ASKED = 120.0  # seconds that a request may take


class Publisher:
    """Publishes the scenario's items: those of one key to one target one after the other, each when it is confirmed."""

    def __init__(self, scenario: Scenario, ledger: Ledger, clock: Clock) -> None:
        self.bus = bus_of("publisher", clock, 0.0, self._number)
        self._targets = Targets(ordered=scenario.ordered)
        self._scenario = scenario
        self._ledger = ledger
        self._clock = clock

    async def _number(self, batch: Sequence[Outgoing], send: SendNext) -> Sequence[Result]:
        """A middleware: which id is which message."""
        self._ledger.ids.update((out.id, json.loads(out.body)["n"]) for out in batch)
        return await send(batch)

    async def run(self) -> None:
        """Until every item was published, or could not be."""
        rows: dict[tuple[str, str], list[Item]] = {}
        for item in sorted(self._scenario.items, key=lambda item: (item.at, item.n)):
            key = str(item.n) if item.target == "call" else item.key
            rows.setdefault((item.target, key), []).append(item)
        async with asyncio.TaskGroup() as group:
            for row in rows.values():
                group.create_task(self._publish_row(row))

    async def _publish_row(self, row: list[Item]) -> None:
        start, burst = self._clock.now(), self._scenario.burst
        for first in range(0, len(row), burst):
            items = row[first : first + burst]
            await self._clock.sleep(start + items[-1].at - self._clock.now())
            try:
                await self._publish(items)
            except PublishFailed as error:
                for item, result in zip(items, error.results, strict=True):
                    self._tell(item, result if isinstance(result, BusError) else None)
            except BusError as error:
                for item in items:
                    self._tell(item, error)
            else:
                for item in items:
                    self._tell(item, None)

    def _tell(self, item: Item, error: BusError | None) -> None:
        if error is None:
            self._ledger.confirmed.append(item)
            self._ledger.note(f"{item.target} {item.n} of {item.key} is confirmed")
            return
        self._ledger.unknown[item.n] = type(error).__name__
        self._ledger.note(f"{item.target} {item.n} is not confirmed: {type(error).__name__}")
        if item.target == "call" and isinstance(error, RemoteError) and not item.fails:
            self._ledger.violated(f"request {item.n} failed: {error}")

    async def _publish(self, items: list[Item]) -> None:
        loads, target = [Load(item.n, item.key) for item in items], items[0].target
        if target == "call":
            reply = await self.bus.request(self._targets.call, loads[0], timeout=_ASKED)
            if reply.n != items[0].n:
                self._ledger.violated(f"request {items[0].n} was given the reply to {reply.n}")
        elif len(items) > 1:
            await self.bus.publish_many(self._targets.topic if target == "topic" else self._targets.queue, loads)
        elif target == "topic":
            await self.bus.publish(self._targets.topic, loads[0])
        else:
            await self.bus.send(self._targets.queue, loads[0])
