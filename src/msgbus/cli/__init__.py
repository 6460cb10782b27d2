"""The command line: `msgbus run`, `publish`, `topology`, `capabilities`, `dead` and others. Needs `msgbus[cli]`."""

from __future__ import annotations

import sys

_NEEDED = ("typer", "rich")


def main() -> None:
    """The entry point `msgbus`."""
    try:
        from msgbus.cli.app import app  # noqa: PLC0415 - it may be missing what it needs
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _NEEDED:
            raise
        sys.stderr.write(f"msgbus: {error.name} is missing, install it with: pip install 'msgbus[cli]'\n")
        raise SystemExit(2) from error
    app()
