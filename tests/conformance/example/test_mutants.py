"""Brokers with one fault each: the suite must find it. And the same tests find nothing where there is no fault."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pytest
from tests.conformance.example.harness import ExampleHarness
from tests.conformance.example.hurried import LoopClock
from tests.conformance.example.mutants import MUTANTS

from msgbus.brokers import registered
from msgbus.brokers.memory import MemoryBroker
from msgbus.clock import Clock
from msgbus.errors import BusError
from msgbus.message import Start
from msgbus.testing.conformance import BrokerSuite, Harness
from msgbus.testing.conformance.lab import Lab

FOUND = (AssertionError, BusError, TimeoutError, pytest.fail.Exception)


def faulty(name: str, folder: Path) -> ExampleHarness:
    """The example's harness with the broker of a mutant."""

    class FaultyHarness(ExampleHarness):
        brokers: ClassVar = {"sqlite": MUTANTS[name].broker}

    return FaultyHarness(folder)


async def passes(harness: Harness, test: str) -> bool:
    """Whether a test of the suite finds nothing; a test that is skipped does not."""
    with registered(harness.brokers):
        lab = Lab(harness)
        try:
            await lab.start()
            await getattr(BrokerSuite(), test)(lab)
        except FOUND:
            return False
        finally:
            await lab.close()
    return True


@pytest.mark.parametrize("name", MUTANTS)
async def test_a_fault_is_found(tmp_path: Path, name: str) -> None:
    for test in MUTANTS[name].killers:
        folder = tmp_path / test
        folder.mkdir()
        assert not await passes(faulty(name, folder), test), f"{name} survives {test}"


@pytest.mark.parametrize("test", sorted({killer for mutant in MUTANTS.values() for killer in mutant.killers}))
async def test_where_no_fault_is_none_is_found(tmp_path: Path, test: str) -> None:
    assert await passes(ExampleHarness(tmp_path), test)


class IgnoresPositions(MemoryBroker):
    """The embedded broker has replay, and no positions: it must say so."""

    def __init__(self, url: str, *, clock: Clock) -> None:
        super().__init__(url, clock=clock)
        seek = self.admin.seek
        self.admin.seek = lambda source, start: seek(source, Start("oldest"))  # type: ignore[method-assign]


class ReplayHarness(Harness):
    brokers: ClassVar = {"true": MemoryBroker, "false": IgnoresPositions}
    clock: Clock = LoopClock()


@pytest.mark.parametrize("scheme", ["true", "false"])
async def test_a_position_that_is_ignored_is_found(scheme: str) -> None:
    harness = ReplayHarness()
    harness.url = f"{scheme}://{scheme}-positions?replay=100"
    assert await passes(harness, "test_a_group_can_seek_to_a_position") is (scheme == "true")
