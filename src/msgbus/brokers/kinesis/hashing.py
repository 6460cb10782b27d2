"""Which shard a key belongs to, and which shards came from which. Sans-IO.

Source: "Amazon Kinesis Data Streams terminology" and ListShards in its API reference: MD5 maps a partition key to
128 bits, and each open shard owns one range of them.
"""

from __future__ import annotations

import bisect
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

HIGHEST = 2**128 - 1
"""The last hash key."""

KEY_CHARACTERS = 256
"""Of a partition key, at most."""


@lru_cache(maxsize=4096)
def hash_of(key: str) -> int:
    """The hash key of a partition key."""
    return int.from_bytes(hashlib.md5(key.encode(), usedforsecurity=False).digest(), "big")


def hash_key_of(key: str, explicit: str) -> int | None:
    """Where a record belongs; None where its explicit hash key is none: nobody looks at those inside an aggregate."""
    if not explicit:
        return hash_of(key)
    if not (explicit.isascii() and explicit.isdecimal() and len(explicit) < len(str(HIGHEST)) + 1):
        return None
    return hash_key if (hash_key := int(explicit)) <= HIGHEST else None


def partition_key(key: str) -> str:
    """The key itself where Kinesis takes it, else its hash."""
    if len(key) <= KEY_CHARACTERS and (key.isascii() or _is_utf8(key)):
        return key
    return "sha256-" + hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def _is_utf8(key: str) -> bool:
    try:
        key.encode()
    except UnicodeEncodeError:  # a lone surrogate
        return False
    return True


@dataclass(frozen=True, slots=True)
class Shard:
    """One shard, as ListShards tells. `closed`: it was split or merged, and gets nothing new."""

    id: str
    first: int = 0
    last: int = HIGHEST
    parents: tuple[str, ...] = ()
    closed: bool = False

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Shard:
        """From an entry of ListShards, or of the ChildShards of GetRecords."""
        hashes = told["HashKeyRange"]
        parents = told.get("ParentShards") or (told.get("ParentShardId"), told.get("AdjacentParentShardId"))
        return cls(
            told["ShardId"],
            int(hashes["StartingHashKey"]),
            int(hashes["EndingHashKey"]),
            tuple(parent for parent in parents if parent),
            bool((told.get("SequenceNumberRange") or {}).get("EndingSequenceNumber")),
        )

    def owns(self, hash_key: int) -> bool:
        """Whether a hash key lies in its range."""
        return self.first <= hash_key <= self.last


class ShardMap:
    """The open shards of a stream by their ranges."""

    def __init__(self, shards: Iterable[Shard]) -> None:
        self.by_id = {shard.id: shard for shard in shards}
        closed = {parent for shard in self.by_id.values() for parent in shard.parents}
        self.open = sorted(
            (shard for shard in self.by_id.values() if not shard.closed and shard.id not in closed),
            key=lambda shard: shard.first,
        )
        self._firsts = [shard.first for shard in self.open]

    def of(self, hash_key: int) -> Shard | None:
        """The shard that gets a hash key now; None where no range covers it (the map is out of date)."""
        place = bisect.bisect_right(self._firsts, hash_key) - 1
        if place < 0 or not self.open[place].owns(hash_key):
            return None
        return self.open[place]


def ancestors(shards: Mapping[str, Shard], of: Iterable[str]) -> set[str]:
    """Every shard that one of these came from, as far back as `shards` knows."""
    found: set[str] = set()
    left = list(of)
    while left:
        shard = shards.get(left.pop())
        for parent in shard.parents if shard is not None else ():
            if parent not in found:
                found.add(parent)
                left.append(parent)
    return found
