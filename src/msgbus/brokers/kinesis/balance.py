"""Who should hold which lease: decisions as pure functions of what the lease table says."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from msgbus.brokers.kinesis.hashing import Shard, ancestors
from msgbus.brokers.kinesis.rows import AT_TIMESTAMP, SHARD_END, TRIM_HORIZON, Row, row_of
from msgbus.message import Start


class Observer:
    """Sees which leases are not renewed any more, on its own clock: nobody else's clock matters."""

    def __init__(self, lease: float) -> None:
        self.lease = lease
        self._seen: dict[str, tuple[int, float]] = {}

    def look(self, rows: Iterable[Row], now: float) -> frozenset[str]:
        """The shards whose counter has stood still for a lease's time since it was first seen."""
        seen = {}
        for row in rows:
            known = self._seen.get(row.shard)
            seen[row.shard] = known if known is not None and known[0] == row.counter else (row.counter, now)
        self._seen = seen
        return frozenset(shard for shard, (_, since) in seen.items() if now - since >= self.lease)


@dataclass(frozen=True, slots=True)
class Decision:
    """`take`: nobody holds them. `ask`: to be given by their holders."""

    take: Sequence[Row] = ()
    ask: Sequence[Row] = ()


def is_ready(row: Row, rows: Mapping[str, Row]) -> bool:
    """Whether a shard may be read: its parents are finished, or nobody knows them any more."""
    return not row.ended and all(parent not in rows or rows[parent].ended for parent in row.parents)


def decide(rows: Sequence[Row], me: str, expired: frozenset[str], spread: int = 0) -> Decision:
    """What `me` should take or ask for now.

    Every worker aims at an equal share, rounded up. One that is short takes what nobody holds, in an order of its
    own (`spread`), so that those who start together don't all reach for the same; and asks the one that has most,
    if that one has at least two more.
    """
    by_shard = {row.shard: row for row in rows}
    ready = [row for row in rows if is_ready(row, by_shard)]
    free = [row for row in ready if not row.owner or row.shard in expired]
    held = Counter(row.owner for row in ready if row.owner and row.shard not in expired)
    share = math.ceil(len(ready) / len({*held, me}))
    short = share - held[me]
    if short <= 0:
        return Decision()
    if free:
        start = spread % len(free)
        return Decision(take=(free[start:] + free[:start])[:short])
    return Decision(ask=_to_ask(ready, held, me, short))


def _to_ask(ready: Sequence[Row], held: Mapping[str, int], me: str, short: int) -> Sequence[Row]:
    mine = held[me]
    most, count = max(held.items(), key=lambda item: (item[1], item[0]), default=("", 0))
    theirs = [row for row in ready if row.owner == most and not row.giver]
    return theirs[: max(0, min(short, (count - mine) // 2))]


def first_rows(shards: Sequence[Shard], start: Start, now: float) -> list[Row]:
    """The leases of a new group. `now`: Unix time, of the service rather than ours.

    "latest" is the time at which it subscribes: what is sent before its first consumer starts must not be skipped.
    """
    closed = {parent for shard in shards for parent in shard.parents}
    if start.at == "oldest":
        return [row_of(shard, TRIM_HORIZON) for shard in shards]
    if start.at == "time":
        return [row_of(shard, AT_TIMESTAMP, float(start.value or 0.0)) for shard in shards]
    if start.at == "position":
        return _at_positions(shards, str(start.value))
    return [row_of(shard, AT_TIMESTAMP, now) for shard in shards if not (shard.closed or shard.id in closed)]


def _at_positions(shards: Sequence[Shard], text: str) -> list[Row]:
    """Each named shard from its sequence number on, all others from their oldest record, ancestors of the named not."""
    parts = [part.partition(":") for part in text.split(",")]
    places = {shard: sequence for shard, _, sequence in parts}
    rows = [row_of(shard, TRIM_HORIZON) for shard in shards]
    gone = ancestors({shard.id: shard for shard in shards}, places)
    return [_at(row, places.get(row.shard)) for row in rows if row.shard not in gone]


def _at(row: Row, sequence: str | None) -> Row:
    return row if sequence is None else replace(row, checkpoint=sequence.partition(":")[0], sub=-1)


def missing_rows(shards: Sequence[Shard], rows: Mapping[str, Row]) -> list[Row]:
    """Leases for shards that came since: read from their beginning. Ancestors of what has a lease are done with."""
    known = {shard.id: shard for shard in shards}
    finished = ancestors(known, rows)
    return [row_of(shard, TRIM_HORIZON) for shard in shards if shard.id not in rows and shard.id not in finished]


def forgettable(shards: Sequence[Shard], rows: Mapping[str, Row]) -> list[Row]:
    """Finished leases of shards that the stream itself has forgotten, once what came out of them is being read."""
    listed = {shard.id for shard in shards}
    waiting = {parent for row in rows.values() if row.checkpoint == TRIM_HORIZON for parent in row.parents}
    return [row for row in rows.values() if row.ended and row.shard not in listed and row.shard not in waiting]


def restarted(shards: Sequence[Shard], rows: Mapping[str, Row], start: Start, now: float) -> list[Row]:
    """Every lease anew from `start`, freed from its owner; what `start` does not reach is finished."""
    fresh = {row.shard: row for row in first_rows(shards, start, now)}
    begun = [rows[shard].anew(row) if shard in rows else row for shard, row in fresh.items()]
    over = [
        row.changed(owner="", giver="", checkpoint=SHARD_END, sub=0, progress="")
        for shard, row in rows.items()
        if shard not in fresh
    ]
    return begun + over
