"""Records of a shard as they come: aggregates taken apart, what lies before the checkpoint passed over. Sans-IO."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping, Sequence
from typing import Any

from msgbus.brokers.kinesis import aggregation
from msgbus.brokers.kinesis.batching import CHECKED, GROUP_TAG
from msgbus.brokers.kinesis.hashing import hash_key_of
from msgbus.brokers.kinesis.parts import Form, taken_apart
from msgbus.brokers.kinesis.rows import Row
from msgbus.errors import DecodeError

SKIP = "msgbus-skip"
"""In a record that counts as settled."""

FAULT = "msgbus-fault"
"""In a record that can't be taken apart: why."""

MOST = 20_000
"""Records of an aggregate that is taken apart, where nothing else is said: 52 bytes each in a record of 1 MiB."""

_ENVELOPE = b'{"specversion":'  # of ours, which holds one message

Record = MutableMapping[str, Any]
"""As GetRecords gives it, with its ShardId; of a user record with its own key, data and SubSequenceNumber."""


def position_of(record: Record) -> tuple[str, int]:
    """Sequence number and sub-sequence number."""
    return record["SequenceNumber"], record.get("SubSequenceNumber", 0)


def order_of(position: tuple[str, int]) -> tuple[int, int]:
    """Positions compare as numbers."""
    return int(position[0]), position[1]


class Intake:
    """What is new of one shard for one group. `skips`: whether some records that it gave count as settled.

    `most`: user records of an aggregate; one that has more is handed in as it is. `parts`: what a record without a
    frame holds.
    """

    def __init__(self, row: Row, group: str, most: int = MOST, parts: Form = "one") -> None:
        self.skips = False
        self._row = row
        self._group = group
        self._most = most
        self._parts: Form = parts
        self._floor = row.position

    def unpacked(self, records: Sequence[Record]) -> Iterator[Record]:
        """Records of the shard, in order."""
        for record in records:
            record["ShardId"] = self._row.shard
            data: bytes = record["Data"]
            framed = self._parts != "one" or data.startswith(aggregation.MAGIC)
            users = self._opened(record, data) if framed else None
            if users is not None:
                yield from self._users(record, users)
            elif self._floor is None or self._is_new(record):
                yield record

    def _opened(self, record: Record, data: bytes) -> Sequence[aggregation.UserRecord] | None:
        try:
            if data.startswith(aggregation.MAGIC):
                return aggregation.decode(data, self._most)
            parts = None if data.startswith(_ENVELOPE) else taken_apart(data, self._parts, self._most)
            return None if parts is None else [aggregation.UserRecord(record["PartitionKey"], part) for part in parts]
        except DecodeError as error:
            record[FAULT] = error
            return None

    def _users(self, record: Record, users: Sequence[aggregation.UserRecord]) -> Iterator[Record]:
        checked = bool(users) and CHECKED in users[0].tags
        for sub, user in enumerate(users):
            own = {**record, "PartitionKey": user.key, "SubSequenceNumber": sub, "Data": user.data}
            if self._is_for_others(user) or (checked and self._is_elsewhere(user)):
                own[SKIP] = self.skips = True
            if self._is_new(own):
                yield own

    def _is_for_others(self, user: aggregation.UserRecord) -> bool:
        return any(name == GROUP_TAG and value != self._group for name, value in user.tags)

    def _is_elsewhere(self, user: aggregation.UserRecord) -> bool:
        """It landed here while the stream was split or merged, and was sent again to where it belongs."""
        hash_key = hash_key_of(user.key, user.explicit)
        return hash_key is not None and not self._row.first <= hash_key <= self._row.last

    def _is_new(self, record: Record) -> bool:
        """Whether it lies beyond the checkpoint: an aggregate can only be read again from its start."""
        if self._floor is not None:
            if order_of(position_of(record)) <= order_of(self._floor):
                return False
            self._floor = None
        return True
