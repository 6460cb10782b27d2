"""The same without a terminal: a line of counts twice a second, and what the shop says about itself."""

from __future__ import annotations

import asyncio

from examples.shop.demo.story import Event, Story
from examples.shop.demo.tally import Row, Tally
from examples.shop.demo.traffic import Asked
from rich.console import Console

_EVERY = 0.5  # seconds


class PlainLines:
    """Prints the counts, and what the story tells; single failures only count."""

    def __init__(self, console: Console, story: Story, tally: Tally, quotes: Asked, title: str) -> None:
        self._console = console
        self._story = story
        self._tally = tally
        self._quotes = quotes
        self._print(title)
        story.tell = self._tell

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(_EVERY)
            rows = "; ".join(map(_counts, self._tally.rows.values()))
            asked = self._quotes
            self._print(f"{self._at()} {rows}; prices {asked.answered}/{asked.failed}/{asked.late}")

    def _at(self) -> str:
        return f"{self._story.elapsed:5.2f}"

    def _tell(self, event: Event) -> None:
        self._print(f"{event.at:5.2f} * {event.text}")

    def _print(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)


def _counts(row: Row) -> str:
    return f"{row.name} {len(row.handled):,} ({row.open:,} open, {row.retried} retried, {len(row.dead)} dead)"
