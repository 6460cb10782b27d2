"""The command line: `msgbus run`, `publish`, `topology`, `capabilities`, `dead` and others. Needs `msgbus[cli]`."""

from __future__ import annotations

import sys
from collections.abc import Callable

from msgbus.errors import missing_extra

_NEEDED = ("typer", "rich")


def command_line() -> Callable[[], None]:
    """What runs a command. Exits with 2 where what it needs is missing."""
    try:
        from msgbus.cli.app import app  # noqa: PLC0415 - it may be missing what it needs
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _NEEDED:
            raise
        sys.stderr.write(f"{missing_extra('msgbus', error, 'cli')}\n")
        raise SystemExit(2) from error
    return app


def main() -> None:
    """Run the command that the arguments name."""
    command_line()()
