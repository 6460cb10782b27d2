"""What was seen in a run: every publish, each start and end of a handler, and what the core did that it may not."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Literal

from tests.simulation.loop import SeededLoop
from tests.simulation.scenario import Item

What = Literal["begin", "end", "fail", "cut off"]
Place = tuple[str, int]  # the source's origin, and the number of the message


@dataclass(frozen=True, slots=True)
class Seen:
    """`at`: its place in the order of all that was seen."""

    what: What
    at: int
    attempt: int
    service: str


@dataclass(slots=True)
class Ledger:
    """`confirmed` and `unknown`: what became of each publish, in order. `ids`: message id -> number."""

    loop: SeededLoop
    seen: defaultdict[Place, list[Seen]] = field(default_factory=lambda: defaultdict(list))
    confirmed: list[Item] = field(default_factory=list)
    unknown: dict[int, str] = field(default_factory=dict)
    ids: dict[str, int] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)
    trace: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        """A line of the trace: when, after how many callbacks, what."""
        self.trace.append(f"{self.loop.time():10.3f} {self.loop.steps:7d}  {text}")

    def violated(self, text: str) -> None:
        """Something that must not happen did."""
        self.violations.append(text)
        self.note(f"VIOLATION {text}")

    def number(self, message_id: str) -> str:
        """Which message it is, for the trace."""
        return str(self.ids.get(message_id, f"reply {message_id[-4:]}"))

    def handler(self, what: What, place: Place, attempt: int, service: str) -> None:
        """A handler began, ended, raised or was cancelled."""
        self.note(f"{service} {what}s {place[0]} {place[1]}, attempt {attempt}")
        self.seen[place].append(Seen(what, len(self.trace), attempt, service))
