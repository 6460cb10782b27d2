"""What probes and metrics should know of a bus."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from msgbus.broker import Lag
from msgbus.consuming.life import SubscriptionHealth
from msgbus.consuming.runner import Runner
from msgbus.errors import shown
from msgbus.publishing.link import Link


class Beside(Protocol):
    """What runs beside the handlers of a bus, such as the relay of an outbox, and is told with the bus's health."""

    @property
    def name(self) -> str:
        """In a word."""
        ...

    @property
    def trouble(self) -> BaseException | None:
        """What fails now and may pass; publishing and handling go on, so the bus is ready all the same."""
        ...

    @property
    def failure(self) -> BaseException | None:
        """What ended it. Then the bus is not live: nothing would begin it again."""
        ...


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


def health_of(
    links: Sequence[Link], runners: Sequence[Runner], beside: Sequence[Beside] = (), *, is_open: bool
) -> Health:
    """The health of a bus from that of its links, its subscriptions and what runs beside them."""
    subscriptions = tuple(runner.life.now for runner in runners)
    dead = [f"{runner.subscription.source}: {shown(runner.error)}" for runner in runners if runner.error is not None]
    dead += [f"{each.name}: {shown(each.failure)}" for each in beside if each.failure is not None]
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
    troubles += [f"{each.name}: {shown(each.trouble)}" for each in beside if each.trouble is not None]
    troubles += [f"{each.subscription.source}: {each.policy.trouble}" for each in runners if each.policy.trouble]
    live = not dead
    return Health(live, live and not problems, (*dead, *problems, *troubles), tuple(lags), subscriptions)
