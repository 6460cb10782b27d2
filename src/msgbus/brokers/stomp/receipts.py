"""Which frames the server has confirmed: each that asks for a receipt gets one, in any order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from msgbus.brokers.stomp.codec import Frame
from msgbus.errors import BusError


class Outcomes:
    """What became of the frames of one call: None is confirmed. `done` is set when each has a result.

    `together`: the one frame is the COMMIT of a transaction. `doubt`: something in it failed.
    """

    __slots__ = ("done", "doubt", "frames", "left", "results", "together")

    def __init__(self, frames: Sequence[Frame], loop: asyncio.AbstractEventLoop, *, together: bool = False) -> None:
        self.frames = frames
        self.results: list[BusError | None] = [None] * len(frames)
        self.left = len(frames)
        self.done: asyncio.Future[None] = loop.create_future()
        self.together = together
        self.doubt: BusError | None = None

    def settle(self, place: int, result: BusError | None) -> None:
        """The result of one of them."""
        self.results[place] = result or self.doubt
        self.left -= 1
        if not self.left and not self.done.done():
            self.done.set_result(None)


class Receipts:
    """The receipts that are still to come, by their ids."""

    def __init__(self) -> None:
        self._last = 0
        self._awaited: dict[str, tuple[Outcomes, int]] = {}

    def expect(self, outcomes: Outcomes, place: int = 0) -> str:
        """The id for the `receipt` header of one of its frames."""
        self._last += 1
        receipt = str(self._last)
        self._awaited[receipt] = outcomes, place
        return receipt

    def came(self, receipt: str, error: BusError | None = None) -> bool:
        """A RECEIPT, or an ERROR with its id. False where nobody waits for it."""
        awaited = self._awaited.pop(receipt, None)
        if awaited is None:
            return False
        awaited[0].settle(awaited[1], error)
        return True

    def doubt(self, error: BusError) -> bool:
        """An ERROR that names no receipt: it may be of any open transaction. False where there is none."""
        open_ = [outcomes for outcomes, _ in self._awaited.values() if outcomes.together]
        for outcomes in open_:
            outcomes.doubt = error
        return bool(open_)

    def fail(self, error: Callable[[Frame], BusError]) -> None:
        """No more receipts come: `error(frame)` is the result of each that is missing."""
        awaited, self._awaited = self._awaited, {}
        for outcomes, place in awaited.values():
            outcomes.settle(place, error(outcomes.frames[place]))
