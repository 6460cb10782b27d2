"""Which frames the server has confirmed: each that asks for a receipt gets one, in any order."""

from __future__ import annotations

from collections.abc import Callable

from msgbus.brokers.mq.outcomes import Outcomes, Pending, fail
from msgbus.brokers.stomp.codec import Frame
from msgbus.errors import BusError


class Receipts:
    """The receipts that are still to come, by their ids."""

    def __init__(self) -> None:
        self._last = 0
        self._awaited: dict[str, Pending[Frame]] = {}

    def expect(self, outcomes: Outcomes[Frame], place: int = 0) -> str:
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
        open_ = [outcomes for outcomes, place in self._awaited.values() if outcomes.sent[place].command == "COMMIT"]
        for outcomes in open_:
            outcomes.results[0] = error
        return bool(open_)

    def fail(self, error: Callable[[Frame], BusError]) -> None:
        """No more receipts come: `error(frame)` is the result of each that is missing."""
        awaited, self._awaited = self._awaited, {}
        fail(awaited.values(), error)
