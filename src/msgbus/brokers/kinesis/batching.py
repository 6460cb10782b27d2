"""Entries into calls and aggregates, within the limits of the service. Sans-IO.

Source: PutRecords in the API reference and "Quotas and limits": 500 records and 10 MiB a call, a record of 1 MiB
with its key (a stream may allow up to 10 MiB).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, NotRequired, TypedDict

from msgbus.brokers.kinesis import aggregation
from msgbus.brokers.kinesis.aggregation import UserRecord
from msgbus.brokers.kinesis.hashing import ShardMap, hash_of
from msgbus.brokers.splitting import split

RECORDS = 500
CALL_BYTES = 10 * 1024 * 1024
RECORD_BYTES = 1024 * 1024
MOST_RECORD_BYTES = 10 * 1024 * 1024
CHECKED = ("msgbus", "")
"""The tag of an aggregate's first record: its sender sends again what landed in a shard that is not its own."""

GROUP_TAG = "msgbus-group"
"""The tag of a message for one group alone, such as a redriven dead letter. Other groups pass over it."""

_MOST_KEY = 4 * 256  # bytes of a partition key


class Record(TypedDict):
    """A record of PutRecords."""

    Data: bytes
    PartitionKey: str
    ExplicitHashKey: NotRequired[str]


class Entry(NamedTuple):
    """One message: its place in the caller's batch, and what becomes of it on the wire."""

    place: int
    record: UserRecord
    hash: int


class Put(NamedTuple):
    """One record of PutRecords and the entries in it. `size`: of data and key, as the service counts.

    `shard`: where it should land, "" if unknown.
    """

    entries: Sequence[Entry]
    key: str
    data: bytes
    size: int
    explicit: str = ""
    shard: str = ""

    @property
    def record(self) -> Record:
        """As PutRecords takes it."""
        record: Record = {"Data": self.data, "PartitionKey": self.key}
        if self.explicit:
            record["ExplicitHashKey"] = self.explicit
        return record


def size_with(key: str, data: bytes) -> int:
    """Bytes of a record."""
    return len(data) + (len(key) if key.isascii() else len(key.encode()))


def entry_of(place: int, record: UserRecord) -> Entry:
    """Finds the hash that decides its shard."""
    return Entry(place, record, int(record.explicit) if record.explicit else hash_of(record.key))


def plain(entry: Entry, shards: ShardMap | None) -> Put:
    """A record of its own; one with tags needs the frame, which is where tags are."""
    shard = shards.of(entry.hash) if shards is not None else None
    record = entry.record
    data = aggregation.encode([record]) if record.tags else record.data
    size = size_with(record.key, data)
    return Put((entry,), record.key, data, size, record.explicit, shard.id if shard is not None else "")


def aggregated(entries: Sequence[Entry], shards: ShardMap, limit: int) -> Iterator[Put]:
    """Entries of one shard together, up to `limit` bytes; what is alone or too large goes as it is.

    An aggregate travels under the hash key of its first entry, so that it lands where all of them belong.
    """
    groups: dict[str, list[Entry]] = {}
    sizes: dict[str, int] = {}
    for entry in entries:
        shard = shards.of(entry.hash)
        size = aggregation.size_of(entry.record)
        if shard is None or size > limit:
            yield plain(entry, shards)
            continue
        group = groups.setdefault(shard.id, [])
        if group and sizes[shard.id] + size > limit:
            yield _together(group, shard.id, shards)
            groups[shard.id] = group = []
            sizes[shard.id] = 0
        group.append(entry)
        sizes[shard.id] = sizes.get(shard.id, 0) + size
    for shard_id, group in groups.items():
        if group:
            yield _together(group, shard_id, shards)


def _together(group: Sequence[Entry], shard: str, shards: ShardMap) -> Put:
    if len(group) == 1:
        return plain(group[0], shards)
    first, *others = (entry.record for entry in group)
    data = aggregation.encode([first._replace(tags=(*first.tags, CHECKED)), *others])
    key = group[0].record.key
    return Put(tuple(group), key, data, size_with(key, data), str(group[0].hash), shard)


def spans(records: Sequence[Record], limit: int = CALL_BYTES) -> Iterator[slice]:
    """Calls of at most 500 records and `limit` bytes, as parts of `records`."""
    if 0 < len(records) <= RECORDS and sum([len(record["Data"]) + _MOST_KEY for record in records]) <= limit:
        yield slice(len(records))
        return
    sizes = [size_with(record["PartitionKey"], record["Data"]) for record in records]
    yield from (part for part, _ in split(sizes, RECORDS, limit))
