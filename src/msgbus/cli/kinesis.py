"""`msgbus kinesis`: how far a group is, shard by shard, and setting it back."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from msgbus.broker import Broker
from msgbus.bus import Bus
from msgbus.cli.load import load_bus
from msgbus.cli.output import add_row, note, say, say_json, show, table_of
from msgbus.cli.probe import connected
from msgbus.errors import ConfigError
from msgbus.message import Source, Start

commands = typer.Typer(help="Look at the leases of a group on Kinesis, set it back.", no_args_is_help=True)

_POSITIONS = re.compile(r"shardId-[\w-]+:\d+(:\d+)?(,shardId-[\w-]+:\d+(:\d+)?)*")

BusArgument = Annotated[str, typer.Argument(metavar="MODULE:BUS", help="The bus, for example shop.app:bus.")]
GroupArgument = Annotated[str, typer.Argument(metavar="TOPIC/GROUP", help="For example orders/billing.")]


@commands.command("lag")
def lag(
    bus: BusArgument, group: GroupArgument, as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False
) -> None:
    """Show how far each shard is behind. Reads once from each, of the five reads that a shard has a second."""
    found = asyncio.run(_lag(load_bus(bus), group))
    if not found:
        raise ConfigError(f"{group}: no such group has ever read that topic here: it has no leases")
    if as_json:
        say_json([asdict(each) for each in found])
        return
    table = table_of("shard", "owner", "checkpoint", "behind", "waiting")
    for each in found:
        add_row(table, each.shard, each.owner or "nobody", each.checkpoint, f"{each.behind:.1f} s", f"{each.waiting:,}")
    show(table)


@commands.command("reset")
def reset(
    bus: BusArgument,
    group: GroupArgument,
    to: Annotated[
        str, typer.Option(help="oldest, latest, a time such as 2026-11-24T06:00:00Z, or SHARD:SEQUENCE[,...].")
    ],
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
) -> None:
    """Have a group begin anew from there. Consumers that run now lose their shards and take them again."""
    start = start_of(to)
    if not yes:
        typer.confirm(
            f"{group} begins anew from {to}: what it has handled since then is handled again. Go on?", abort=True
        )
    asyncio.run(_reset(load_bus(bus), group, start))
    say(f"{group} begins from {to}")
    if start.at == "oldest":
        note("everything that the stream still holds is handled again")


def start_of(text: str) -> Start:
    """What `--to` says. Raises ConfigError."""
    if text == "oldest":
        return Start("oldest")
    if text == "latest":
        return Start("latest")
    if _POSITIONS.fullmatch(text):
        return Start("position", text)
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(
            f"--to {text}: oldest, latest, a time such as 2026-11-24T06:00:00Z, or shardId-000000000000:SEQUENCE"
        ) from error
    return Start("time", (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp())


async def _lag(bus: Bus, group: str) -> Sequence[Any]:
    name, source = _source(bus, group)
    async with connected(bus, name, "kinesis lag") as link:
        return await _admin(link.broker).lag(source)  # type: ignore[no-any-return]


async def _reset(bus: Bus, group: str, start: Start) -> None:
    name, source = _source(bus, group)
    async with connected(bus, name, "kinesis reset") as link:
        await _admin(link.broker).seek(source, start)


def _source(bus: Bus, group: str) -> tuple[str, Source]:
    """The topic's declared name, and the subscription with the prefix of the settings."""
    name, slash, group_name = group.partition("/")
    if not (name and slash and group_name):
        raise ConfigError(f"{group!r}: expected TOPIC/GROUP, for example orders/billing")
    return name, Source("topic", bus.settings.prefix + name, group_name)


def _admin(broker: Broker) -> Any:
    admin = broker.admin
    if not hasattr(admin, "lag"):
        raise ConfigError(f"{type(broker).__name__} is not Kinesis: set MSGBUS_URL or MSGBUS_ROUTES to kinesis://")
    return admin
