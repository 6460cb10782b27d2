"""`msgbus topology`: what a bus needs, for people and for other tools, and whether it is there."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from enum import Enum
from typing import Annotated

import typer

from msgbus.broker import Difference, Mode
from msgbus.bus import Bus
from msgbus.cli.load import load_bus
from msgbus.cli.needs import Need, needs_of, written
from msgbus.cli.output import add_row, note, say, say_json, show, table_of
from msgbus.cli.probe import all_connected
from msgbus.errors import ConfigError


class Provision(Enum):
    """The values of MSGBUS_PROVISION."""

    create = "create"
    verify = "verify"
    trust = "trust"


_MODES: Mapping[Provision, Mode] = {
    Provision.create: "create",
    Provision.verify: "verify",
    Provision.trust: "trust",
}
_VERBS = {"consume": "reads", "answer": "answers", "publish": "publishes to", "send": "sends to", "request": "requests"}


def topology(
    target: Annotated[str, typer.Argument(metavar="MODULE:BUS", help="The bus, for example shop.app:bus.")],
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    apply: Annotated[bool, typer.Option("--apply", help="Create what is missing.")] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Exit with 1 where something is missing or differs.")
    ] = False,
    format: Annotated[  # noqa: A002 - the option's natural name
        str, typer.Option("--format", metavar="NAME", help="cloudformation, terraform, iam, rabbitmq.")
    ] = "",
    provision: Annotated[
        Provision, typer.Option(help="With --format: the rights that a service needs with this MSGBUS_PROVISION.")
    ] = Provision.verify,
) -> None:
    """Show what a bus needs; write it for another tool with --format; make or check it with --apply or --verify."""
    if [bool(format), apply, verify].count(True) > 1:
        raise ConfigError("one of --format, --apply and --verify")
    bus = load_bus(target)
    if format:
        _show_written(bus, format, provision)
    elif apply or verify:
        _show_made(bus, "create" if apply else "verify", as_json=as_json)
    else:
        _show_needs(needs_of(bus), as_json=as_json)


def _show_written(bus: Bus, name: str, provision: Provision) -> None:
    text, without = written(bus, name, _MODES[provision])
    for where in without:
        note(f"{where} is not in it: its broker has no format {name}")
    sys.stdout.write(text + "\n")


def _show_made(bus: Bus, mode: Mode, *, as_json: bool) -> None:
    differences = asyncio.run(_ensure(bus, mode, f"topology --{'apply' if mode == 'create' else 'verify'}"))
    _show_differences(differences, as_json=as_json)
    if any(not difference.made for difference in differences):
        raise typer.Exit(1)


def _show_needs(needs: Sequence[Need], *, as_json: bool) -> None:
    if as_json:
        say_json([asdict(need) for need in needs])
        return
    table = table_of("handler", "what", "type", "group", "broker", "there", "ordered", "retry", "concurrency")
    for need in needs:
        add_row(table, *_cells(need))
    show(table)


def _cells(need: Need) -> Sequence[str]:
    type_ = f"{need.type} -> {need.reply}" if need.reply else need.type
    ordered = "per key" if need.ordered else ""
    retry = "no" if need.attempts == 1 else ""
    if need.attempts is not None and need.attempts > 1:
        retry = f"{need.attempts} attempts, {need.first_delay:g}-{need.max_delay:g} s"
    what, places = f"{_VERBS[need.role]} {need.kind} {need.name}", ", ".join(need.places)
    concurrency = "" if need.concurrency is None else str(need.concurrency)
    return need.handler, what, type_, need.group, need.broker, places, ordered, retry, concurrency


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
    """Everything at one broker in one call, so that it reads its state once; what a start refuses is refused first."""
    names = [target.name for target in (*bus.published, *(each.target for each in bus.registrations))]
    differences: list[Difference] = []
    async with all_connected(bus, names, purpose):
        for link, wanted in bus.needs().items():
            differences += await link.broker.admin.ensure(wanted, mode)
    return differences
