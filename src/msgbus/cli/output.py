"""What the commands print: results on stdout, everything else on stderr."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from msgbus.brokers.hiding import scrub, shown
from msgbus.cli.safe import on_one_line, visible, visible_json
from msgbus.errors import BusError, ConfigError

_WIDEST = 10_000  # characters of a line in a pipe or a file

location = shown
"""A broker's URL as it may be shown: no credentials, no options."""


def exit_code(error: BusError) -> int:
    """2 where the caller can put it right (a setting, a name, a payload), else 1."""
    return 2 if isinstance(error, ConfigError) else 1


def say(text: str) -> None:
    """A result; what a terminal would obey in it is written out."""
    sys.stdout.write(visible(text) + "\n")


def say_json(value: object) -> None:
    """A result for other programs."""
    sys.stdout.write(visible_json(value, indent=2) + "\n")


def complain(text: str) -> None:
    """One line of error."""
    lines = visible(scrub(text)).replace("\n", "\n  ")  # what follows must not look like a line of ours
    Console(stderr=True, soft_wrap=True, highlight=False).print(Text.assemble(("error: ", "bold red"), lines))


def note(text: str) -> None:
    """Something beside the result."""
    Console(stderr=True, soft_wrap=True, highlight=False).print(Text(visible(scrub(text)).replace("\n", "\n  ")))


def show(table: Table) -> None:
    """A table, as wide as the terminal; as wide as it needs to be where there is none."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=max(console.width, Console(width=_WIDEST).measure(table).maximum))
    console.print(table)


def table_of(*columns: str) -> Table:
    """An empty table whose cells are plain text."""
    table = Table(header_style="bold", highlight=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def add_row(table: Table, *cells: str) -> None:
    """Cells that are shown as they are: what looks like markup is none, and what looks like a row neither."""
    table.add_row(*(Text(on_one_line(cell)) for cell in cells))


def headers_as_text(headers: Mapping[str, str]) -> str:
    """One header a line, names aligned."""
    lines = {on_one_line(name): on_one_line(value) for name, value in headers.items()}
    width = max(map(len, lines), default=0)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in sorted(lines.items()))


def progress_bar() -> Progress:
    """On stderr; not shown where that is no terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
