"""What each shard takes in a second: better to wait here than to be refused there. Sans-IO.

Source: "Quotas and limits": 1,000 records and 1 MiB a second a shard.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from msgbus.brokers.kinesis.batching import Put
from msgbus.errors import BusError, Throttled
from msgbus.message import Receipt

SHARD_RECORDS = 1000.0
SHARD_BYTES = 1024.0 * 1024


@dataclass(slots=True)
class _Bucket:
    records: float
    bytes: float
    at: float


class Rates:
    """Token buckets of one second, one for each shard."""

    def __init__(self, now: Callable[[], float], records: float = SHARD_RECORDS, bytes_: float = SHARD_BYTES) -> None:
        self._now = now
        self._records = records
        self._bytes = bytes_
        self._buckets: dict[str, _Bucket] = {}

    def take(self, put: Put) -> float:
        """0.0: it may go. Otherwise the seconds after which it may; nothing is taken then."""
        if not put.shard:
            return 0.0
        now = self._now()
        bucket = self._buckets.get(put.shard)
        if bucket is None:
            bucket = self._buckets[put.shard] = _Bucket(self._records, self._bytes, now)
        passed = now - bucket.at
        bucket.records = min(self._records, bucket.records + passed * self._records)
        bucket.bytes = min(self._bytes, bucket.bytes + passed * self._bytes)
        bucket.at = now
        if bucket.records >= 1 and bucket.bytes > 0:
            bucket.records -= 1
            bucket.bytes -= put.size  # below zero by one large record: the next one waits for it
            return 0.0
        return max((1 - bucket.records) / self._records, -bucket.bytes / self._bytes, 0.001)


def within_rates(puts: Sequence[Put], rates: Rates, results: list[Receipt | BusError]) -> list[Put]:
    """What may go now; the rest comes back as throttled. A shard that is full stays full for the rest of the batch."""
    going: list[Put] = []
    full: dict[str, float] = {}
    for put in puts:
        wait = full.get(put.shard) or rates.take(put)
        if not wait:
            going.append(put)
            continue
        full[put.shard] = wait
        error = Throttled(f"{put.shard}: gets more than it takes in a second (rate=... in the URL)", wait)
        for entry in put.entries:
            results[entry.place] = error
    return going
