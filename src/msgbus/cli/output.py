"""What the commands print: results on stdout, everything else on stderr."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from urllib.parse import urlsplit

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from msgbus.errors import BusError, ConfigError

_CREDENTIALS = re.compile(r"(?<=://)[^\s/@]+@")
_WIDEST = 10_000  # characters of a line in a pipe or a file
_SECRET = re.compile(r"(?i)([?&][^=&\s]*(?:secret|password|passwd|token|key)[^=&\s]*=)[^&\s]*")


def scrub(text: str) -> str:
    """The text without the credentials of URLs in it."""
    return _SECRET.sub(r"\1***", _CREDENTIALS.sub("***@", text))


def location(url: str) -> str:
    """A broker's URL as it may be shown: no credentials, no options."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def exit_code(error: BusError) -> int:
    """2 where the caller can put it right (a setting, a name, a payload), else 1."""
    return 2 if isinstance(error, ConfigError) else 1


def say(text: str) -> None:
    """A result, as it is."""
    sys.stdout.write(text + "\n")


def say_json(value: object) -> None:
    """A result for other programs."""
    say(json.dumps(value, indent=2, ensure_ascii=False))


def complain(text: str) -> None:
    """One line of error."""
    Console(stderr=True, soft_wrap=True, highlight=False).print(Text.assemble(("error: ", "bold red"), scrub(text)))


def note(text: str) -> None:
    """Something beside the result."""
    Console(stderr=True, soft_wrap=True, highlight=False).print(Text(scrub(text)))


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
    """Cells that are shown as they are: what looks like markup is none."""
    table.add_row(*map(Text, cells))


def headers_as_text(headers: Mapping[str, str]) -> str:
    """One header a line, names aligned."""
    width = max(map(len, headers), default=0)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in sorted(headers.items()))


def progress_bar() -> Progress:
    """On stderr; not shown where that is no terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
