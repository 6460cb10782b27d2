"""The end: what was sent, handled, retried, dead, redriven and lost, and how fast."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Collection, Mapping

from examples.shop.demo.story import Story
from examples.shop.demo.tally import Row, Tally
from examples.shop.demo.traffic import Asked
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

_MEASURES: Mapping[str, Callable[[Row], int | None]] = {
    "sent": lambda row: len(row.sent),
    "handled": lambda row: len(row.handled),
    "handled twice": lambda row: row.handled_again,
    "retried": lambda row: row.retried,
    "dead-lettered": lambda row: row.deaths,
    "redriven and handled": lambda row: row.redriven,
    "dead in the end": lambda row: row.letters,
    "lost": lambda row: row.lost,
    "out of order": lambda row: row.out_of_order if row.source.ordered else None,
}
_MUST_BE_0 = ("handled twice", "dead in the end", "lost", "out of order")


class Summary:
    """What the tally says when all has come to rest."""

    def __init__(self, story: Story, tally: Tally, quotes: Asked) -> None:
        self._story = story
        self._tally = tally
        self._quotes = quotes

    @property
    def ok(self) -> bool:
        """Nothing was lost, nothing was out of order, and everybody had something to do."""
        worked = all(row.sent for row in self._rows()) and not self._quotes.open
        return worked and not self._tally.lost() and not self._tally.out_of_order()

    def print(self, console: Console) -> None:
        """Table, what happened beside it, verdict."""
        console.print(self._table())
        for line in self._lines():
            console.print(line, highlight=False, soft_wrap=True)
        verdict = f"lost {self._tally.lost()}, out of order {self._tally.out_of_order()}"
        console.print()
        console.print(Text(f"✔ {verdict}", "bold green") if self.ok else Text(f"✘ FAILED: {verdict}", "bold red"))

    def _rows(self) -> Collection[Row]:
        return self._tally.rows.values()

    def _table(self) -> Table:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
        table.add_column("messages", no_wrap=True)
        for row in self._rows():
            table.add_column(f"{row.topic}\n→ {row.source.group}", justify="right", no_wrap=True)
        for name, measure in _MEASURES.items():
            table.add_row(name, *(_cell(name, measure(row)) for row in self._rows()))
        table.add_row("ms until handled, median", *(_percentile(row.handled.values(), 50) for row in self._rows()))
        table.add_row("ms until handled, 99 %", *(_percentile(row.handled.values(), 99) for row in self._rows()))
        return table

    def _lines(self) -> list[str]:
        asked, stop, story = self._quotes, self._story.stop, self._story
        handled = sum(len(row.handled) for row in self._rows())
        starts = sum(row.started for row in self._rows())
        prices = f"{asked.asked:,} asked = {asked.answered:,} answered + {asked.failed:,} refused + {asked.late:,} late"
        speed = f"{handled:,} messages in {story.elapsed:.1f} s: {handled / story.elapsed:,.0f} a second"
        lines = [
            f"prices   {prices}; median {_percentile(asked.seconds, 50)} ms",
            f"speed    {speed}, with {starts:,} starts of a handler",
        ]
        if stop is not None:
            went_back = f"{stop.released:,} unstarted messages went back"
            lines.append(f"stop     {stop.seconds:.2f} s: {stop.running:,} running handlers ended, {went_back}")
        if story.caught_up_in is not None:
            lines.append(
                f"restart  {story.waiting_at_restart:,} messages waited, done after {story.caught_up_in:.2f} s"
            )
        return lines


def _cell(name: str, number: int | None) -> Text:
    if number is None:
        return Text("-", "dim")
    style = ("green" if number == 0 else "bold red") if name in _MUST_BE_0 else ""
    return Text(f"{number:,}", style)


def _percentile(seconds: Collection[float], percent: int) -> str:
    if len(seconds) < 2:
        return "-"
    return f"{1000 * statistics.quantiles(seconds, n=100)[percent - 1]:,.1f}"
