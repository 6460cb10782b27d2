"""What one worker settles, the next one does not see again; what it did not, the next one does. Whatever happened."""

import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.kinesis.strategies import UNHURRIED

from msgbus import headers as h
from msgbus.brokers.kinesis.aggregation import UserRecord, encode
from msgbus.brokers.kinesis.batching import CHECKED, GROUP_TAG
from msgbus.brokers.kinesis.hashing import HIGHEST, hash_of
from msgbus.brokers.kinesis.holding import Holding
from msgbus.brokers.kinesis.rows import SUSPECTS, TRIM_HORIZON, Open, Progress, Row
from msgbus.message import Delivery, Source

SOURCE = Source("topic", "orders", "billing", ordered=True)
ROW = Row(shard="s", checkpoint=TRIM_HORIZON)


def record(sequence: int, data: bytes = b"", key: str = "k") -> dict[str, Any]:
    return {"SequenceNumber": str(sequence), "PartitionKey": key, "Data": data, "ApproximateArrivalTimestamp": 1.0}


def stream(sizes: list[int]) -> list[dict[str, Any]]:
    """One record for each size; 0 is an ordinary one, others are aggregates of so many. Bodies count up."""
    number, records = 0, []
    for place, size in enumerate(sizes):
        users = [UserRecord(f"k{(number + each) % 3}", str(number + each).encode()) for each in range(max(1, size))]
        number += len(users)
        data = encode(users) if size else users[0].data
        records.append(record(100 + 7 * place, data, users[0].key))
    return records


def after(records: list[dict[str, Any]], row: Row) -> list[dict[str, Any]]:
    """What a reader gets that begins at the checkpoint of a lease."""
    position = row.position
    return [each for each in records if position is None or int(each["SequenceNumber"]) >= int(position[0])]


def settle(holding: Holding, delivery: Delivery) -> None:
    holding.done(delivery.token)


@UNHURRIED
@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=12), st.integers(0, 2**32), st.integers(1, 30), st.integers(1, 3)
)
def test_any_number_of_owners_settle_each_record_once(sizes: list[int], seed: int, tail: int, share: int) -> None:
    chance, records, row = random.Random(seed), stream(sizes), ROW
    count = sum(max(1, size) for size in sizes)
    seen: list[int] = []
    settled: set[int] = set()
    while len(settled) < count:
        holding = Holding(SOURCE, row, tail, share)
        holding.load(after(records, row))
        in_hand: list[Delivery] = []
        for _ in range(chance.randrange(1, 20)):
            in_hand += holding.take(chance.randrange(1, 5))
            assert len(holding.marks) <= tail
            chance.shuffle(in_hand)
            for delivery in [in_hand.pop() for _ in range(chance.randrange(len(in_hand) + 1))]:
                settle(holding, delivery)
                seen.append(int(delivery.body))
                settled.add(int(delivery.body))
        before = row
        row = holding.advanced(row, whole=True)
        assert before.position is None or (row.position is not None and _order(row) >= _order(before))
    assert sorted(seen) == list(range(count)), "each exactly once: every hand-over was told whole"
    assert row.position == (records[-1]["SequenceNumber"], max(0, sizes[-1] - 1))


def _order(row: Row) -> tuple[int, int]:
    assert row.position is not None
    return int(row.position[0]), row.position[1]


@UNHURRIED
@given(st.lists(st.integers(0, 4), min_size=1, max_size=12), st.integers(0, 2**32))
def test_a_crash_at_any_time_loses_nothing(sizes: list[int], seed: int) -> None:
    """What is written is some earlier state: records come again, none is left out."""
    chance, records, row = random.Random(seed), stream(sizes), ROW
    count = sum(max(1, size) for size in sizes)
    settled: set[int] = set()
    for _ in range(200):
        holding = Holding(SOURCE, row, 1000)
        holding.load(after(records, row))
        for _ in range(chance.randrange(1, 6)):
            for delivery in holding.take(chance.randrange(1, 5)):
                if chance.random() < 0.8:
                    settle(holding, delivery)
                    settled.add(int(delivery.body))
            if chance.random() < 0.5:
                row = holding.advanced(row, whole=chance.random() < 0.5)
    rest = Holding(SOURCE, row, 1000)
    rest.load(after(records, row))
    settled |= {int(delivery.body) for delivery in rest.take(1000)}
    assert settled == set(range(count))


def test_attempts_go_on_with_the_next_owner() -> None:
    holding = Holding(SOURCE, ROW, 10)
    holding.load([record(1, b'{"specversion":"1.0"}'), record(2)])
    failing, _ = holding.take(2)
    failing.attempt = 4
    failing.headers = {h.FIRST_FAILED: "1700000000.500"}
    row = holding.advanced(ROW, whole=True)
    following = Holding(SOURCE, row, 10)
    following.load([record(1, b'{"specversion":"1.0"}'), record(2)])
    again, other = following.take(2)
    assert (again.attempt, other.attempt) == (4, 1)
    assert again.headers[h.FIRST_FAILED] == "1700000000.500"
    assert again.headers[h.CONTENT_TYPE].startswith("application/cloudevents+json")
    assert other.headers == {h.KEY: "k"}


def test_messages_for_another_group_are_passed_over() -> None:
    holding = Holding(SOURCE, ROW, 10)
    holding.load(
        [
            record(1, encode([UserRecord("k", b"theirs", tags=((GROUP_TAG, "shipping"),))])),
            record(2, encode([UserRecord("k", b"ours", tags=((GROUP_TAG, "billing"),))])),
        ]
    )
    assert [delivery.body for delivery in holding.take(5)] == [b"ours"]
    assert holding.marks.committed == ("1", 0)


def test_what_landed_in_a_foreign_shard_is_passed_over_only_where_its_sender_sends_it_again() -> None:
    half = HIGHEST // 2
    keys = sorted((f"k{place}" for place in range(20)), key=hash_of)
    low, high = keys[0], keys[-1]
    row = Row(shard="s", first=0, last=half)
    assert hash_of(low) <= half < hash_of(high)
    for tags, expected in (((CHECKED,), [b"low"]), ((), [b"low", b"high"])):
        holding = Holding(SOURCE, row, 10)
        holding.load([record(1, encode([UserRecord(low, b"low", tags=tags), UserRecord(high, b"high")]))])
        assert [delivery.body for delivery in holding.take(5)] == expected


def test_released_ones_are_handed_out_again_first() -> None:
    holding = Holding(SOURCE, ROW, 10)
    holding.load([record(1, b"1"), record(2, b"2")])
    (first,) = holding.take(1)
    holding.give_back(first.token)
    assert [delivery.body for delivery in holding.take(5)] == [b"1", b"2"]


def test_the_tail_is_bounded() -> None:
    holding = Holding(SOURCE, ROW, 3)
    holding.load([record(number) for number in range(10)])
    first, *others = holding.take(10)
    assert len(others) == 2
    for delivery in others:
        settle(holding, delivery)
    assert holding.take(10) == []
    assert not holding.waits
    settle(holding, first)
    assert len(holding.take(10)) == 3


def test_one_key_does_not_fill_the_room_of_all() -> None:
    holding = Holding(SOURCE, ROW, 100, share=2)
    holding.load([record(number, str(number).encode(), "failing" if number < 8 else "other") for number in range(10)])
    taken = holding.take(10)
    assert [delivery.body for delivery in taken] == [b"0", b"1", b"8", b"9"]
    settle(holding, taken[0])
    (following,) = holding.take(10)
    assert following.body == b"2"
    for delivery in (*taken[1:], following):
        settle(holding, delivery)
    assert [delivery.body for delivery in holding.take(10)] == [b"3", b"4"]
    assert holding.marks.committed == ("2", 0)


def test_a_row_tells_of_so_many_open_records_and_no_more() -> None:
    holding = Holding(SOURCE, ROW, 5000)
    records = [record(10**55 + number, str(number).encode()) for number in range(3000)]
    holding.load(records)
    taken = holding.take(3000)
    for delivery in taken[1::2]:
        settle(holding, delivery)
    row = holding.advanced(ROW, whole=True)
    assert len(row.progress) < 200_000
    following = Holding(SOURCE, row, 5000)
    following.load(records)
    again = {int(delivery.body) for delivery in following.take(3000)}
    assert set(range(0, 3000, 2)) <= again
    assert not again & set(range(1, 1999, 2))


def test_only_ordered_sources_have_lanes() -> None:
    holding = Holding(Source("topic", "orders", "billing"), ROW, 3)
    holding.load([record(1)])
    assert holding.take(1)[0].lane is None


@UNHURRIED
@given(st.text(max_size=30))
def test_damaged_progress_is_none(text: str) -> None:
    assert Progress.from_text(text) == Progress()


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"last":["",0],"open":[]}',
        '{"last":["1",Infinity],"open":[]}',
        '{"last":["1",0],"open":[["1",0,1e999,0]]}',
        '{"last":["1",0],"open":[["x",0,1,0]]}',
    ],
)
def test_progress_that_somebody_damaged_is_none(text: str) -> None:
    assert Progress.from_text(text) == Progress()


def test_progress_survives_its_row() -> None:
    progress = Progress(("9" * 56, 3), {("8" * 56, 0): Open(2, 17.5), ("9" * 56, 1): Open()})
    assert Progress.from_text(progress.to_text()) == progress
    assert Progress.from_text(Progress().to_text()) == Progress()


def test_lag_is_of_the_oldest_that_is_not_settled_or_of_the_last_read() -> None:
    holding = Holding(SOURCE, ROW, 100)
    assert holding.lag(50.0) is None  # nobody has read yet
    holding.behind = 0.0
    assert holding.lag(50.0) == 0.0
    holding.load([{**record(each), "ApproximateArrivalTimestamp": float(each)} for each in (10, 20, 30)])
    assert holding.lag(50.0) == 40.0
    first, second = holding.take(2)
    settle(holding, second)
    assert holding.lag(50.0) == 40.0  # in hand is not settled
    settle(holding, first)
    assert holding.lag(50.0) == 20.0
    holding.behind = 25.0
    assert holding.lag(50.0) == 25.0
    settle(holding, holding.take(1)[0])
    assert holding.lag(50.0) == 25.0


def test_a_crash_is_counted_until_the_checkpoint_moves_and_the_second_one_makes_suspects() -> None:
    row = ROW.taken("a")
    assert (row.crashes, row.suspects) == (0, 0)
    row = row.taken("b", forced=True)
    assert (row.crashes, row.suspects) == (1, 0)
    holding = Holding(SOURCE, row, 1000)
    holding.load([record(1)])
    settle(holding, holding.take(1)[0])
    assert holding.advanced(row, whole=False).crashes == 0
    row = row.given().taken("c")  # nobody died
    assert (row.crashes, row.suspects) == (1, 0)
    row = row.taken("d", forced=True)
    assert (row.crashes, row.suspects) == (2, SUSPECTS)
    for left in range(SUSPECTS - 1, 0, -1):
        row = row.tried()
        assert (row.crashes, row.suspects) == (2, left)
    assert row.taken("e", forced=True).suspects == SUSPECTS  # in the midst of a trial: it begins anew
    row = row.tried()
    assert (row.crashes, row.suspects) == (0, 0)


def test_after_a_crash_little_is_out_that_the_row_does_not_know() -> None:
    holding = Holding(SOURCE, ROW.taken("b", forced=True), 1000)
    holding.load([record(each, key=f"k{each}") for each in range(1, 500)])
    out = holding.take(1000)
    assert len(out) == SUSPECTS // 2
    for delivery in out[1:]:  # the first one fails and waits: it must not stop the others
        settle(holding, delivery)
    assert not holding.waits
    holding.row = holding.advanced(holding.row, whole=False).changed()
    assert holding.waits
    assert len(holding.take(1000)) == SUSPECTS // 2 - 1
    settle(holding, out[0])
    holding.row = holding.advanced(holding.row, whole=False).changed()  # the checkpoint moves
    assert len(holding.take(1000)) == 499 - SUSPECTS + 1


def drawn(holding: Holding) -> Delivery:
    suspect = holding.draw()
    assert suspect is not None
    return suspect


def test_a_suspect_is_in_the_row_before_it_is_handed_out() -> None:
    row = replace(ROW, suspects=SUSPECTS)
    for deliveries in (1, 2, 3):
        holding = Holding(SOURCE, row, 1000)
        holding.load(after([record(each) for each in (1, 2)], row))
        assert holding.take(10) == []
        suspect = drawn(holding)
        assert suspect.deliveries == deliveries
        assert holding.take(10) == []
        row = holding.advanced(row, whole=True).tried()  # and here its process dies
        holding.hand_out(suspect)
        assert holding.take(10) == [suspect]
    holding.row = row
    settle(holding, suspect)
    row = holding.advanced(row, whole=False).changed()
    other = Holding(SOURCE, row, 1000)
    other.load(after([record(each) for each in (1, 2)], row))
    innocent = drawn(other)
    assert (innocent.raw["SequenceNumber"], innocent.deliveries) == ("2", 1)
    other.forgive()  # it ends in order before the handler had it
    assert Progress.from_text(other.advanced(row, whole=True).progress).open[("2", 0)].deliveries == 0


def test_what_is_in_hand_at_the_end_counts_and_what_was_given_back_does_not() -> None:
    holding = Holding(SOURCE, ROW, 1000)
    holding.load([record(1), record(2)])
    first, second = holding.take(2)
    second.token.out = False  # released
    counts = Progress.from_text(holding.advanced(ROW, whole=False).progress).open
    assert [each.deliveries for each in counts.values()] == [0, 0]  # as long as it lives
    row = holding.advanced(ROW, whole=True)
    again = Holding(SOURCE, row, 1000)
    again.load(after([record(1), record(2)], row))
    assert again.counts
    assert [delivery.deliveries for delivery in again.take(2)] == [2, 1]
    assert first.deliveries == 1
