"""DeadLetters: what a program and the command line do with the dead letters of one subscription."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

from msgbus.broker import MovesLetters
from msgbus.bus import Bus
from msgbus.dead.letters import DeadLetter, Redriven
from msgbus.dead.reading import Reading, reading
from msgbus.dead.redrive import PREFETCH, SEARCH, Redrive, Sender
from msgbus.envelope.fitting import fitter
from msgbus.errors import ConfigError, Refused
from msgbus.message import Kind, Source
from msgbus.topic import Queue, Rpc, Topic

Target = Topic[Any] | Queue[Any] | Rpc[Any, Any] | str


class DeadLetters:
    """The dead letters of one subscription. The bus must be open: `async with bus:`.

    `target`: a topic with `group`, a queue or a call; or their names as the handlers of the bus have them, such as
    "orders/billing". `wait`: seconds without a letter after which all count as seen; 0 is enough on memory://.
    Raises ConfigError for a name that no handler of the bus has.
    """

    def __init__(self, bus: Bus, target: Target, group: str = "", *, wait: float = 1.0) -> None:
        subscription = _find(bus, target, group)
        self.source = subscription.source
        self._filter_on = subscription.filter_on
        self._link = bus.link_for(subscription.name)
        self._clock = bus.clock
        self._timeout = bus.settings.publish_timeout
        self._wait = wait

    async def count(self) -> int | None:
        """How many wait, as exactly as the broker knows; None where it can't tell."""
        backlog = await self._link.broker.admin.backlog(await self._place())
        return None if backlog is None else backlog.depth

    async def peek(self, limit: int = 100) -> Sequence[DeadLetter]:
        """Up to `limit` letters, oldest first where the broker has an order. They stay where they are."""
        letters: list[DeadLetter] = []
        async with await self._reading(limit) as opened:
            while batch := await opened.next(limit - len(letters)):
                letters.extend(map(DeadLetter.of, batch))
        return letters

    async def find(self, message_id: str) -> DeadLetter | None:
        """The letter with that id, if it is among the first 10,000. It stays where it is."""
        async with await self._reading(SEARCH) as opened:
            while batch := await opened.next(SEARCH - len(opened.held)):
                for letter in map(DeadLetter.of, batch):
                    if letter.id == message_id:
                        return letter
        return None

    async def redrive(
        self,
        *,
        ids: Collection[str] | None = None,
        limit: int | None = None,
        progress: Callable[[int], object] | None = None,
    ) -> Redriven:
        """Send letters back to the one subscription that they came from, where they begin at attempt 1.

        `ids`: only these. `limit`: at most so many. `progress(moved)` is called after each batch. A letter is
        removed only after the broker has confirmed its copy, so an interruption at any point loses nothing; at most
        the batch in hand is doubled. What fails again meanwhile is left for the next redrive. All of them at once
        are moved by the service itself, where it can: then they keep their failure headers.
        """
        admin = self._link.broker.admin
        if ids is None and limit is None and isinstance(admin, MovesLetters):
            moved = await admin.move_dead_letters(self.source, progress)
            if moved is not None:
                return Redriven(moved=moved)
        run = Redrive(self._sender(), self._clock, ids, limit)
        async with await self._reading(PREFETCH if ids is None else SEARCH) as opened:
            while batch := await opened.next(run.wanted(len(opened.held))):
                await run.take(batch, opened)
                if progress is not None:
                    progress(run.moved)
        return run.result()

    async def purge(self) -> int:
        """Throw them all away; how many."""
        return await self._link.broker.admin.purge(await self._place())

    async def _place(self) -> Source:
        place = await self._link.broker.admin.dead_letters(self.source)
        if place is None:
            raise Refused(f"{self.source}: this broker keeps no dead letters that can be read")
        return place

    async def _reading(self, prefetch: int) -> AbstractAsyncContextManager[Reading]:
        return reading(self._link.broker, await self._place(), max(1, prefetch), self._clock, self._wait)

    def _sender(self) -> Sender:
        fit = fitter(str(self.source), self._link.broker.capabilities(self.source), self._filter_on)
        return Sender(self.source, self._link, fit, self._timeout)


@dataclass(frozen=True, slots=True)
class _Subscription:
    """`name` decides which broker carries it."""

    name: str
    source: Source
    filter_on: Sequence[str]


def _find(bus: Bus, target: Target, group: str) -> _Subscription:
    if isinstance(target, str):
        return _named(bus, f"{target}/{group}" if group else target)
    if isinstance(target, Topic) and not group:
        raise ConfigError(f"{target!r}: each group has dead letters of its own, say which")
    kind: Kind = "topic" if isinstance(target, Topic) else "queue"
    for label, known in _known(bus).items():
        if label == "/".join(filter(None, (target.name, group))) and known.source.kind == kind:
            return known
    ordered = not isinstance(target, Rpc) and target.ordered
    source = Source(kind, bus.settings.prefix + target.name, group, ordered)
    return _Subscription(target.name, source, _filter_on(target))


def _named(bus: Bus, label: str) -> _Subscription:
    known = _known(bus)
    if label not in known:
        raise ConfigError(f"{label!r}: no handler of this bus reads it; there are {', '.join(sorted(known)) or 'none'}")
    return known[label]


def _known(bus: Bus) -> dict[str, _Subscription]:
    """As "orders/billing" for a group of a topic, "work" for a queue or a call."""
    return {
        "/".join(filter(None, (members[0].target.name, members[0].group))): _Subscription(
            members[0].target.name, source, _filter_on(members[0].target)
        )
        for source, members in bus.sources()
    }


def _filter_on(target: object) -> Sequence[str]:
    return target.filter_on if isinstance(target, Topic) else ()
