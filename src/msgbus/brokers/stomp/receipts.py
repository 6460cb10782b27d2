"""Which frames the server has confirmed: each that asks for a receipt gets one, in any order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from msgbus.brokers.stomp.codec import Frame
from msgbus.errors import BusError


class Outcomes:
    """The results of one `publish`: None is confirmed. `done` is set when each has one."""

    __slots__ = ("done", "left", "results")

    def __init__(self, count: int, loop: asyncio.AbstractEventLoop) -> None:
        self.results: list[BusError | None] = [None] * count
        self.left = count
        self.done: asyncio.Future[None] = loop.create_future()

    def settle(self, places: Sequence[int], result: BusError | None) -> None:
        """The result of some of them."""
        if result is not None:
            for place in places:
                self.results[place] = result
        self.left -= len(places)
        if not self.left and not self.done.done():
            self.done.set_result(None)


class Awaited:
    """What one receipt confirms: `frame` is the one that asked. `doubt`: something in its transaction failed."""

    __slots__ = ("doubt", "frame", "outcomes", "places", "together")

    def __init__(self, outcomes: Outcomes, places: Sequence[int], frame: Frame, *, together: bool = False) -> None:
        self.outcomes = outcomes
        self.places = places
        self.frame = frame
        self.together = together
        self.doubt: BusError | None = None


class Receipts:
    """The receipts that are still to come, by their ids."""

    def __init__(self) -> None:
        self._last = 0
        self._awaited: dict[str, Awaited] = {}

    def expect(self, awaited: Awaited) -> str:
        """The id for the `receipt` header."""
        self._last += 1
        receipt = str(self._last)
        self._awaited[receipt] = awaited
        return receipt

    def came(self, receipt: str, error: BusError | None = None) -> bool:
        """A RECEIPT, or an ERROR with its id. False where nobody waits for it."""
        awaited = self._awaited.pop(receipt, None)
        if awaited is None:
            return False
        awaited.outcomes.settle(awaited.places, error or awaited.doubt)
        return True

    def doubt(self, error: BusError) -> bool:
        """An ERROR that names no receipt: it may be of any open transaction. False where there is none."""
        open_ = [awaited for awaited in self._awaited.values() if awaited.together]
        for awaited in open_:
            awaited.doubt = error
        return bool(open_)

    def fail(self, error: Callable[[Frame], BusError]) -> None:
        """No more receipts come: `error(frame)` is the result of each that is missing."""
        awaited, self._awaited = self._awaited, {}
        for each in awaited.values():
            each.outcomes.settle(each.places, error(each.frame))
