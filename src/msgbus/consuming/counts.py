"""What a bus has done and what it holds, in numbers: for metrics, and for who waits until it is at rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from msgbus.consuming.runner import Runner
from msgbus.message import Source
from msgbus.publishing.link import Link


@dataclass(frozen=True, slots=True)
class SubscriptionStats:
    """One subscription since its handlers began.

    Now: `in_hand`: deliveries that this process has and that are not settled, of these `running` handlers (batches
    count as one). So far: `received` deliveries, and what became of them: `handled` (acknowledged, with what no handler
    saw: `skipped` was not selected, `expired` came too late), `retried` attempts, `dead`, `released` unstarted, `lost`
    with their lease or their receiver.
    """

    source: Source
    in_hand: int
    running: int
    received: int
    handled: int
    retried: int
    dead: int
    released: int
    lost: int
    skipped: int
    expired: int


@dataclass(frozen=True, slots=True)
class LinkStats:
    """One broker, by its URL without secrets: `calls` of its send are out, `waiting` messages wait for theirs."""

    broker: str
    calls: int
    waiting: int


@dataclass(frozen=True, slots=True)
class BusStats:
    """The subscriptions, in the order in which they were declared, and the brokers; empty before the bus was open."""

    subscriptions: tuple[SubscriptionStats, ...]
    brokers: tuple[LinkStats, ...]


def stats_of(links: Sequence[Link], runners: Sequence[Runner]) -> BusStats:
    """Those of a bus from its links and subscriptions."""
    return BusStats(tuple(_of(runner) for runner in runners), tuple(LinkStats(link.name, *link.load) for link in links))


def _of(runner: Runner) -> SubscriptionStats:
    session, stats = runner.session, runner.subscription.stats  # once: it may be called from any thread
    return SubscriptionStats(
        source=runner.subscription.source,
        in_hand=0 if session is None else len(session.in_hand),
        running=0 if session is None else session.running,
        received=stats.received,
        handled=stats.handled,
        retried=stats.retried,
        dead=stats.dead,
        released=stats.released,
        lost=stats.lost,
        skipped=stats.skipped,
        expired=stats.expired,
    )
