"""The embedded broker's server side: topics, queues, inboxes and dead letters, shared by those who connect to it."""

from __future__ import annotations

import asyncio
import itertools
import weakref
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from msgbus import headers as h
from msgbus.brokers.memory.queue import MemoryQueue
from msgbus.brokers.memory.stored import Stored
from msgbus.clock import Alarms, Clock
from msgbus.errors import BusError, ConfigError, Refused, Throttled
from msgbus.message import Address, Outgoing, Receipt, Source

_FULL_WAIT = 1.0  # seconds that a send waits for room before it answers Throttled

_inboxes = itertools.count(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class HubOptions:
    """`memory://?lease=30&depth=100000&max_bytes=1048576&dedup=0&replay=0`.

    `depth`: messages that may wait in one queue. `dedup`: seconds within which a repeated deduplication id is
    swallowed, 0 for none. `replay`: messages that each topic keeps for replay.
    """

    lease: float = 30.0
    depth: int = 100_000
    max_bytes: int = 1024 * 1024
    dedup: float = 0.0
    replay: int = 0


class Topic:
    """The groups of a topic, and its log where replay was asked for."""

    def __init__(self, keep: int) -> None:
        self.groups: dict[str, MemoryQueue] = {}
        self.log: deque[tuple[float, Outgoing]] | None = deque(maxlen=keep) if keep else None


class Hub:
    """All state of one embedded broker. Nothing here waits, but `room_for`."""

    def __init__(self, options: HubOptions, clock: Clock) -> None:
        self.options = options
        self.clock = clock
        self.alarms = Alarms(clock)
        self.topics: dict[str, Topic] = {}
        self.queues: dict[Address, MemoryQueue] = {}
        self._routes: dict[Address, tuple[MemoryQueue, ...]] = {}  # forgotten when the topology changes
        self._depth, self._max_bytes = options.depth, options.max_bytes
        self._special = bool(options.dedup or options.replay)
        self._seen: dict[tuple[Address, str], float] = {}

    @classmethod
    def named(cls, name: str, options: HubOptions, clock: Clock) -> Hub:
        """The hub that everybody on this event loop who says `name` shares; a private one for "".

        One that is left over from a loop that is closed is forgotten: nothing in it would ever ring again. Raises
        ConfigError where another loop still uses it.
        """
        if not name:
            return cls(options, clock)
        hub = _named.get(name)
        if hub is None or hub.alarms.loop.is_closed():
            hub = _named[name] = cls(options, clock)
        if hub.alarms.loop is not asyncio.get_running_loop():
            raise ConfigError(
                f"memory://{name} is in use on another event loop of this process: the embedded broker lives on one;"
                " give each loop a name of its own, or use a broker that is reached over the network"
            )
        return hub

    # -- topology

    def topic(self, name: str) -> Topic:
        """The topic, made when first named."""
        topic = self.topics.get(name)
        if topic is None:
            topic = self.topics[name] = Topic(self.options.replay)
        return topic

    def queue(self, source: Source) -> MemoryQueue:
        """The queue of a source, made and bound when first named."""
        queue = self.queues.get(source.address)
        if queue is None:
            queue = MemoryQueue(source, self.clock, self.alarms, lease=self.options.lease, bury=self.bury)
            self.queues[source.address] = queue
            self._routes.clear()
            if source.kind == "topic":
                topic = self.topic(source.name)
                topic.groups[source.group] = queue
                if source.start is not None and source.start.at == "oldest":
                    self.replay(queue, 0.0)
        return queue

    def drop(self, source: Source) -> None:
        """Forget a queue and what is in it."""
        self.queues.pop(source.address, None)
        self._routes.clear()

    def new_inbox(self) -> Source:
        """A reply inbox with an address of its own."""
        return Source("reply", f"inbox-{next(_inboxes)}")

    def replay(self, queue: MemoryQueue, since: float) -> int:
        """Put what the topic kept since then (Unix time) into a group's queue; how many. Raises Refused."""
        log = self.topic(queue.source.name).log
        if log is None:
            raise Refused(f"{queue.source}: this broker keeps nothing for replay; connect with memory://?replay=COUNT")
        kept = [(at, out) for at, out in log if at >= since]
        for at, out in kept:
            queue.put(Stored(out, at, out.key if queue.source.ordered else None))
        return len(kept)

    # -- sending

    def accept(self, out: Outgoing, now: float) -> Receipt | BusError | MemoryQueue:
        """Take one message at Unix time `now`: its Receipt, why not, or the full queue that it must wait for."""
        queues = self._routes.get(out.address) or self._targets(out.address)
        if queues is None:
            return Refused(f"{out.address} is not there")
        if len(out.body) > self._max_bytes:
            return Refused(f"{out.address}: the body has {len(out.body):,} bytes, allowed are {self._max_bytes:,}")
        if self._special and self._is_repeated(out):
            return Receipt(out.id)
        for queue in queues:
            if queue.depth >= self._depth:
                return queue
        return self._store(out, queues, now)

    def _store(self, out: Outgoing, queues: tuple[MemoryQueue, ...], now: float) -> Receipt | BusError:
        if self._special:
            self._remember(out, now)
        if out.expires_at is not None and out.expires_at <= now:
            return Receipt(out.id)
        for queue in queues:
            source = queue.source
            if not source.filter or _lets_through(source, out.headers):
                queue.put(Stored(out, now, out.key if source.ordered else None), out.delay)
        return Receipt(out.id) if queues else self._unrouted(out)

    def _targets(self, address: Address) -> tuple[MemoryQueue, ...] | None:
        kind, name, group = address
        if kind == "topic" and not group:
            queues = self._routes[address] = tuple(self.topic(name).groups.values())
            return queues
        queue = self.queues.get(address)
        if queue is not None:
            self._routes[address] = (queue,)
            return (queue,)
        return () if kind == "reply" else None  # a requester that is gone is no error of the responder

    @staticmethod
    def _unrouted(out: Outgoing) -> Receipt | BusError:
        if out.mandatory:
            return Refused(f"{out.address}: nobody subscribes to it")
        return Receipt(out.id, unrouted=True)

    def _is_repeated(self, out: Outgoing) -> bool:
        if not self.options.dedup:
            return False
        now, seen = self.clock.now(), self._seen
        while seen:
            oldest = next(iter(seen))
            if seen[oldest] > now:
                break
            del seen[oldest]
        return (out.address, out.dedup_id or out.id) in seen

    def _remember(self, out: Outgoing, now: float) -> None:
        """For deduplication and replay, once it is sure that the message is taken."""
        if self.options.dedup:
            self._seen[(out.address, out.dedup_id or out.id)] = self.clock.now() + self.options.dedup
        kind, name, group = out.address
        if kind == "topic" and not group and (log := self.topic(name).log) is not None:
            log.append((now, out))

    async def room_for(self, out: Outgoing, queue: MemoryQueue) -> Receipt | BusError:
        """Wait a bounded time for a full queue; Throttled when it stays full."""
        give_up = self.clock.now() + _FULL_WAIT
        while (left := give_up - self.clock.now()) > 0:
            await queue.room.wait(left)
            result = self.accept(out, self.clock.time())
            if not isinstance(result, MemoryQueue):
                return result
            queue = result
        return Throttled(f"{out.address}: {queue.source} is full with {queue.depth:,} messages")

    # -- dead letters

    @staticmethod
    def dead_source(source: Source) -> Source:
        """The queue that keeps the dead letters of `source`."""
        return Source("queue", "/".join((source.kind, source.name, source.group, "dead")))  # no name has a slash

    def bury(self, source: Source, stored: Stored, reason: str, headers: Mapping[str, str] | None = None) -> None:
        """Put a message of `source` into its dead-letter queue, with failure headers."""
        dead = {**stored.headers, h.DEAD_REASON: reason, h.ORIGIN: source.origin, **(headers or {})}
        copy = Outgoing(source.address, stored.out.id, stored.out.body, dead, stored.out.key)
        self.queue(self.dead_source(source)).put(Stored(copy, stored.since, None))


_named: weakref.WeakValueDictionary[str, Hub] = weakref.WeakValueDictionary()


def _lets_through(source: Source, headers: Mapping[str, str]) -> bool:
    return all(headers.get(name) in values for name, values in source.filter)
