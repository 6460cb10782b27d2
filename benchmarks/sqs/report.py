"""What the rounds of one server came to: medians, spreads, and what was asked of them."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass
class Samples:
    """The figures of one side, a list per name."""

    title: str
    values: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def add(self, work: str, figures: Mapping[str, float]) -> None:
        for name, value in figures.items():
            self.values[f"{work} {name}"].append(value)

    def median(self, name: str) -> float:
        return statistics.median(self.values[name])

    def spread(self, name: str) -> float:
        """Half the distance between the quartiles, relative to the median."""
        values = self.values[name]
        if len(values) < 2:
            return 0.0
        low, middle, high = statistics.quantiles(values, n=4)
        return (high - low) / 2 / middle


COLUMNS = (  # heading, name of the figure, digits
    ("CPU us/msg", "total cpu", 1),
    ("send", "send cpu", 1),
    ("consume", "consume cpu", 1),
    ("sent/s", "send rate", 0),
    ("drained/s", "consume rate", 0),
    ("through/s", "flow rate", 0),
    ("flow CPU", "flow cpu", 1),
    ("p50 ms", "latency p50", 2),
    ("p99 ms", "latency p99", 2),
    ("server us", "consume server", 0),
)


def print_table(server: str, sides: Mapping[str, Samples]) -> None:
    """A row per side: medians, and their spread below."""
    print(f"\n{server}\n{'':30}" + "".join(f"{heading:>11}" for heading, _, _ in COLUMNS))
    for samples in sides.values():
        print(f"{samples.title:30}" + "".join(f"{samples.median(name):11.{digits}f}" for _, name, digits in COLUMNS))
        print(f"{'':30}" + "".join(f"{f'+-{samples.spread(name):.0%}':>11}" for _, name, _ in COLUMNS))


GOALS = (  # what, figure, the least ratio, whether more is better
    ("CPU a message, raw / msgbus", "total cpu", 4.0, False),
    ("the same, sending and consuming at once", "flow cpu", 4.0, False),
    ("throughput, sending and consuming at once", "flow rate", 2.0, True),
    ("throughput, sending", "send rate", 2.0, True),
    ("throughput, a backlog drained", "consume rate", 2.0, True),
    ("latency at low load, p50, raw / msgbus", "latency p50", 1.0, False),
    ("latency at low load, p99, raw / msgbus", "latency p99", 1.0, False),
)


def print_goals(raw: Samples, ours: Samples) -> None:
    """What was reached beside the raw loop: the median of each round's ratio."""
    for title, name, least, more_is_better in GOALS:
        pairs = zip(raw.values[name], ours.values[name], strict=True)
        ratio = statistics.median(theirs / own if not more_is_better else own / theirs for theirs, own in pairs)
        print(f"{title:46}{ratio:6.2f}   {'met' if ratio >= least else 'MISSED'}: {least:g}")
