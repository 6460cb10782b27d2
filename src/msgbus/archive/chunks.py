"""Cuts the records of each shard into chunks, and names them. Sans-IO.

A chunk is a run of records of one shard, in their order, of one window of time. It is named by its first record, and
begins at a checkpoint or where the chunk before it ended. So whoever writes it again, after a crash between writing
and checkpoint, writes it under the same name: each position is in the archive once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

from msgbus.archive.record import Archived, Format
from msgbus.errors import DecodeError
from msgbus.message import Delivery

_HOUR = 3600.0
_MANY = 60  # listings, before wider ones are better
_PATTERNS = ((_HOUR, "%Y/%m/%d/%H/"), (24 * _HOUR, "%Y/%m/%d/"), (28 * 24 * _HOUR, "%Y/%m/"))


@dataclass(slots=True, eq=False)
class Chunk:
    """`window`: where its window of time begins, in Unix seconds. `size`: bytes of its data."""

    window: float
    records: list[Archived] = field(default_factory=list)
    deliveries: list[Delivery] = field(default_factory=list)
    size: int = 0

    def add(self, record: Archived, delivery: Delivery) -> None:
        """The next record of its shard."""
        self.records.append(record)
        self.deliveries.append(delivery)
        self.size += len(record.data)

    def name(self, kind: Format = "jsonl") -> str:
        """By hour and shard: `2026/11/24/06/shardId-000000000000/3010-SEQUENCE-SUB.jsonl`."""
        first = self.records[0]
        at = datetime.fromtimestamp(self.window, UTC)
        return f"{at:%Y/%m/%d/%H}/{first.shard}/{at:%M%S}-{first.sequence}-{first.sub}.{kind}"


class Chunks:
    """The open chunk of each shard. `window` in seconds; a full chunk ends before its window does."""

    def __init__(self, window: float = 10.0, most_records: int = 5_000, most_bytes: int = 16 * 1024 * 1024) -> None:
        self._window = window
        self._most_records = most_records
        self._most_bytes = most_bytes
        self._open: dict[str, Chunk] = {}

    def add(self, delivery: Delivery) -> Iterator[Chunk]:
        """Take the next record of its shard; the chunk that ends before it, and the one that ends with it."""
        record = Archived.of(delivery)
        window = record.time // self._window * self._window
        chunk = self._open.get(record.shard)
        if chunk is not None and window > chunk.window:  # one that is late stays with those before it
            yield self._open.pop(record.shard)
            chunk = None
        if chunk is None:
            chunk = self._open[record.shard] = Chunk(window)
        chunk.add(record, delivery)
        if len(chunk.records) >= self._most_records or chunk.size >= self._most_bytes:
            yield self._open.pop(record.shard)

    def over(self, now: float, grace: float) -> list[Chunk]:
        """Chunks whose window ended `grace` seconds ago: nothing came that would have ended them."""
        ended = [shard for shard, chunk in self._open.items() if now >= chunk.window + self._window + grace]
        return [self._open.pop(shard) for shard in ended]

    def all(self) -> list[Chunk]:
        """Every open chunk, which ends."""
        chunks, self._open = list(self._open.values()), {}
        return chunks

    def drop(self, shard: str) -> None:
        """The shard is somebody else's now: what is open of it is read again there."""
        self._open.pop(shard, None)


def order_of(name: str) -> tuple[str, str, int, int]:
    """Chunks in the order of time; of one window, parents before their children. Raises DecodeError for other names."""
    try:
        *path, _, file = name.split("/")
        time, sequence, sub = file.rpartition(".")[0].split("-")
        return "/".join(path[-4:]), time, int(sequence), int(sub)
    except ValueError as error:
        raise DecodeError(
            f"{name!a:.200} is no name of a chunk: in the folders of an archive there may be nothing else"
        ) from error


def prefixes(since: float, until: float) -> list[str]:
    """Where the names of a span begin: by hour, or by day or month where that would be many."""
    fine = [each for each in _PATTERNS if until - since <= _MANY * each[0]]
    step, pattern = fine[0] if fine else _PATTERNS[-1]
    last = _late(until)
    times = [since + place * step for place in range(int((last - since) // step) + 1)] + [last]
    return list(dict.fromkeys(datetime.fromtimestamp(time, UTC).strftime(pattern) for time in times))


def is_within(name: str, since: float, until: float) -> bool:
    """Whether a chunk may hold records of a span."""
    hour = order_of(name)[0]
    first, last = (f"{datetime.fromtimestamp(time, UTC):%Y/%m/%d/%H}" for time in (since, _late(until)))
    return first <= hour <= last


def _late(until: float) -> float:
    """A record that is late lies in a window after its own."""
    return until + _HOUR
