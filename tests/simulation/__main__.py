"""Run seeds: `python -m tests.simulation --seeds 0..500`, or look at one: `--seed 7 --trace`, `--seed 7 --shrink`."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter

from tests.simulation.scenario import Scenario, scenario_of
from tests.simulation.shrink import kind_of, shrunk, source_of
from tests.simulation.world import Report, simulate

_EVERY = 60.0  # seconds of CPU between two lines about a long run


class Tally:
    """What many runs came to."""

    def __init__(self) -> None:
        self.runs: Counter[str] = Counter()
        self.failed: list[int] = []
        self.steps = 0
        self.seconds = 0.0
        self.began = self.told = time.process_time()

    def progress(self) -> None:
        """A line now and then: a long run that is stopped has its count all the same."""
        if time.process_time() - self.told > _EVERY:
            self.told = time.process_time()
            _say(f"so far {self}")

    def add(self, report: Report) -> None:
        """One more; said where it failed."""
        self.runs[report.scenario.profile] += 1
        self.steps += report.steps
        self.seconds += report.seconds
        if report.violations:
            self.failed.append(report.scenario.seed)
            _say(f"seed {report.scenario.seed} ({report.scenario.profile}):", *report.violations[:10])

    def __str__(self) -> str:
        cost = time.process_time() - self.began
        runs = ", ".join(f"{count} {profile}" for profile, count in sorted(self.runs.items()))
        return (
            f"{self.runs.total()} seeds ({runs}), {len(self.failed)} failed {self.failed[:20]};"
            f" {self.steps:,} callbacks, {self.seconds / 3600:,.1f} virtual hours, {cost:.1f} s of CPU"
        )


def _say(*lines: str) -> None:
    sys.stdout.write("\n  ".join(lines) + "\n")
    sys.stdout.flush()


def _smallest(report: Report) -> str:
    kind = kind_of(report)

    def fails(scenario: Scenario) -> bool:
        return kind_of(simulate(scenario)) == kind

    return source_of(shrunk(report.scenario, fails)) if kind else "nothing to shrink: it holds\n"


def main() -> int:
    """0 where every seed held."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", default="0..500", help="A..B, B not included, or how many")
    parser.add_argument("--seed", type=int, help="this one alone")
    parser.add_argument("--trace", action="store_true", help="print everything that was seen")
    parser.add_argument("--shrink", action="store_true", help="print the smallest scenario that fails alike")
    given = parser.parse_args()
    first, _, last = given.seeds.rpartition("..")
    seeds = range(int(first or 0), int(last)) if given.seed is None else range(given.seed, given.seed + 1)
    tally = Tally()
    for seed in seeds:
        report = simulate(scenario_of(seed))
        if given.trace:
            _say(source_of(report.scenario), *report.trace)
        tally.add(report)
        tally.progress()
        if given.shrink:
            _say(_smallest(report))
    _say(str(tally))
    return 1 if tally.failed else 0


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":  # sets of text have one order in every process then
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, "-m", "tests.simulation", *sys.argv[1:]])  # noqa: S606
    sys.exit(main())
