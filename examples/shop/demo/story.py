"""What the demo goes through, and what is told about it: phases, events, what the stop did."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

PHASES = ("open", "rush", "stop", "restart", "redrive", "finish", "done")

_KEPT = 20  # events


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the log. `level` as in logging."""

    at: float
    level: int
    text: str


@dataclass(frozen=True, slots=True)
class Stop:
    """What the graceful stop found and did, by the counts of the consumers themselves."""

    running: int
    released: int
    seconds: float


@dataclass(slots=True)
class Story:
    """The state of the demo, for whoever shows it."""

    tell: Callable[[Event], None] = lambda event: None
    phase: str = PHASES[0]
    began: float = field(default_factory=time.monotonic)
    said: deque[Event] = field(default_factory=lambda: deque(maxlen=_KEPT))
    logged: deque[Event] = field(default_factory=lambda: deque(maxlen=_KEPT))
    stop: Stop | None = None
    waiting_at_restart: int = 0
    caught_up_in: float | None = None
    ended_at: float | None = None

    @property
    def elapsed(self) -> float:
        """Seconds since the beginning, up to the end."""
        return (time.monotonic() if self.ended_at is None else self.ended_at) - self.began

    def enter(self, phase: str, text: str) -> None:
        """The next phase."""
        self.phase = phase
        self.say(text)

    def end(self) -> None:
        """All is done."""
        self.phase = PHASES[-1]
        self.ended_at = time.monotonic()
        self.say("all is done")

    def say(self, text: str) -> None:
        """Tell what happens."""
        self.said.append(event := Event(self.elapsed, logging.INFO, text))
        self.tell(event)


class BusLog(logging.Handler):
    """Takes over what msgbus logs: each failure is one record."""

    def __init__(self, story: Story) -> None:
        super().__init__(logging.WARNING)
        self._story = story

    def emit(self, record: logging.LogRecord) -> None:
        """Its first line is enough here."""
        story = self._story
        story.logged.append(Event(story.elapsed, record.levelno, record.getMessage().partition("\n")[0]))
