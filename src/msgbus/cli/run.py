"""`msgbus run`: the handlers of a bus, in this process or in several."""

from __future__ import annotations

import asyncio
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from msgbus.broker import Capabilities
from msgbus.bus import Bus
from msgbus.cli.health import Place
from msgbus.cli.load import load_bus
from msgbus.cli.logs import Level, set_up
from msgbus.cli.output import exit_code, location
from msgbus.cli.probe import capabilities_of
from msgbus.cli.service import Service, run_loop
from msgbus.cli.supervisor import LIFELINE, Supervisor, worker_command
from msgbus.errors import BusError, ConfigError, missing_extra

log = logging.getLogger("msgbus.run")


def run(
    context: typer.Context,
    target: Annotated[str, typer.Argument(metavar="MODULE:BUS", help="The bus, for example shop.app:bus.")],
    workers: Annotated[int, typer.Option(min=1, help="Processes that share the work.")] = 1,
    reload: Annotated[bool, typer.Option("--reload", help="Start again when a Python file changes.")] = False,
    health: Annotated[
        str | None, typer.Option(metavar="[HOST:]PORT", help="Serve GET /live and /ready, on 127.0.0.1 by default.")
    ] = None,
    grace: Annotated[
        float | None, typer.Option(min=0, help="Seconds for running handlers on stop; MSGBUS_GRACE by default.")
    ] = None,
    json_logs: Annotated[bool, typer.Option("--json-logs", help="Log one JSON object a line.")] = False,
    log_level: Annotated[Level, typer.Option(help="What is logged.")] = Level.INFO,
) -> None:
    """Run the handlers of a bus until SIGTERM or SIGINT; a second signal cancels what still runs."""
    set_up(as_json=json_logs, level=log_level)
    debug = bool(context.parent and context.parent.params.get("debug"))
    raise typer.Exit(_Options(target, workers, reload, health, grace, json_logs, log_level).run(debug=debug))


@dataclass(frozen=True, slots=True)
class _Options:
    """The command line, and what it comes to."""

    target: str
    workers: int
    reload: bool
    health: str | None
    grace: float | None
    json_logs: bool
    log_level: Level

    def run(self, *, debug: bool) -> int:
        """The exit code. With JSON logs an error is a line of the log, so that every line is JSON."""
        try:
            return self._run(debug=debug)
        except BusError as error:
            if debug or not self.json_logs:
                raise
            log.critical("%s", error, extra={} if error.__cause__ is None else {"cause": error.__cause__})
            return exit_code(error)

    def _run(self, *, debug: bool) -> int:
        place = None if self.health is None else Place.parse(self.health)
        command = worker_command(self.target, *self._for_workers(), debug=debug)
        if self.reload:
            if self.workers > 1:
                raise ConfigError("--reload is for development with one process: leave --workers out")
            return run_loop(_reloading(command, self.grace, place))
        bus = load_bus(self.target)
        if not bus.registrations:
            raise ConfigError(f"{self.target} has no handlers: are the modules that decorate them imported?")
        if self.workers > 1:
            return run_loop(_supervise(bus, command, self.workers, self.grace, place))
        return run_loop(_consume(bus, self.grace, place))

    def _for_workers(self) -> list[str]:
        options = [f"--log-level={self.log_level.value}"]
        if self.grace is not None:
            options.append(f"--grace={self.grace}")
        if self.json_logs:
            options.append("--json-logs")
        return options


async def _consume(bus: Bus, grace: float | None, place: Place | None) -> int:
    lifeline = os.environ.get(LIFELINE)
    try:
        return await Service(bus, grace).run(place, None if lifeline is None else int(lifeline))
    except (BusError, asyncio.CancelledError):
        raise
    except Exception:
        log.exception("a consumer died")
        return 1


async def _supervise(bus: Bus, command: list[str], workers: int, grace: float | None, place: Place | None) -> int:
    for url in {bus.settings.url, *bus.settings.routes.values()}:
        _check_shared(url, capabilities_of(url), workers)
    return await Supervisor(command, workers, bus.settings.grace if grace is None else grace).run(place)


def _check_shared(url: str, capabilities: Capabilities | None, workers: int) -> None:
    """What the class can't tell without a connection is a server's, and shared."""
    if capabilities is not None and not capabilities.shared:
        raise ConfigError(
            f"--workers {workers}: {location(url)} lives inside one process, each worker would have messages of its own"
        )


async def _reloading(command: list[str], grace: float | None, place: Place | None) -> int:
    """The supervisor does not import the service: a file that can't be imported is just another crash."""
    try:
        from watchfiles import PythonFilter, awatch  # noqa: PLC0415 - it may be missing
    except ModuleNotFoundError as error:
        raise missing_extra("--reload", error, "cli") from error
    stop = asyncio.Event()
    changes = awatch(Path.cwd(), watch_filter=PythonFilter(), stop_event=stop)
    try:
        return await Supervisor(command, 1, 30.0 if grace is None else grace, changes=changes).run(place)
    finally:
        stop.set()
