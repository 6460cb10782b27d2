"""Keys to shards, and shards to their ancestors."""

import pytest
from hypothesis import given
from tests.kinesis.strategies import HASHES, UNHURRIED, lineages

from msgbus.brokers.kinesis.hashing import HIGHEST, Shard, ShardMap, ancestors, hash_of


@UNHURRIED
@given(lineages(), HASHES)
def test_every_hash_has_one_open_shard(shards: list[Shard], hash_key: int) -> None:
    found = ShardMap(shards).of(hash_key)
    assert [found] == [shard for shard in shards if not shard.closed and shard.owns(hash_key)]


@UNHURRIED
@given(lineages())
def test_closed_shards_are_known_by_their_children_too(shards: list[Shard]) -> None:
    """ListShards may be behind with the ending sequence number."""
    blind = [Shard(shard.id, shard.first, shard.last, shard.parents) for shard in shards]
    assert [s.id for s in ShardMap(blind).open] == [s.id for s in ShardMap(shards).open]


@UNHURRIED
@given(lineages())
def test_ancestors_are_closed_and_older(shards: list[Shard]) -> None:
    known = {shard.id: shard for shard in shards}
    for shard in shards:
        for each in ancestors(known, [shard.id]):
            assert known[each].closed
            assert shards.index(known[each]) < shards.index(shard)


def test_a_hole_has_no_shard() -> None:
    assert ShardMap([Shard("a", 10, 20)]).of(5) is None
    assert ShardMap([Shard("a", 10, 20)]).of(25) is None
    assert ShardMap([]).of(0) is None


@pytest.mark.parametrize(
    ("key", "expected"), [("a", "0cc175b9c0f1b6a831c399e269772661"), ("ü", "c03410a5204b21cd8229ff754688d743")]
)
def test_the_hash_is_the_md5_of_the_utf8(key: str, expected: str) -> None:
    assert hash_of(key) == int(expected, 16)


def test_shards_from_both_answers() -> None:
    listed = {
        "ShardId": "c",
        "HashKeyRange": {"StartingHashKey": "0", "EndingHashKey": str(HIGHEST)},
        "SequenceNumberRange": {"StartingSequenceNumber": "1", "EndingSequenceNumber": "9"},
        "ParentShardId": "a",
        "AdjacentParentShardId": "b",
    }
    child = {"ShardId": "c", "HashKeyRange": listed["HashKeyRange"], "ParentShards": ["a", "b"]}
    assert Shard.of(listed) == Shard("c", 0, HIGHEST, ("a", "b"), closed=True)
    assert Shard.of(child) == Shard("c", 0, HIGHEST, ("a", "b"))
