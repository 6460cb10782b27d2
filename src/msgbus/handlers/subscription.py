"""A subscription, ready to run: where it reads, and what is called for what it reads."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from fast_depends import Provider
from fast_depends.core import CallModel

from msgbus import headers as h
from msgbus.broker import Capabilities
from msgbus.envelope.claim import BodyStore
from msgbus.envelope.opening import Open, opener
from msgbus.handlers.binding import Bound
from msgbus.handlers.handling import batch_handler, handler
from msgbus.handlers.lifespan import Yielded
from msgbus.handlers.middleware import Handle, HandleBatch
from msgbus.handlers.registration import Registration, plain
from msgbus.handlers.stats import Stats
from msgbus.handlers.threads import Threads
from msgbus.message import Delivery, Source
from msgbus.options import OnDead, Options
from msgbus.topic import Rpc, Topic, type_name


@dataclass(slots=True, kw_only=True)
class Subscription:
    """All that a session must know of a subscription.

    `handle` is everything around and including the user's function. `open` undoes the envelope. `last_word` is
    asked when a failure is final: True says that the requester was told, so the delivery is acknowledged. `store`
    has the bodies that were too large. `threads` are for handlers that are plain functions. `models`:
    what handlers depend on, with their names; `yielded` is what the lifespan has for them.
    """

    source: Source
    capabilities: Capabilities
    handle: Handle
    options: Options
    concurrency: int
    prefetch: int
    open: Open | None = None
    handle_batch: HandleBatch | None = None
    last_word: Callable[[Delivery, Exception], Awaitable[bool]] | None = None
    on_dead: Sequence[OnDead] = ()
    store: BodyStore | None = None
    threads: Threads | None = None
    models: Sequence[tuple[str, CallModel]] = ()
    yielded: Yielded | None = None
    stats: Stats = field(default_factory=Stats)


def group_by_place(registrations: Sequence[Registration]) -> list[list[Registration]]:
    """Registrations that share a subscription, together."""
    places: dict[tuple[str, str, str], list[Registration]] = {}
    for registration in registrations:
        places.setdefault(registration.place, []).append(registration)
    return list(places.values())


def source_of(members: Sequence[Registration], prefix: str, *, has_store: bool) -> Source:
    """What the receiver of these registrations reads.

    `has_store`: a body may be a pointer, which no broker can look into.
    """
    first = members[0]
    where = dict(first.select.where or {})
    target = first.target
    if isinstance(target, Topic) and target.narrowed:
        where[h.TYPE] = [type_name(member.target.type) for member in members if isinstance(member.target, Topic)]
    return Source(
        first.kind,
        prefix + target.name,
        first.group,
        ordered=not isinstance(target, Rpc) and target.ordered,
        start=first.select.start,
        filter=tuple((name, tuple(values)) for name, values in where.items()),
        fields=() if has_store or "json" not in target.codec.content_type else _plain_fields(first.select.fields),
    )


def _plain_fields(
    fields: Mapping[str, Sequence[object]] | None,
) -> tuple[tuple[str, tuple[str | int | bool | None, ...]], ...]:
    return tuple((name, tuple(cast(Any, plain(value)) for value in values)) for name, values in (fields or {}).items())


def subscription_of(
    members: Sequence[Registration],
    source: Source,
    capabilities: Capabilities,
    provider: Provider,
    on_dead: Sequence[OnDead],
    concurrency: int,
) -> Subscription:
    """A subscription with its handler; the caller wraps that in what surrounds it (middlewares, store, replies).

    `concurrency`: of a handler that sets none.
    """
    first = members[0]
    options, limits, stats = first.options, first.options.limits, Stats()
    concurrency = limits.concurrency or concurrency
    threads, models = Threads(str(source), concurrency), list[tuple[str, CallModel]]()

    def calls(bound: Bound) -> Callable[[Any], Awaitable[Any]]:
        return bound.call(provider, threads, models)

    batch = batch_handler(first, calls, stats) if first.bound.wants_list else None
    own_hook = () if options.retry.on_dead is None else (options.retry.on_dead,)
    return Subscription(
        source=source,
        capabilities=capabilities,
        handle=handler(members, calls, stats),
        handle_batch=batch,
        options=options,
        concurrency=concurrency,
        prefetch=limits.prefetch or max(4 * concurrency, 2 * options.batch.size if batch else 0),
        open=opener(capabilities),
        on_dead=(*own_hook, *on_dead),
        threads=threads,
        models=models,
        stats=stats,
    )
