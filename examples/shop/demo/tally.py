"""Counts what happens to every message, and notices what must never happen. Nothing here is assumed."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from msgbus import Delivery, Outgoing
from msgbus import headers as h
from msgbus.message import Source


@dataclass(slots=True)
class Lane:
    """The messages of one key in one subscription: the number of the latest that started, and how many run now."""

    latest: int = 0
    running: int = 0


@dataclass(slots=True, eq=False)
class Row:
    """One subscription. Messages are known by their ids, so that one handled twice is not counted as two."""

    source: Source
    topic: str  # its declared name, without the prefix of the settings
    sent: dict[str, float] = field(default_factory=dict)  # id -> when
    handled: dict[str, float] = field(default_factory=dict)  # id -> seconds from sent to handled
    dead: set[str] = field(default_factory=set)  # dead now
    started: int = 0
    running: int = 0
    retried: int = 0
    deaths: int = 0
    handled_again: int = 0
    redriven: int = 0  # handled after a redrive
    out_of_order: int = 0
    letters: int | None = None  # dead letters in the end, as the broker counts them
    lanes: dict[str, Lane] = field(default_factory=lambda: defaultdict(Lane))

    @property
    def name(self) -> str:
        """As people say it."""
        return f"{self.topic} → {self.source.group}"

    @property
    def open(self) -> int:
        """How many messages wait or are being handled."""
        return max(0, len(self.sent) - len(self.handled) - len(self.dead))  # handled before it is confirmed: below 0

    @property
    def lost(self) -> int:
        """Once all has come to rest: neither handled nor kept as a dead letter."""
        return len(self.missing()) + max(0, len(self.dead) - (self.letters or 0))

    def is_done(self, message_id: str) -> bool:
        """Handled or dead."""
        return message_id in self.handled or message_id in self.dead

    def missing(self) -> set[str]:
        """Ids that were sent, and are neither handled nor dead."""
        return self.sent.keys() - self.handled.keys() - self.dead


class Tally:
    """An Observer of the shop: a row for each subscription of a topic."""

    def __init__(self, sources: Iterable[tuple[Source, str]]) -> None:
        self.rows = {source.address: Row(source, topic) for source, topic in sources if source.kind == "topic"}
        self._by_topic: dict[str, list[Row]] = defaultdict(list)
        for row in self.rows.values():
            self._by_topic[row.source.name].append(row)
        self._began: dict[str, float] = {}
        self._numbers: dict[str, int] = {}
        self._last_number: dict[tuple[str, str], int] = defaultdict(int)

    def sending(self, out: Outgoing) -> None:
        """Number the messages of a key in the order in which they go out."""
        if out.address.kind != "topic":
            return
        self._began[out.id] = time.monotonic()
        if out.key is not None:
            place = (out.address.name, out.key)
            self._last_number[place] += 1
            self._numbers[out.id] = self._last_number[place]

    def sent(self, out: Outgoing) -> None:
        """Each group of the topic owes it a handling now."""
        if out.address.kind == "topic":
            for row in self._by_topic[out.address.name]:
                row.sent[out.id] = self._began[out.id]

    def begun(self, delivery: Delivery) -> None:
        """An attempt."""
        row = self.rows.get(delivery.source.address)
        if row is None:
            return
        row.started += 1
        row.running += 1
        row.retried += delivery.attempt > 1
        if row.source.ordered:
            self._check_order(row, delivery)

    def ended(self, delivery: Delivery, *, handled: bool) -> None:
        """The end of an attempt."""
        row = self.rows.get(delivery.source.address)
        if row is None:
            return
        row.running -= 1
        if delivery.lane is not None:
            row.lanes[delivery.lane].running -= 1
        if handled:
            self._handled(row, delivery.headers)

    def buried(self, delivery: Delivery) -> None:
        """Dead, for now."""
        row = self.rows.get(delivery.source.address)
        if row is not None:
            row.deaths += 1
            row.dead.add(delivery.headers[h.ID])

    def open(self) -> int:
        """How many messages wait or are being handled."""
        return sum(row.open for row in self.rows.values())

    def started(self) -> int:
        """How often a handler did."""
        return sum(row.started for row in self.rows.values())

    def lost(self) -> int:
        """Meaningful once everything has come to rest."""
        return sum(row.lost for row in self.rows.values())

    def out_of_order(self) -> int:
        """How often a message began while or after a later one of its key did."""
        return sum(row.out_of_order for row in self.rows.values())

    def _check_order(self, row: Row, delivery: Delivery) -> None:
        lane = row.lanes[delivery.lane or ""]
        number = self._numbers.get(delivery.headers[h.ID], 0)
        if h.HOP in delivery.headers:  # redriven: it comes after those that passed it, as it must
            row.out_of_order += lane.running > 0
        else:
            row.out_of_order += lane.running > 0 or number < lane.latest
            lane.latest = max(lane.latest, number)
        lane.running += 1

    def _handled(self, row: Row, headers: Mapping[str, str]) -> None:
        message_id = headers[h.ID]
        if message_id in row.handled:
            row.handled_again += 1
            return
        row.handled[message_id] = time.monotonic() - self._began[message_id]
        row.redriven += h.HOP in headers
        row.dead.discard(message_id)
