"""The live view: what each subscription has to do and does, what the customers get, what has just happened."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Mapping, Sequence

from examples.shop.demo.story import PHASES, Event, Story
from examples.shop.demo.tally import Row, Tally
from examples.shop.demo.traffic import Asked
from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

_BAR = 14
_HISTORY = 10
_SAMPLE = 0.2  # seconds
_WIDE = 100  # columns, below which there is no room for charts
_SAID, _LOGGED = 6, 6  # lines
_OTHER_LINES = 23  # of a frame: all but what is logged
_EIGHTHS = " ▏▎▍▌▋▊▉█"
_SPARKS = "▁▂▃▄▅▆▇█"
_STYLES: Mapping[int, str] = {logging.INFO: "default", logging.WARNING: "yellow", logging.ERROR: "bold red"}


class View:
    """Call it for each frame."""

    def __init__(self, story: Story, tally: Tally, quotes: Asked, title: str) -> None:
        self._story = story
        self._tally = tally
        self._quotes = quotes
        self._title = title
        self._rates = {row: Rate() for row in tally.rows.values()}
        self._most_open = 1

    def __call__(self, width: int, height: int) -> RenderableType:
        """The frame of this moment, for a terminal of that size."""
        logged = max(1, min(_LOGGED, height - _OTHER_LINES))
        return Group(
            _panel(self._title, self._phases(width), "bold"),
            _panel("subscriptions", self._subscriptions(wide=width >= _WIDE)),
            _panel("prices asked for", self._customers()),
            _panel("what happens", _lines(self._story.said, _SAID)),
            _panel("what msgbus logs", _lines(self._story.logged, logged)),
        )

    def _phases(self, width: int) -> RenderableType:
        now = PHASES.index(self._story.phase)
        line = Text(justify="center", no_wrap=True)
        for place, phase in enumerate(PHASES):
            line.append(" ━━ " if width >= _WIDE and place else " " if place else "", "dim")
            mark, style = ("✔", "green") if place < now else ("●", "bold cyan") if place == now else ("○", "dim")
            line.append(f"{mark} {phase}", "green" if phase == PHASES[now] == PHASES[-1] else style)
        return line.append(f"   {self._story.elapsed:4.1f} s", "bold")

    def _subscriptions(self, *, wide: bool) -> RenderableType:
        table = Table(box=None, expand=True, pad_edge=False, collapse_padding=True, header_style="dim")
        table.add_column("", min_width=max(len(self._name(row, wide=wide)) for row in self._tally.rows.values()))
        for name in ("to do", "running", "handled", "a second", "retried", "dead", "redriven"):
            table.add_column(name, justify="right", no_wrap=True)
        rows = list(self._tally.rows.values())
        self._most_open = max(self._most_open, *(row.open for row in rows))
        for row in rows:
            table.add_row(*self._cells(row, wide=wide))
        return table

    def _cells(self, row: Row, *, wide: bool) -> list[Text]:
        blocks = bar(row.open / self._most_open, _BAR if wide else 5, "yellow" if row.running else "magenta")
        return [
            Text(self._name(row, wide=wide), "bold", no_wrap=True),
            blocks.append(f" {row.open:>6,}"),
            Text(str(row.running), "" if row.running else "dim"),
            Text(f"{len(row.handled):,}", "green"),
            self._rates[row].sample(len(row.handled), wide=wide),
            Text(f"{row.retried:,}", "yellow" if row.retried else "dim"),
            Text(str(len(row.dead)), "bold red" if row.dead else "dim"),
            Text(str(row.redriven), "bold cyan" if row.redriven else "dim"),
        ]

    @staticmethod
    def _name(row: Row, *, wide: bool) -> str:
        return row.name if wide else row.source.group

    def _customers(self) -> RenderableType:
        asked, line = self._quotes, Text(justify="center")
        parts = (
            (asked.answered, "answered", "green"),
            (asked.failed, "refused", "red"),
            (asked.late, "late", "yellow"),
        )
        for count, name, style in parts:
            line.append(f"{count:>6,}", f"bold {style}").append(f" {name}   ", "dim")
        return line.append(f"{asked.open:>3}", "bold").append(" waiting", "dim")


class Rate:
    """Counts per second as a little chart and a number."""

    def __init__(self) -> None:
        self._samples: deque[float] = deque([0.0] * _HISTORY, maxlen=_HISTORY)
        self._at = time.monotonic()
        self._count = 0

    def sample(self, count: int, *, wide: bool) -> Text:
        """To be called for each frame; every 0.2 s it takes a new sample."""
        elapsed = time.monotonic() - self._at
        if elapsed >= _SAMPLE:
            self._samples.append((count - self._count) / elapsed)
            self._at, self._count = time.monotonic(), count
        top = max(*self._samples, 1.0)
        chart = "".join(_SPARKS[int(sample / top * (len(_SPARKS) - 1))] for sample in self._samples)
        return Text.assemble((chart if wide else "", "green"), f" {self._samples[-1]:>6,.0f}")


def bar(share: float, width: int, style: str) -> Text:
    """A bar of blocks, exact to an eighth of one."""
    eighths = round(max(0.0, min(1.0, share)) * width * 8)
    full, rest = divmod(eighths, 8)
    blocks = "█" * full + (_EIGHTHS[rest] if rest else "")
    return Text(blocks.ljust(width, "·"), style if eighths else "dim")


def _panel(title: str, inside: RenderableType, style: str = "dim") -> Panel:
    return Panel(inside, title=Text(title, style), box=box.ROUNDED, border_style="dim")


def _lines(events: Sequence[Event], count: int) -> RenderableType:
    """The last so many; always so many lines, so that the frame keeps its height."""
    lines = [_line(event) for event in list(events)[-count:]]
    return Group(*lines, *[Text("")] * (count - len(lines)))


def _line(event: Event) -> Text:
    line = Text(f"{event.at:5.2f}  ", "dim", no_wrap=True, overflow="ellipsis")
    return line.append(event.text, _STYLES.get(event.level, ""))
