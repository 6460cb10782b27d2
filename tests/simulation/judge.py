"""What must hold when a run is over, however much went wrong in it."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence

from tests.simulation.ledger import Ledger, Place, Seen
from tests.simulation.scenario import Item, Scenario
from tests.simulation.service import GROUPS

from msgbus import headers as h
from msgbus.brokers.memory.hub import Hub
from msgbus.message import Address

_LAPSED = "without being settled"


class Judge:
    """`may_repeat`: numbers of messages that a fault may have doubled, and no others may come twice."""

    def __init__(self, scenario: Scenario, ledger: Ledger, hub: Hub, may_repeat: Iterable[str]) -> None:
        self._scenario = scenario
        self._ledger = ledger
        self._may_repeat = {ledger.ids[name] for name in may_repeat if name in ledger.ids}
        self._dead = _dead_letters(hub, ledger)
        self._quiet = not scenario.faults and not scenario.incidents

    def verdict(self) -> Iterator[str]:
        """Everything that does not hold."""
        for item in self._scenario.items:
            if item.target != "call":
                for origin in _origins(item):
                    yield from self._item(item, origin)
            elif self._quiet and not item.fails and item.n in self._ledger.unknown and not self._is_slow:
                yield f"request {item.n} failed of {self._ledger.unknown[item.n]}, and nothing went wrong"
        if self._scenario.ordered:
            yield from self._disorder()

    @property
    def _is_slow(self) -> bool:
        return any(item.slow or item.fails for item in self._scenario.items)

    def _item(self, item: Item, origin: str) -> Iterator[str]:
        place = (origin, item.n)
        seen, dead = self._ledger.seen.get(place, []), self._dead.get(place, [])
        ends = [each for each in seen if each.what == "end"]
        if not ends and not dead and item.n not in self._ledger.unknown:
            yield f"{origin} {item.n} was confirmed, and is lost: {_said(seen)}"
        yield from self._deaths(item, place, dead)
        if item.n not in self._may_repeat:
            if len(ends) + len(dead) > 1:
                yield f"{origin} {item.n} was handled {len(ends)} times and is dead {len(dead)} times, without a cause"
            yield from self._attempts(place, seen, dead)

    def _deaths(self, item: Item, place: Place, dead: Sequence[dict[str, str]]) -> Iterator[str]:
        for letter in dead:
            reason = letter.get(h.DEAD_REASON, "")
            if (item.fails < self._scenario.attempts or item.down) and _LAPSED not in reason:
                yield f"{place[0]} {item.n} is dead though it would have succeeded: {reason}"
            elif _LAPSED in reason and item.n not in self._may_repeat:
                yield f"{place[0]} {item.n} is dead as if it killed processes: {reason}"
            if letter.get(h.ORIGIN) != place[0]:
                yield f"{place[0]} {item.n} is dead of {letter.get(h.ORIGIN)}"

    def _attempts(self, place: Place, seen: Sequence[Seen], dead: Sequence[dict[str, str]]) -> Iterator[str]:
        """Exact where nothing was lost on the way: one more after each failure, the same after a stop."""
        begins = [each for each in seen if each.what == "begin"]
        outcomes = [each for each in seen if each.what != "begin"]
        if begins and begins[0].attempt != 1:
            yield f"{place[0]} {place[1]} began with attempt {begins[0].attempt}"
        for outcome, following in zip(outcomes, begins[1:], strict=False):
            if following.attempt not in self._allowed(outcome):
                yield f"{place[0]} {place[1]}: attempt {following.attempt} after {outcome.what} {outcome.attempt}"
        last = begins[-1].attempt if begins else 0
        if dead and dead[0].get(h.ATTEMPTS, str(last)) != str(last):
            yield f"{place[0]} {place[1]} is dead after {dead[0].get(h.ATTEMPTS)} attempts, there were {last}"

    def _allowed(self, outcome: Seen) -> tuple[int, ...]:
        """A broker without retries is given back what would be tried again, as if it had never been started."""
        if outcome.what == "fail":
            is_kept = bool(self._scenario.incidents)
            return (outcome.attempt, outcome.attempt + 1) if is_kept else (outcome.attempt + 1,)
        return (outcome.attempt,)

    def _disorder(self) -> Iterator[str]:
        """Within a key a message may begin once the one before it was concluded for the first time."""
        rows: dict[tuple[str, str], list[Item]] = {}
        for item in self._ledger.confirmed:
            if item.target != "call":
                for origin in _origins(item):
                    rows.setdefault((origin, item.key), []).append(item)
        for (origin, key), row in rows.items():
            begun = [item for item in row if self._ledger.seen.get((origin, item.n))]
            for before, after in itertools.pairwise(begun):
                if self._first_begin(origin, after) < self._concluded(origin, before):
                    yield f"{origin} {key}: {after.n} began before {before.n} was done"

    def _first_begin(self, origin: str, item: Item) -> int:
        return self._ledger.seen[origin, item.n][0].at

    def _concluded(self, origin: str, item: Item) -> int:
        seen = self._ledger.seen[origin, item.n]
        ends = [each.at for each in seen if each.what == "end"]
        fails = [each.at for each in seen if each.what == "fail" and each.attempt >= self._scenario.attempts]
        return min([*ends, *fails], default=0)


def _said(seen: Sequence[Seen]) -> str:
    return ", ".join(f"{each.service} {each.what} {each.attempt}" for each in seen) or "never begun"


def _origins(item: Item) -> Sequence[str]:
    return [f"topic/events/{group}" for group in GROUPS] if item.target == "topic" else ["queue/work"]


def _dead_letters(hub: Hub, ledger: Ledger) -> dict[Place, list[dict[str, str]]]:
    """The headers of every dead letter, by where it comes from."""
    dead: dict[Place, list[dict[str, str]]] = {}
    for address, queue in hub.queues.items():
        if address.name.endswith("/dead"):
            origin = "/".join(part for part in address.name.split("/")[:-1] if part)
            for stored in queue._ready:
                number = ledger.ids.get(stored.out.id)
                if number is not None:
                    dead.setdefault((origin, number), []).append(dict(stored.headers))
    return dead


def pending(hub: Hub) -> Sequence[str]:
    """What waits or is in hand in queues that somebody reads."""
    return [
        f"{address}: {queue.depth} waiting, {len(queue.in_flight)} in hand"
        for address, queue in hub.queues.items()
        if not is_aside(address) and (queue.depth or queue.in_flight)
    ]


def is_aside(address: Address) -> bool:
    """Dead letters, and replies to requesters that are gone."""
    return address.kind == "reply" or address.name.endswith("/dead")
