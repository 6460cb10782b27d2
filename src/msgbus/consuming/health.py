"""What probes and metrics should know of a bus."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from msgbus.broker import Lag
from msgbus.consuming.life import SubscriptionHealth
from msgbus.consuming.runner import Runner
from msgbus.errors import shown
from msgbus.publishing.link import Link


@dataclass(frozen=True, slots=True)
class Health:
    """`live`: nothing has died. `ready`: it can publish and, when consuming, receive. `problems` says what is wrong,
    and what goes wrong beside that (dead letters that their queue does not take).

    `subscriptions`: each one's state, since when and why. `lags`: how late each is with each shard that this process
    reads, where the broker is a log.
    """

    live: bool
    ready: bool
    problems: tuple[str, ...] = ()
    lags: tuple[Lag, ...] = ()
    subscriptions: tuple[SubscriptionHealth, ...] = ()


def health_of(links: Sequence[Link], runners: Sequence[Runner], *, is_open: bool) -> Health:
    """The health of a bus from that of its links and subscriptions."""
    subscriptions = tuple(runner.life.now for runner in runners)
    dead = [f"{runner.subscription.source}: {shown(runner.error)}" for runner in runners if runner.error is not None]
    problems = [str(each) for each in subscriptions if each.state not in ("running", "stopped")]
    problems += [f"{link.name}: {link.failure}" for link in links if link.failure is not None]
    lags: list[Lag] = []
    troubles: list[str] = []
    for link in links:
        status = link.broker.status()
        lags += status.lags
        if not status.connected or status.blocked:
            problems.append(f"{link.name}: {status.reason or 'not connected'}")
        elif link.trouble is not None:
            problems.append(f"{link.name}: sending fails: {shown(link.trouble)}")
        elif status.reason:
            troubles.append(f"{link.name}: {status.reason}")
    if not is_open:
        problems.append("the bus is not open")
    troubles += [f"{each.subscription.source}: {each.policy.trouble}" for each in runners if each.policy.trouble]
    live = not dead
    return Health(live, live and not problems, (*dead, *problems, *troubles), tuple(lags), subscriptions)
