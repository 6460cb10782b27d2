"""Bugs put into the core on purpose: a simulation that does not find them is worth nothing."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from msgbus.broker import Result
from msgbus.calling import Inbox
from msgbus.consuming import policy as policies
from msgbus.consuming.fate import Fate
from msgbus.consuming.heartbeat import Heartbeat
from msgbus.consuming.session import Session
from msgbus.consuming.settler import Settler
from msgbus.consuming.workers import Workers
from msgbus.errors import Throttled
from msgbus.lanes import Lanes
from msgbus.message import Act, Delivery, Outgoing, Settlement
from msgbus.publishing import batcher as batchers
from msgbus.publishing.link import Link

Mutation = Callable[[pytest.MonkeyPatch], None]


def settlement_forgotten_at_a_stop(patch: pytest.MonkeyPatch) -> None:
    """What is unstarted when a service stops is not given back."""
    patch.setattr(Fate, "release_unstarted", lambda fate: fate.let_go())


def flush_that_waits_for_nothing(patch: pytest.MonkeyPatch) -> None:
    """A stop does not wait until the last settlements have their result."""

    async def flush(settler: Settler) -> None:
        settler.hurry = True

    patch.setattr(Settler, "flush", flush)


def attempt_not_counted(patch: pytest.MonkeyPatch) -> None:
    """A retry that waits in hand is handled with the same number again."""
    retry = Fate._retry

    def uncounted(fate: Fate, settlement: Settlement) -> None:
        retry(fate, settlement)
        if settlement.delivery in fate._held:
            settlement.delivery.attempt -= 1

    patch.setattr(Fate, "_retry", uncounted)


def lane_released_early(patch: pytest.MonkeyPatch) -> None:
    """A key's next message is handled while the one before it is."""
    patch.setattr(Lanes, "enter", lambda lanes, key, item: True)


def followers_kept(patch: pytest.MonkeyPatch) -> None:
    """What waits behind a message that is given back stays."""
    patch.setattr(Fate, "_release_followers", lambda fate, lane: None)


def failure_acknowledged(patch: pytest.MonkeyPatch) -> None:
    """A message whose handler raised is taken for handled."""
    patch.setattr(policies.Policy, "failed", lambda policy, delivery, error: Settlement(delivery, Act.ACK, error=error))


def acknowledged_before_the_handler(patch: pytest.MonkeyPatch) -> None:
    """What is received is settled at once: a crash loses it."""
    process = Workers._process

    async def hasty(workers: Workers, delivery: Delivery, worker: Any) -> Settlement | None:
        workers._fate._settle(Settlement(delivery, Act.ACK))
        await process(workers, delivery, worker)
        return None

    patch.setattr(Workers, "_process", hasty)


def released_instead_of_acknowledged(patch: pytest.MonkeyPatch) -> None:
    """Now and then what was handled is given back as if it had not been."""
    add, count = Settler.add, itertools.count(1)

    def confused(settler: Settler, settlement: Settlement) -> None:
        if settlement.act is Act.ACK and next(count) % 50 == 0:
            settlement.act = Act.RELEASE
        add(settler, settlement)

    patch.setattr(Settler, "add", confused)


def sent_again_without_a_failure(patch: pytest.MonkeyPatch) -> None:
    """A connection that is cut after a failure in part: what had its receipt goes out again."""
    attempt = Link._attempt

    async def twice(link: Link, batch: Sequence[Outgoing]) -> Sequence[Result]:
        results = await attempt(link, batch)
        if any(isinstance(result, Throttled) for result in results):
            return [Throttled("all again") for _ in batch]
        return results

    patch.setattr(Link, "_attempt", twice)


def two_of_a_key_at_once(patch: pytest.MonkeyPatch) -> None:
    """The gate of the batcher stands open."""
    patch.setattr(batchers, "_is_ordered", lambda batch: False)


def lease_not_extended(patch: pytest.MonkeyPatch) -> None:
    """The heartbeat stands still."""

    async def nothing(heartbeat: Heartbeat) -> None:
        return None

    patch.setattr(Heartbeat, "beat", nothing)


def task_leaked(patch: pytest.MonkeyPatch) -> None:
    """A session ends without ending its tasks."""

    async def nothing(session: Session) -> None:
        session._fate.let_go()

    patch.setattr(Session, "_cancel_all", nothing)


def request_kept(patch: pytest.MonkeyPatch) -> None:
    """Who has a reply is still remembered as waiting for it."""
    patch.setattr(Inbox, "forget", lambda inbox, correlation: None)


def worker_not_woken(patch: pytest.MonkeyPatch) -> None:
    """A message that becomes ready after its delay wakes nobody."""

    def resume(fate: Fate, delivery: Delivery) -> None:
        fate._held.pop(delivery, None)
        fate.ready.append(delivery)

    patch.setattr(Fate, "_resume", resume)


def dead_after_one_attempt_too_few(patch: pytest.MonkeyPatch) -> None:
    """The last attempt that a message has is not made."""
    is_final = policies.Policy.is_final

    def hasty(policy: policies.Policy, delivery: Delivery, error: Exception) -> bool:
        return is_final(policy, delivery, error) or delivery.attempt >= policy.retry.attempts - 1

    patch.setattr(policies.Policy, "is_final", hasty)


MUTATIONS: Mapping[str, Mutation] = {
    mutation.__name__: mutation
    for mutation in (
        settlement_forgotten_at_a_stop,
        flush_that_waits_for_nothing,
        attempt_not_counted,
        lane_released_early,
        followers_kept,
        failure_acknowledged,
        acknowledged_before_the_handler,
        released_instead_of_acknowledged,
        sent_again_without_a_failure,
        two_of_a_key_at_once,
        lease_not_extended,
        task_leaked,
        request_kept,
        worker_not_woken,
        dead_after_one_attempt_too_few,
    )
}
