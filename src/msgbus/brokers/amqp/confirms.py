"""Which publications are confirmed. Confirms are multiple and come in any order: a dict and a low mark, no queue."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from msgbus.brokers.amqp.errors import rejected
from msgbus.brokers.amqp.wire import Fate, Outcome, Publication
from msgbus.errors import BusError

_TAKEN, _UNROUTED = Fate.TAKEN, Fate.UNROUTED


class Batch:
    """The publications of one `publish`; `done` is set when each has its outcome."""

    __slots__ = ("done", "left", "outcomes", "publications")

    def __init__(self, publications: Sequence[Publication], loop: asyncio.AbstractEventLoop) -> None:
        self.publications = publications
        self.outcomes: list[Outcome] = [_TAKEN] * len(publications)
        self.left = len(publications)
        self.done: asyncio.Future[None] = loop.create_future()

    def settle(self, place: int, outcome: Outcome) -> None:
        """The outcome of one; one that was returned before its confirm stays unrouted."""
        if outcome is not _TAKEN:
            self.outcomes[place] = outcome
        self.left -= 1
        if not self.left and not self.done.done():
            self.done.set_result(None)


class Confirms:
    """The unconfirmed publications of one channel, by publish sequence number (from 1)."""

    def __init__(self) -> None:
        self.last = 0
        self.pending: dict[int, tuple[Batch, int]] = {}
        self._low = 1  # nothing below it is pending
        self._looked = 0  # returns come in the order of publishing: none is to be looked for up to here

    def add(self, batch: Batch, place: int) -> None:
        """The next one that goes out."""
        self.last += 1
        self.pending[self.last] = (batch, place)

    def confirm(self, tag: int, *, multiple: bool, ok: bool) -> None:
        """A Basic.Ack or Basic.Nack: of `tag`, or of all up to it."""
        pop = self.pending.pop
        for each in range(self._low, tag + 1) if multiple else (tag,):
            entry = pop(each, None)
            if entry is not None:
                batch, place = entry
                batch.settle(place, _TAKEN if ok else rejected(batch.publications[place]))
        if multiple:
            self._low = max(self._low, tag + 1)

    def returned(self, exchange: str, routing_key: str, matches: Callable[[Publication], bool]) -> None:
        """A Basic.Return, which comes before its confirm: it is of the first that fits, after the last one returned."""
        for tag in range(max(self._looked + 1, self._low), self.last + 1):
            entry = self.pending.get(tag)
            if entry is None:
                continue
            batch, place = entry
            publication = batch.publications[place]
            is_there = publication.exchange == exchange and publication.routing_key == routing_key
            if is_there and publication.mandatory and matches(publication):
                batch.outcomes[place] = _UNROUTED
                self._looked = tag
                return

    def fail(self, error: Callable[[Publication], BusError]) -> None:
        """The channel is gone: `error(publication)` is the outcome of each that is not confirmed."""
        pending, self.pending = self.pending, {}
        for batch, place in pending.values():
            batch.settle(place, error(batch.publications[place]))
