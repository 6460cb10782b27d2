"""Which publications are confirmed. Confirms are multiple and come in any order: a dict and a low mark, no queue."""

from __future__ import annotations

from collections.abc import Callable

from msgbus.brokers.amqp.errors import rejected
from msgbus.brokers.amqp.wire import Publication, Unrouted
from msgbus.brokers.mq.outcomes import Outcomes, Pending, fail
from msgbus.errors import BusError


class Confirms:
    """The unconfirmed publications of one channel, by publish sequence number (from 1)."""

    def __init__(self) -> None:
        self.last = 0
        self.pending: dict[int, Pending[Publication]] = {}
        self._low = 1  # nothing below it is pending
        self._looked = 0  # returns come in the order of publishing: none is to be looked for up to here

    def add(self, batch: Outcomes[Publication], place: int) -> None:
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
                batch.settle(place, None if ok else rejected(batch.sent[place]))
        if multiple:
            self._low = max(self._low, tag + 1)

    def returned(self, exchange: str, routing_key: str, matches: Callable[[Publication], bool]) -> None:
        """A Basic.Return, which comes before its confirm: it is of the first that fits, after the last one returned."""
        for tag in range(max(self._looked + 1, self._low), self.last + 1):
            entry = self.pending.get(tag)
            if entry is None:
                continue
            batch, place = entry
            publication = batch.sent[place]
            is_there = publication.exchange == exchange and publication.routing_key == routing_key
            if is_there and publication.mandatory and matches(publication):
                batch.results[place] = Unrouted(f"{routing_key}: no queue took it")
                self._looked = tag
                return

    def fail(self, error: Callable[[Publication], BusError]) -> None:
        """The channel is gone: `error(publication)` is the outcome of each that is not confirmed."""
        pending, self.pending = self.pending, {}
        fail(pending.values(), error)
