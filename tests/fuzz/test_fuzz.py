"""A short run of every target, the same in every run; and what the driver itself finds."""

from __future__ import annotations

from random import Random

import pytest
from tests.fuzz.driver import fuzz, memory_of, shrunk, work_of
from tests.fuzz.target import Target
from tests.fuzz.targets import TARGETS

from msgbus.errors import DecodeError

_EXECUTIONS = 1_500


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_a_decoder_holds(target: Target) -> None:
    outcome = fuzz(target, 1, most=_EXECUTIONS, seconds=30.0, measured=False)
    assert outcome.executions > 0
    assert not [(failure.kind, failure.detail, failure.data[:500].hex()) for failure in outcome.failures.values()]


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_most_seeds_are_read(target: Target) -> None:
    """A target whose inputs are all refused at their first byte finds nothing."""
    read = 0
    for seed in target.seeds:
        try:
            target.run(seed)
        except target.allowed:
            continue
        read += 1
    assert read * 2 >= len(target.seeds)


def _fails_at_seven(data: bytes) -> None:
    if b"7" in data:
        raise KeyError(data)
    if b"8" in data:
        raise DecodeError("refused")


def test_what_is_not_allowed_is_found_and_made_small() -> None:
    target = Target(name="t", run=_fails_at_seven, seeds=[b"aaaaaa7aaaaa8aaaa"])
    (failure,) = fuzz(target, 1, most=200, measured=False).failures.values()
    assert failure.kind.startswith("KeyError")
    assert shrunk(target, failure).data == b"7"


def test_what_is_allowed_is_no_failure() -> None:
    target = Target(name="t", run=_fails_at_seven, seeds=[b"8"])
    assert not fuzz(target, 1, most=1).failures


def test_a_seed_gives_the_same_inputs() -> None:
    seen: list[list[bytes]] = [[], [], []]
    for place, seed in enumerate((1, 1, 2)):
        fuzz(Target(name="t", run=seen[place].append, seeds=[b"abc"]), seed, most=20, measured=False)
    assert seen[0] == seen[1] != seen[2]


def test_memory_out_of_proportion_is_found() -> None:
    def greedy(data: bytes) -> bytes:
        return bytes(10_000 * len(data))

    assert memory_of(Target(name="t", run=greedy, seeds=[b""], room=0), bytes(1000)) is not None
    assert memory_of(Target(name="t", run=bytes, seeds=[b""]), bytes(1000)) is None


@pytest.mark.parametrize(("power", "found"), [(1, False), (2, True)])
def test_work_that_grows_with_the_square_is_found(power: int, found: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that counts the work."""
    spent = 0.0

    def run(data: bytes) -> None:
        nonlocal spent
        spent += (len(data) / 1000) ** power

    monkeypatch.setattr("tests.fuzz.driver.time.thread_time", lambda: spent)
    assert (work_of(Target(name="t", run=run, seeds=[b""]), Random(1), b"abc") is not None) is found
