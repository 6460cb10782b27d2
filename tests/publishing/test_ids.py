"""Ids are UUIDv7, unique and sortable; times are RFC 3339."""

from __future__ import annotations

import os
import uuid
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from msgbus.publishing.ids import Stamps


class Steps:
    """A clock that follows a list, then stands still."""

    def __init__(self, times: list[float]) -> None:
        self.times = times

    def __call__(self) -> float:
        return self.times.pop(0) if len(self.times) > 1 else self.times[0]


def test_an_id_is_a_version_7_uuid_of_its_time() -> None:
    text, time = Stamps(lambda: 1_800_000_000.125).next()
    parsed = uuid.UUID(text)
    assert str(parsed) == text
    assert parsed.version == 7
    assert parsed.variant == uuid.RFC_4122
    assert parsed.int >> 80 == 1_800_000_000_125
    assert time == "2027-01-15T08:00:00.125Z"


@given(st.lists(st.integers(0, 3), min_size=1, max_size=200))
def test_ids_are_unique_and_sort_by_time(steps: list[int]) -> None:
    at = 1_800_000_000.0
    times = []
    for step in steps:
        at += step / 1000
        times.append(at)
    stamps = Stamps(Steps(times))
    made = [stamps.next() for _ in range(len(steps))]
    ids = [message_id for message_id, _ in made]
    assert len(set(ids)) == len(ids)
    assert sorted(ids) == ids
    assert [time for _, time in made] == sorted(time for _, time in made)


@given(st.floats(0, 4_000_000_000))
def test_the_time_is_the_clock_s(at: float) -> None:
    _, text = Stamps(lambda: at).next()
    parsed = datetime.fromisoformat(text)
    assert parsed.tzinfo == UTC
    assert abs(parsed.timestamp() - at) < 0.0011


def test_more_ids_in_a_millisecond_than_its_counter_has_are_unique_and_sorted() -> None:
    stamps = Stamps(lambda: 1_800_000_000.0)
    ids = [stamps.next()[0] for _ in range(10_000)]
    assert len(set(ids)) == len(ids)
    assert sorted(ids) == ids


def test_a_clock_that_steps_back_makes_no_id_twice() -> None:
    stamps = Stamps(Steps([1_800_000_000.0, 1_800_000_000.005, 1_800_000_000.0, 1_800_000_000.0]))
    ids = [stamps.next()[0] for _ in range(10)]
    assert len(set(ids)) == len(ids)


def test_two_processes_that_share_a_millisecond_make_different_ids() -> None:
    stamps = Stamps(lambda: 1_800_000_000.0)
    stamps.next()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, stamps.next()[0].encode())
        os._exit(0)
    os.waitpid(child, 0)
    theirs = os.read(reading, 100).decode()
    os.close(reading)
    os.close(writing)
    assert theirs != stamps.next()[0]


def test_two_makers_differ() -> None:
    assert Stamps(lambda: 1.0).next()[0] != Stamps(lambda: 1.0).next()[0]


def test_the_real_clock() -> None:
    stamps = Stamps()
    ids = [stamps.next()[0] for _ in range(5000)]
    assert len(set(ids)) == 5000
