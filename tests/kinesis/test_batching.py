"""Calls and aggregates keep to every limit, lose nothing and keep each key's order."""

from itertools import chain

from hypothesis import given
from hypothesis import strategies as st
from tests.kinesis.strategies import UNHURRIED, USER_RECORDS, lineages
from tests.scripted import HandClock

from msgbus.brokers.kinesis.aggregation import UserRecord, decode, size_of
from msgbus.brokers.kinesis.batching import (
    CALL_BYTES,
    CHECKED,
    RECORDS,
    Put,
    Record,
    aggregated,
    entry_of,
    plain,
    spans,
)
from msgbus.brokers.kinesis.hashing import HIGHEST, Shard, ShardMap
from msgbus.brokers.kinesis.rates import Rates


@UNHURRIED
@given(st.lists(USER_RECORDS, max_size=40), lineages(), st.integers(50, 400))
def test_aggregates_hold_each_entry_once_in_the_shard_it_belongs_to(
    records: list[UserRecord], shards: list[Shard], limit: int
) -> None:
    entries, known = [entry_of(*each) for each in enumerate(records)], ShardMap(shards)
    puts = list(aggregated(entries, known, limit))
    assert sorted(entry.place for put in puts for entry in put.entries) == list(range(len(records)))
    for put in puts:
        home = next(shard for shard in shards if shard.id == put.shard)
        assert all(home.owns(entry.hash) for entry in put.entries)
        assert home.owns(int(put.explicit)) if put.explicit else home.owns(put.entries[0].hash)
        if len(put.entries) > 1:
            inside = decode(put.data)
            assert inside is not None
            assert inside[0] == put.entries[0].record._replace(tags=(*put.entries[0].record.tags, CHECKED))
            assert inside[1:] == [entry.record for entry in put.entries[1:]]
            assert sum(size_of(entry.record) for entry in put.entries) <= limit


@UNHURRIED
@given(st.lists(USER_RECORDS, max_size=40), lineages())
def test_the_order_in_a_shard_is_kept(records: list[UserRecord], shards: list[Shard]) -> None:
    small = [record for record in records if size_of(record) <= 300]  # a large one overtakes what gathers
    puts = aggregated([entry_of(*each) for each in enumerate(small)], ShardMap(shards), 300)
    for shard in shards:
        places = [entry.place for put in puts if put.shard == shard.id for entry in put.entries]
        assert places == sorted(places)


@UNHURRIED
@given(st.lists(st.integers(0, 60), max_size=60), st.integers(60, 200))
def test_calls_keep_to_their_limits(sizes: list[int], limit: int) -> None:
    records = [Record(Data=bytes(size), PartitionKey="") for size in sizes]
    parts = [records[span] for span in spans(records, limit)]
    assert list(chain.from_iterable(parts)) == records
    assert all(1 <= len(part) <= RECORDS and sum(len(each["Data"]) for each in part) <= limit for part in parts)


@UNHURRIED
@given(st.integers(0, 1600), st.integers(0, 40_000))
def test_a_call_has_at_most_500_records_and_10_mib(count: int, size: int) -> None:
    records = [Record(Data=bytes(size), PartitionKey="k" * 256)] * count
    counts = [len(records[span]) for span in spans(records)]
    most = min(RECORDS, CALL_BYTES // (size + 256))
    assert counts == [most] * (count // most) + [count % most] * (count % most > 0)


@UNHURRIED
@given(USER_RECORDS)
def test_only_tags_and_company_need_the_frame(record: UserRecord) -> None:
    put = plain(entry_of(0, record), None)
    assert put.shard == ""
    assert (put.data == record.data) is not bool(record.tags) or put.data == record.data
    if record.tags:
        assert decode(put.data) == [record]


def _rates(clock: HandClock) -> Rates:
    return Rates(clock.now, records=10.0, bytes_=1000.0)


async def test_a_shard_takes_its_rate_and_no_more(clock: HandClock) -> None:
    rates, put = _rates(clock), Put((), "k", b"x", 2, shard="s")
    assert [rates.take(put) for _ in range(10)] == [0.0] * 10
    wait = rates.take(put)
    assert 0 < wait <= 0.1
    assert rates.take(put._replace(shard="other")) == 0.0
    await clock.advance(wait)
    assert rates.take(put) == 0.0
    assert rates.take(put) > 0


async def test_a_large_record_goes_and_the_next_one_waits_for_it(clock: HandClock) -> None:
    rates = _rates(clock)
    assert rates.take(Put((), "", bytes(3000), 3000, shard="s")) == 0.0
    wait = rates.take(Put((), "", b"x", 1, shard="s"))
    assert wait >= 2.0
    await clock.advance(wait + 0.01)
    assert rates.take(Put((), "", b"x", 1, shard="s")) == 0.0


def test_an_unknown_shard_is_not_held_back(clock: HandClock) -> None:
    rates = _rates(clock)
    assert [rates.take(Put((), "k", b"x", 2)) for _ in range(50)] == [0.0] * 50


def test_explicit_hashes_decide() -> None:
    halves = ShardMap([Shard("low", 0, HIGHEST // 2), Shard("high", HIGHEST // 2 + 1, HIGHEST)])
    assert plain(entry_of(0, UserRecord("k", b"", "0")), halves).shard == "low"
    assert plain(entry_of(0, UserRecord("k", b"", str(HIGHEST))), halves).shard == "high"
