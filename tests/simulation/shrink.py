"""Makes a scenario that fails as small as it can, and writes it down as Python, for a test of its own."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, replace
from typing import TypeVar

from tests.simulation.scenario import Scenario
from tests.simulation.world import Report

T = TypeVar("T")

_SIMPLE: dict[str, object] = {
    "shuffle": 0.0,
    "latency": 0.0,
    "burst": 1,
    "batch": 0,
    "bisect": False,
    "in_place": 0,
    "ordered": False,
    "processes": 1,
    "concurrency": 1,
    "grace": 0.0,
}


def kind_of(report: Report) -> str:
    """What its first violation is about, whichever message it hit; "" where there is none."""
    return re.sub(r"\d+|\[.*\]", "#", report.violations[0]) if report.violations else ""


def shrunk(scenario: Scenario, fails: Callable[[Scenario], bool], most: int = 500) -> Scenario:
    """The smallest that still fails, after at most so many runs. Greedy: what can be left out is, again and again."""
    runs, goes_on = 0, True
    while goes_on:
        goes_on = False
        for smaller in _smaller(scenario):
            runs += 1
            if runs > most:
                return scenario
            if fails(smaller):
                scenario, goes_on = smaller, True
                break
    return scenario


def _smaller(scenario: Scenario) -> Iterator[Scenario]:
    yield from (replace(scenario, items=items) for items in _fewer(scenario.items) if items)
    yield from (replace(scenario, incidents=incidents) for incidents in _fewer(scenario.incidents))
    yield from (replace(scenario, faults=faults) for faults in _fewer(scenario.faults))
    for name, value in _SIMPLE.items():
        simpler = replace(scenario, **{name: value})  # type: ignore[arg-type]
        if simpler != scenario and all(incident.process < simpler.processes for incident in simpler.incidents):
            yield simpler
    for place, item in enumerate(scenario.items):
        plainer = [replace(item, slow=0.0), replace(item, fails=0), replace(item, down=False), replace(item, at=0.0)]
        for plain in plainer:
            if plain != item:
                yield replace(scenario, items=(*scenario.items[:place], plain, *scenario.items[place + 1 :]))


def _fewer(things: Sequence[T]) -> Iterator[tuple[T, ...]]:
    """Without its halves, its quarters, ..., at last without each."""
    size = len(things) // 2
    while size:
        yield from ((*things[:start], *things[start + size :]) for start in range(0, len(things), size))
        size //= 2
    if len(things) == 1:
        yield ()


def source_of(scenario: Scenario) -> str:
    """Python that makes it."""
    lines = []
    for field in fields(scenario):
        value = getattr(scenario, field.name)
        text = re.sub(r"<(Fault\.\w+): '[^']*'>", r"\1", repr(value))
        lines.append(f"    {field.name}={text},\n")
    return f"Scenario(\n{''.join(lines)})\n"
