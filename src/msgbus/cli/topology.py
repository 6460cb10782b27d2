"""`msgbus topology`: what the decorated handlers need, and whether it is there."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Annotated

import typer

from msgbus.broker import Difference, Mode, Part
from msgbus.bus import Bus
from msgbus.cli.load import load_bus
from msgbus.cli.output import add_row, location, say, say_json, show, table_of
from msgbus.cli.probe import connected
from msgbus.errors import ConfigError
from msgbus.handlers.registration import Registration
from msgbus.handlers.topology import topology_of
from msgbus.message import Source
from msgbus.topic import Rpc, type_name


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """One handler and what it reads. `kind`: topic, queue or call; `name` with the prefix of the settings."""

    handler: str
    kind: str
    name: str
    group: str
    type: str
    reply: str | None
    broker: str
    ordered: bool
    attempts: int
    first_delay: float
    max_delay: float
    concurrency: int
    filter: dict[str, list[str]] = field(default_factory=dict)


def needs_of(bus: Bus) -> list[Need]:
    """One entry for each decorated handler."""
    return [_need(bus, source, member) for source, members in bus.sources() for member in members]


def _need(bus: Bus, source: Source, member: Registration) -> Need:
    target, settings = member.target, bus.settings
    is_call, retry = isinstance(target, Rpc), member.options.retry
    return Need(
        handler=f"{member.bound.function.__module__}.{member.bound.name}",
        kind="call" if is_call else source.kind,
        name=source.name,
        group=source.group,
        type=type_name(target.request if isinstance(target, Rpc) else target.type),
        reply=type_name(target.reply) if isinstance(target, Rpc) else None,
        broker=location(settings.routes.get(target.name, settings.url)),
        ordered=source.ordered,
        attempts=retry.attempts,
        first_delay=retry.first_delay,
        max_delay=retry.max_delay,
        concurrency=member.options.limits.concurrency or settings.concurrency,
        filter={name: list(values) for name, values in source.filter},
    )


def topology(
    target: Annotated[str, typer.Argument(metavar="MODULE:BUS", help="The bus, for example shop.app:bus.")],
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    apply: Annotated[bool, typer.Option("--apply", help="Create what is missing.")] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Exit with 1 where something is missing or differs.")
    ] = False,
) -> None:
    """Show what the handlers of a bus need; with --apply or --verify, at the broker."""
    bus = load_bus(target)
    if not (apply or verify):
        _show_needs(needs_of(bus), as_json=as_json)
        return
    if apply and verify:
        raise ConfigError("--apply or --verify, not both")
    differences = asyncio.run(
        _ensure(bus, "create" if apply else "verify", f"topology --{'apply' if apply else 'verify'}")
    )
    _show_differences(differences, as_json=as_json)
    if any(not difference.made for difference in differences):
        raise typer.Exit(1)


def _show_needs(needs: Sequence[Need], *, as_json: bool) -> None:
    if as_json:
        say_json([asdict(need) for need in needs])
        return
    table = table_of("handler", "reads", "type", "group", "broker", "ordered", "retry", "concurrency")
    for need in needs:
        type_ = f"{need.type} -> {need.reply}" if need.reply else need.type
        ordered = "per key" if need.ordered else ""
        retry = f"{need.attempts} attempts, {need.first_delay:g}-{need.max_delay:g} s" if need.attempts > 1 else "no"
        cells = (need.handler, f"{need.kind} {need.name}", type_, need.group, need.broker, ordered)
        add_row(table, *cells, retry, str(need.concurrency))
    show(table)


def _show_differences(differences: Sequence[Difference], *, as_json: bool) -> None:
    if as_json:
        say_json([asdict(difference) for difference in differences])
    elif not differences:
        say("everything is there, as declared")
    else:
        table = table_of("what", "wanted", "found", "")
        for one in differences:
            add_row(table, one.part, one.wanted, one.found, "made" if one.made else "differs")
        show(table)


async def _ensure(bus: Bus, mode: Mode, purpose: str) -> list[Difference]:
    """Everything at one broker in one call, so that it reads its state once."""
    parts: dict[str, tuple[str, list[Part]]] = {}
    for source, members in bus.sources():
        name, options = members[0].target.name, members[0].options
        url = bus.settings.routes.get(name, bus.settings.url)
        wanted = topology_of(source, options)
        parts.setdefault(url, (name, []))[1].extend(wanted)
    differences: list[Difference] = []
    for name, wanted in parts.values():
        async with connected(bus, name, purpose) as link:
            differences += await link.broker.admin.ensure(wanted, mode)
    return differences
