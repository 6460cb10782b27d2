"""The commands, and how their errors are shown."""

from __future__ import annotations

import traceback
from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from msgbus.cli import archive, capabilities, dead, kinesis, outbox, publish, run, topology
from msgbus.cli.output import complain, exit_code, say
from msgbus.errors import BusError


class _Commands(TyperGroup):
    """Shows what msgbus raises as one line; `exit_code` says with which code."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BusError as error:
            if ctx.params.get("debug"):
                traceback.print_exc()
            complain(str(error))
            raise typer.Exit(exit_code(error)) from error


app = typer.Typer(
    cls=_Commands,
    help="Typed asynchronous messaging for Python services.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        say(f"msgbus {version('msgbus')}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Typed asynchronous messaging for Python services."""


app.command("run")(run.run)
app.command("publish")(publish.publish)
app.command("topology")(topology.topology)
app.command("capabilities")(capabilities.capabilities)
app.add_typer(dead.commands, name="dead")
app.add_typer(kinesis.commands, name="kinesis")
app.add_typer(archive.commands, name="archive")
app.add_typer(outbox.commands, name="outbox")
