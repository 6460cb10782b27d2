"""What a bus needs, told without a connection: one entry for each handler and for each thing that is published."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from msgbus.broker import Mode
from msgbus.brokers import broker_for
from msgbus.brokers.plan import Plan, Plans, Render, Role, Use
from msgbus.bus import Bus
from msgbus.cli.output import location
from msgbus.clock import SystemClock
from msgbus.errors import ConfigError
from msgbus.handlers.registration import Registration
from msgbus.handlers.topology import use_of, use_of_published
from msgbus.message import Source
from msgbus.router import Target
from msgbus.topic import Rpc, type_name


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """One handler and what it reads, or one thing that is published (`handler` "").

    `kind`: topic, queue or call; `name` with the prefix of the settings. `places`: what it is on the server, each
    "SQS queue NAME" or the like; none where only a connection tells. Times in seconds; None where nothing handles.
    """

    role: Role
    handler: str
    kind: str
    name: str
    group: str
    type: str
    reply: str | None
    broker: str
    ordered: bool
    attempts: int | None = None
    first_delay: float | None = None
    max_delay: float | None = None
    concurrency: int | None = None
    filter: dict[str, list[str]] = field(default_factory=dict)
    places: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Declared:
    """Something declared: what it is, how it is used, the URL of its broker, and its handler if it has one."""

    target: Target
    use: Use
    url: str
    source: Source
    handler: Registration | None = None


def declared(bus: Bus) -> list[Declared]:
    """Each handler's, then what is published."""
    settings = bus.settings

    def url_of(target: Target) -> str:
        return settings.routes.get(target.name, settings.url)

    found = [
        Declared(
            member.target,
            use_of(source, member.options, answers=isinstance(member.target, Rpc)),
            url_of(member.target),
            source,
            member,
        )
        for source, members in bus.sources()
        for member in members
    ]
    for target in bus.published:
        use = use_of_published(target, settings.prefix)
        found.append(Declared(target, use, url_of(target), use.source))
    return found


def needs_of(bus: Bus) -> list[Need]:
    """One entry for each decorated handler, then for each thing that is published. Raises ConfigError."""
    all_of_them = declared(bus)
    planners = asyncio.run(_planners(each.url for each in all_of_them))
    return [_need(bus, each, planners[each.url]) for each in all_of_them]


def written(bus: Bus, name: str, mode: Mode) -> tuple[str, list[str]]:
    """All that is needed in a format, and the brokers that don't know it. Raises ConfigError where none does.

    `mode`: the rights are those that `provision` needs then.
    """
    plans, without = _plans(bus, mode)
    rendered: dict[Render, list[Plan]] = {}
    for where, plan in plans:
        if name in plan.formats:
            rendered.setdefault(plan.formats[name], []).append(plan)
        else:
            without.append(where)
    if len(rendered) != 1:
        known = ", ".join(sorted({each for _, plan in plans for each in plan.formats})) or "none"
        why = "these brokers write it each in a way of its own" if rendered else "no broker of what is declared has it"
        raise ConfigError(f"--format {name}: {why}; there are: {known}")
    ((render, together),) = rendered.items()
    return render(together), without


def _plans(bus: Bus, mode: Mode) -> tuple[list[tuple[str, Plan]], list[str]]:
    """Each with its place as it may be shown, that of the store of large bodies too; and who can't plan."""
    uses: dict[str, dict[Use, None]] = {}
    for each in declared(bus):
        uses.setdefault(each.url, {})[each.use] = None
    planners: dict[str, object] = dict(asyncio.run(_planners(uses)))
    if bus.store is not None:
        planners["the store"] = bus.store
        uses["the store"] = {use: None for found in uses.values() for use in found}
    plans, without = [], []
    for url, planner in planners.items():
        if isinstance(planner, Plans):
            plans.append((location(url), planner.plan(list(uses[url]), mode)))
        else:
            without.append(location(url))
    return plans, without


async def _planners(urls: Iterable[str]) -> dict[str, Plans | None]:
    """The broker of each URL, if it can plan: made in a running loop, as brokers expect, and never connected."""
    brokers = {url: broker_for(url, SystemClock()) for url in dict.fromkeys(urls)}
    return {url: broker if isinstance(broker, Plans) else None for url, broker in brokers.items()}


def _need(bus: Bus, declared: Declared, planner: Plans | None) -> Need:
    target, source = declared.target, declared.source
    resources = [] if planner is None else planner.plan([declared.use], "trust").resources
    return Need(
        role=declared.use.role,
        kind="call" if isinstance(target, Rpc) else source.kind,
        name=source.name,
        group=source.group,
        type=type_name(target.request if isinstance(target, Rpc) else target.type),
        reply=type_name(target.reply) if isinstance(target, Rpc) else None,
        broker=location(declared.url),
        ordered=source.ordered,
        filter={name: list(values) for name, values in source.filter},
        places=[str(resource) for resource in resources if resource.named],
        **_handling(bus, declared.handler),
    )


def _handling(bus: Bus, member: Registration | None) -> dict[str, Any]:
    if member is None:
        return {"handler": ""}
    retry = member.options.retry
    return {
        "handler": f"{member.bound.function.__module__}.{member.bound.name}",
        "attempts": retry.attempts,
        "first_delay": retry.first_delay,
        "max_delay": retry.max_delay,
        "concurrency": member.options.limits.concurrency or bus.settings.concurrency,
    }
