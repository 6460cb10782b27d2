"""The whole bus in many worlds that a seed draws; `make simulate` runs more of them."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.simulation.loop import SeededLoop, Stuck, run
from tests.simulation.mutations import MUTATIONS
from tests.simulation.profiles import PROFILES
from tests.simulation.scenario import Incident, Item, Scenario, scenario_of
from tests.simulation.shrink import kind_of, shrunk, source_of
from tests.simulation.world import Report, simulate

from msgbus.testing import VirtualClock
from msgbus.testing.faults import Fault

ROOT = Path(__file__).parents[2]
SEEDS = 60
WITHIN = 200  # seeds in which every mutation is found

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::RuntimeWarning")


def first_failure(seeds: int) -> Report | None:
    """The report of the first seed that does not hold."""
    reports = (simulate(scenario_of(seed)) for seed in range(seeds))
    return next((report for report in reports if report.violations), None)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_nothing_is_lost_doubled_passed_or_left_behind(seed: int) -> None:
    assert list(simulate(scenario_of(seed)).violations) == []


def test_the_first_seeds_meet_every_broker_incident_and_fault() -> None:
    drawn = [scenario_of(seed) for seed in range(SEEDS)]
    assert {each.profile for each in drawn} == set(PROFILES)
    assert {incident.kind for each in drawn for incident in each.incidents} == {"stop", "crash", "vanish"}
    assert {fault for each in drawn for fault, _ in each.faults} == set(Fault)
    assert {item.target for each in drawn for item in each.items} == {"topic", "queue", "call"}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", MUTATIONS)
def test_a_bug_in_the_core_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    MUTATIONS[name](monkeypatch)
    assert first_failure(WITHIN) is not None


# -- a seed repeats its run


def test_a_seed_repeats_its_run_in_this_process() -> None:
    for seed in range(10):
        first, second = simulate(scenario_of(seed)), simulate(scenario_of(seed))
        assert (first.trace, first.steps) == (second.trace, second.steps)


def test_a_seed_repeats_its_run_in_another_process() -> None:
    code = """
from tests.simulation.scenario import scenario_of
from tests.simulation.world import simulate
print(*(simulate(scenario_of(seed)).digest for seed in range(10)))
"""
    said = set()
    for hashes in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hashes, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
        ran = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment, cwd=ROOT
        )
        said.add(ran.stdout)
    said.add(" ".join(simulate(scenario_of(seed)).digest for seed in range(10)) + "\n")
    assert len(said) == 1


def test_seeds_differ() -> None:
    assert len({simulate(scenario_of(seed)).digest for seed in range(10)}) == 10


# -- the loop


def orders_of(shuffle: float, seeds: int = 5) -> set[tuple[int, ...]]:
    """In which orders tasks run that are ready at once."""
    seen = set()
    for seed in range(seeds):
        ran: list[int] = []

        async def note(number: int, into: list[int] = ran) -> None:
            into.append(number)

        async def main() -> None:
            await asyncio.gather(*(note(number) for number in range(9)))

        run(SeededLoop(seed, VirtualClock(), shuffle=shuffle), main())
        seen.add(tuple(ran))
    return seen


def test_the_seed_decides_who_of_those_ready_is_first() -> None:
    assert len(orders_of(shuffle=1.0)) > 1
    assert orders_of(shuffle=0.0) == {tuple(range(9))}


def test_time_is_that_of_the_clock_and_costs_none() -> None:
    clock = VirtualClock()
    loop = SeededLoop(1, clock)

    async def main() -> list[float]:
        slept = loop.create_task(clock.sleep(5000.0))
        await asyncio.sleep(100.0)
        early = loop.time()
        await slept
        return [early, loop.time(), clock.now()]

    assert run(loop, main()) == [100.0, 5000.0, 5000.0]


def test_who_waits_for_nothing_is_told() -> None:
    loop = SeededLoop(1, VirtualClock())

    async def main() -> None:
        await loop.create_future()

    with pytest.raises(Stuck):
        run(loop, main())


# -- the shrinker


def test_what_does_not_matter_is_left_out() -> None:
    scenario = next(s for s in map(scenario_of, range(100)) if len(s.items) > 10 and s.incidents and s.faults)

    def fails(smaller: Scenario) -> bool:
        return any(item.n == 4 for item in smaller.items) and any(item.n == 9 for item in smaller.items)

    small = shrunk(scenario, fails)
    assert [item.n for item in small.items] == [4, 9]
    assert (small.incidents, small.faults, small.processes, small.shuffle) == ((), (), 1, 0.0)


def test_a_failure_is_shrunk_to_one_that_fails_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    MUTATIONS["failure_acknowledged"](monkeypatch)
    report = first_failure(WITHIN)
    assert report is not None
    small = shrunk(report.scenario, lambda scenario: kind_of(simulate(scenario)) == kind_of(report), most=100)
    assert len(small.items) == 1
    names = {"Scenario": Scenario, "Item": Item, "Incident": Incident, "Fault": Fault}
    assert eval(source_of(small), names) == small  # noqa: S307
