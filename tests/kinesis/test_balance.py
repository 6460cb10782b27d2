"""Who takes which lease: decisions over any table converge, respect parents, and never take what lives."""

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.kinesis.strategies import UNHURRIED, lineages

from msgbus.brokers.kinesis.balance import (
    Observer,
    decide,
    first_rows,
    forgettable,
    is_ready,
    missing_rows,
    restarted,
)
from msgbus.brokers.kinesis.hashing import Shard, ancestors
from msgbus.brokers.kinesis.rows import AT_TIMESTAMP, SHARD_END, TRIM_HORIZON, Row
from msgbus.message import Start

OWNERS = st.sampled_from(["", "a", "b", "c", "d"])
NOBODY: frozenset[str] = frozenset()


def table(owners: list[str]) -> list[Row]:
    return [Row(shard=f"s{place}", owner=owner) for place, owner in enumerate(owners)]


def by_shard(rows: list[Row]) -> dict[str, Row]:
    return {row.shard: row for row in rows}


@UNHURRIED
@given(st.lists(OWNERS, max_size=12), st.sampled_from(["a", "e"]), st.sets(st.integers(0, 11)), st.integers(0, 99))
def test_only_what_is_free_is_taken(owners: list[str], me: str, old: set[int], spread: int) -> None:
    rows = table(owners)
    expired = frozenset(f"s{place}" for place in old)
    decision = decide(rows, me, expired, spread)
    assert all(not row.owner or row.shard in expired for row in decision.take)
    assert all(row.owner not in ("", me) and row.shard not in expired and not row.giver for row in decision.ask)
    assert not (decision.take and decision.ask)


@UNHURRIED
@given(st.integers(1, 12), st.integers(1, 5), st.randoms(use_true_random=False))
def test_any_number_of_workers_comes_to_equal_shares(shards: int, workers: int, random: object) -> None:
    rows = by_shard(table([""] * shards))
    names = [f"w{place}" for place in range(workers)]
    for _ in range(30):
        random.shuffle(names)  # type: ignore[attr-defined]
        for me in names:
            decision = decide(list(rows.values()), me, NOBODY, hash(me))
            for row in decision.take:
                rows[row.shard] = row.taken(me)
            for row in decision.ask:
                rows[row.shard] = row.asked_for(me)
            for row in list(rows.values()):  # each holder gives at once
                if row.giver:
                    rows[row.shard] = row.given()
    counts = [sum(row.owner == me for row in rows.values()) for me in names]
    assert sum(counts) == shards
    assert max(counts) - min(counts) <= 1
    settled = list(rows.values())
    for me in names:  # and stays there
        decision = decide(settled, me, NOBODY)
        assert not decision.take
        assert not decision.ask


def test_a_newcomer_asks_the_one_that_has_most() -> None:
    decision = decide(table(["a", "a", "a", "b", "b"]), "c", NOBODY)
    assert [row.owner for row in decision.ask] == ["a"]
    assert decide(table(["a", "b"]), "c", NOBODY).ask == []


def test_what_is_promised_already_counts_and_is_not_asked_for_again() -> None:
    rows = table(["a", "a", "a", "a"])
    rows[0] = rows[0].asked_for("b")
    rows[1] = rows[1].asked_for("b")
    assert not decide(rows, "b", NOBODY).ask
    assert not decide(rows, "a", NOBODY).take


def test_children_wait_for_their_parents() -> None:
    parent = Row(shard="p", owner="a")
    child = Row(shard="c", parents=("p", "forgotten"))
    assert decide([parent, child], "b", NOBODY).take == ()
    ended = dataclasses.replace(parent, checkpoint=SHARD_END, owner="")
    assert decide([ended, child], "b", NOBODY).take == [child]
    assert not is_ready(ended, by_shard([ended]))


def test_a_lease_ends_when_its_counter_stood_still_on_the_observers_clock() -> None:
    observer, row = Observer(10.0), Row(shard="s", owner="a")
    assert observer.look([row], 100.0) == NOBODY
    assert observer.look([row], 109.9) == NOBODY
    assert observer.look([row], 110.0) == {"s"}
    assert observer.look([row.changed()], 111.0) == NOBODY
    assert observer.look([row.changed()], 120.9) == NOBODY
    assert observer.look([], 130.0) == NOBODY
    assert observer.look([row.changed()], 140.0) == NOBODY, "it was away: seen anew"


@UNHURRIED
@given(lineages())
def test_a_new_group_reads_each_record_once(shards: list[Shard]) -> None:
    oldest = first_rows(shards, Start("oldest"), 5.0)
    assert [(row.shard, row.checkpoint) for row in oldest] == [(shard.id, TRIM_HORIZON) for shard in shards]
    latest = first_rows(shards, Start("latest"), 5.0)
    assert [(row.shard, row.at) for row in latest] == [(shard.id, 5.0) for shard in shards if not shard.closed]
    time = first_rows(shards, Start("time", 3.0), 5.0)
    assert {(row.checkpoint, row.at) for row in time} == {(AT_TIMESTAMP, 3.0)}
    assert len(time) == len(shards)


@UNHURRIED
@given(lineages(), st.data())
def test_every_open_shard_gets_a_lease_and_no_ancestor_does(shards: list[Shard], data: st.DataObject) -> None:
    held = data.draw(st.sets(st.sampled_from([shard.id for shard in shards]), min_size=1))
    rows = {shard: Row(shard=shard) for shard in held}
    new = {row.shard for row in missing_rows(shards, rows)}
    known = {shard.id: shard for shard in shards}
    assert {shard.id for shard in shards if not shard.closed} <= new | held
    assert not new & (ancestors(known, held) | held)


@UNHURRIED
@given(lineages())
def test_a_group_that_reads_all_reads_parents_before_children(shards: list[Shard]) -> None:
    rows = by_shard(first_rows(shards, Start("oldest"), 0.0))
    order: list[str] = []
    while ready := [row for row in rows.values() if is_ready(row, rows)]:
        order += [row.shard for row in ready]
        for row in ready:
            rows[row.shard] = dataclasses.replace(row, checkpoint=SHARD_END)
    assert sorted(order) == sorted(shard.id for shard in shards)
    assert all(order.index(parent) < order.index(shard.id) for shard in shards for parent in shard.parents)


def test_a_finished_lease_is_forgotten_when_the_stream_forgot_and_its_children_began() -> None:
    parent, child = Row(shard="p", checkpoint=SHARD_END), Row(shard="c", parents=("p",))
    assert forgettable([Shard("p"), Shard("c")], by_shard([parent, child])) == []
    assert forgettable([Shard("c")], by_shard([parent, child])) == []
    begun = dataclasses.replace(child, checkpoint="7")
    assert forgettable([Shard("c")], by_shard([parent, begun])) == [parent]
    assert forgettable([Shard("c")], by_shard([Row(shard="p"), begun])) == []


@UNHURRIED
@given(lineages(), st.sampled_from(["oldest", "latest", "time"]))
def test_a_restart_frees_every_lease_and_leaves_nothing_half(shards: list[Shard], at: str) -> None:
    start = Start(at, 3.0)  # type: ignore[arg-type]
    rows = {shard.id: Row(shard=shard.id, owner="a", giver="b", checkpoint="9", progress="p") for shard in shards}
    again = by_shard(restarted(shards, rows, start, 5.0))
    assert again.keys() == rows.keys()
    for row in again.values():
        assert (row.owner, row.giver, row.progress, row.position) == ("", "", "", None)
        assert row.counter > rows[row.shard].counter
        closed = next(shard.closed for shard in shards if shard.id == row.shard)
        assert row.ended == (at == "latest" and closed)


def test_a_position_begins_in_its_own_shard_only() -> None:
    shards = [Shard("p", closed=True), Shard("c", parents=("p",)), Shard("d", parents=("p",))]
    rows = by_shard(first_rows(shards, Start("position", "c:77:3"), 5.0))
    assert {shard: (row.checkpoint, row.sub) for shard, row in rows.items()} == {
        "c": ("77", -1),
        "d": (TRIM_HORIZON, 0),
    }


@pytest.mark.parametrize(("shards", "workers"), [(4, 1), (4, 2), (4, 3), (5, 2)])
def test_the_share_is_rounded_up(shards: int, workers: int) -> None:
    owners = [f"w{place % (workers - 1)}" if workers > 1 else "" for place in range(shards)]
    decision = decide(table(owners), "new", NOBODY)
    share = math.ceil(shards / workers)
    assert len(decision.take) + len(decision.ask) <= share
    assert decision.take or decision.ask
