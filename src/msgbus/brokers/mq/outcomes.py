"""What became of messages that were sent together and are confirmed one by one, in any order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Generic, TypeVar

from msgbus.errors import BusError

T = TypeVar("T")


class Outcomes(Generic[T]):
    """The messages of one call; `done` is set when each has its outcome. None: the server has it."""

    __slots__ = ("done", "left", "results", "sent")

    def __init__(self, sent: Sequence[T], loop: asyncio.AbstractEventLoop) -> None:
        self.sent = sent
        self.results: list[BusError | None] = [None] * len(sent)
        self.left = len(sent)
        self.done: asyncio.Future[None] = loop.create_future()

    def settle(self, place: int, error: BusError | None) -> None:
        """The outcome of one. Its error stays where that was written into `results` before its confirm."""
        if error is not None:
            self.results[place] = error
        self.left -= 1
        if not self.left and not self.done.done():
            self.done.set_result(None)


Pending = tuple[Outcomes[T], int]
"""One message that is not confirmed yet: the call, and its place there."""


def fail(pending: Iterable[Pending[T]], error: Callable[[T], BusError]) -> None:
    """No confirms come any more: `error(message)` is the outcome of each."""
    for outcomes, place in pending:
        outcomes.settle(place, error(outcomes.sent[place]))
