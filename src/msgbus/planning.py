"""From registrations to plans: what `consuming()` will run, checked against what each broker can do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, cast

from fast_depends import Provider

from msgbus import headers as h
from msgbus.broker import Binding, Capabilities, Part, QueueSpec, TopicSpec
from msgbus.codecs import Codec
from msgbus.dispatch import Decode, decoder
from msgbus.envelope import STRUCTURED, open_delivery, opener
from msgbus.errors import ConfigError, Reject
from msgbus.flow import BreakerState
from msgbus.message import Delivery, Message, Source
from msgbus.middleware import Handle, HandleBatch
from msgbus.options import Failed, OnDead, Options
from msgbus.plan import Plan, Stats
from msgbus.policy import Policy
from msgbus.router import Registration, plain
from msgbus.topic import Rpc, Topic, field_getter, type_name

_NATIVE_MARGIN = 10  # the broker's own crash-loop cap lies this much above ours: ours writes the better dead letter


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


def topology_of(source: Source, policy: Policy, options: Options) -> list[Part]:
    """What must exist for a source to be read."""
    queue = QueueSpec(source, policy.max_deliveries + _NATIVE_MARGIN, options.lease.seconds)
    if source.kind != "topic":
        return [queue]
    return [TopicSpec(source.name, source.ordered), queue, Binding(source.name, source)]


def check(source: Source, options: Options, capabilities: Capabilities, broker: str) -> None:
    """Refuse at start what this broker can't do. Raises ConfigError with the remedy."""
    remedy = "route it to another broker with MSGBUS_ROUTES"
    if source.kind == "topic" and not capabilities.fanout:
        raise ConfigError(f"{source}: {broker} has no topics with groups; {remedy}")
    if source.kind == "queue" and not capabilities.queues:
        raise ConfigError(f"{source}: {broker} has no queues; {remedy}")
    if source.ordered and capabilities.order == "none":
        raise ConfigError(f"{source}: ordered=True, and {broker} keeps no order; {remedy}")
    if source.start is not None and not capabilities.replay:
        raise ConfigError(f"{source}: select.start needs replay, which {broker} has not; {remedy}")
    _check_times(source, options, capabilities, broker)


def _check_times(source: Source, options: Options, capabilities: Capabilities, broker: str) -> None:
    held = capabilities.lease_max
    timeout = options.limits.timeout
    if held is not None and timeout is not None and timeout > held:
        raise ConfigError(f"{source}: Limits.timeout={timeout:g} s, {broker} takes the message back after {held:g} s")
    longest = capabilities.retry_delay
    retries = options.retry.attempts > 1
    if longest is not None and retries and options.retry.max_delay > longest:
        raise ConfigError(
            f"{source}: Retry.max_delay={options.retry.max_delay:g} s, {broker} delays up to {longest:g} s"
        )
    if longest is None and held is not None and retries and options.retry.max_delay > held:
        raise ConfigError(f"{source}: Retry.max_delay={options.retry.max_delay:g} s, {broker} lets us hold {held:g} s")


def plan_of(
    members: Sequence[Registration],
    source: Source,
    capabilities: Capabilities,
    time: Callable[[], float],
    provider: Provider,
    on_dead: Sequence[OnDead],
    concurrency: int,
) -> Plan:
    """A subscription with its handler; the caller wraps that in what surrounds it (middlewares, store, replies)."""
    options = members[0].options
    limits = options.limits
    concurrency = limits.concurrency or concurrency
    stats = Stats()
    batch = members[0].bound.wants_list
    plan = Plan(
        source=source,
        capabilities=capabilities,
        handle=_filtered(members, _handler(members, provider, stats), stats),
        policy=Policy(options.retry, time, capabilities.retry_delay),
        options=options,
        concurrency=concurrency,
        prefetch=limits.prefetch or max(4 * concurrency, 2 * options.batch.size if batch else 0),
        open=opener(capabilities),
        breaker=BreakerState(limits.breaker, str(source)) if limits.breaker is not None else None,
        on_dead=on_dead,
        stats=stats,
    )
    if batch:
        plan.handle_batch = _batch_handler(members[0], provider, stats)
    return plan


def _handler(members: Sequence[Registration], provider: Provider, stats: Stats) -> Handle:
    if len(members) == 1 and not _is_narrowed(members[0]):
        return _single(members[0], provider, stats)
    by_type = {type_name(m.target.type): _single(m, provider, stats) for m in members if isinstance(m.target, Topic)}

    async def handle(delivery: Delivery) -> None:
        _open_foreign(delivery)
        chosen = by_type.get(delivery.headers.get(h.TYPE, ""))
        if chosen is None:  # another member of the union, that nobody in this group asked for
            stats.skipped += 1
            return
        await chosen(delivery)

    return handle


def _open_foreign(delivery: Delivery) -> None:
    """A structured event of a foreign producer has its type and its other headers inside."""
    if delivery.headers.get(h.CONTENT_TYPE, "").startswith(STRUCTURED):
        open_delivery(delivery)


def _filtered(members: Sequence[Registration], handle: Handle, stats: Stats) -> Handle:
    first = members[0]
    where = [(name, tuple(values)) for name, values in (first.select.where or {}).items()]
    if not where:
        return handle
    if first.bound.wants_list:
        raise ConfigError(f"{first.target!r}: select.where can't be used with a batch handler")
    return _selecting(where, handle, stats)


def _selecting(where: Sequence[tuple[str, tuple[str, ...]]], handle: Handle, stats: Stats) -> Handle:
    """What a broker without filters lets through is skipped here; costs nothing where nothing is filtered."""

    async def select(delivery: Delivery) -> None:
        _open_foreign(delivery)
        if all(delivery.headers.get(name) in values for name, values in where):
            await handle(delivery)
        else:
            stats.skipped += 1

    return select


def _is_narrowed(registration: Registration) -> bool:
    return isinstance(registration.target, Topic) and registration.target.narrowed


def _single(registration: Registration, provider: Provider, stats: Stats) -> Handle:
    """Plain functions that return the user's coroutine: one coroutine less a message."""
    call, decode = _parts(registration, provider)
    if registration.select.fields:
        return _choosing(registration, call, decode, stats)
    if registration.bound.wants_message:
        return lambda delivery: call(Message(decode(delivery), delivery))
    return lambda delivery: call(decode(delivery))


def _choosing(
    registration: Registration, call: Callable[[Any], Awaitable[Any]], decode: Decode, stats: Stats
) -> Handle:
    chosen, wants_message = _chooser(registration), registration.bound.wants_message

    async def choose(delivery: Delivery) -> None:
        payload = decode(delivery)
        if chosen(payload):
            await call(Message(payload, delivery) if wants_message else payload)
        else:
            stats.skipped += 1

    return choose


def _chooser(registration: Registration) -> Callable[[Any], bool]:
    """Whether a payload has the values that `select.fields` lets through."""
    type_ = cast(Topic[Any], registration.target).type
    wanted = [(field_getter(type_, name), values) for name, values in (registration.select.fields or {}).items()]
    return lambda payload: all(get(payload) in values for get, values in wanted)


def _parts(registration: Registration, provider: Provider) -> tuple[Callable[[Any], Awaitable[Any]], Decode]:
    target = registration.target
    type_ = target.request if isinstance(target, Rpc) else target.type
    codec: Codec = target.codec
    return registration.bound.with_dependencies(provider), decoder(repr(target), type_, codec)


def _batch_handler(registration: Registration, provider: Provider, stats: Stats) -> HandleBatch:
    call, decode = _parts(registration, provider)
    chosen = _chooser(registration) if registration.select.fields else None
    wants_message = registration.bound.wants_message

    async def handle(batch: Sequence[Delivery]) -> Sequence[Exception | None]:
        results: list[Exception | None] = [None] * len(batch)
        places: list[int] = []
        payloads: list[Any] = []
        for place, delivery in enumerate(batch):
            try:
                payload = decode(delivery)
            except Exception as error:  # this entry alone is bad
                results[place] = error
                continue
            if chosen is not None and not chosen(payload):
                stats.skipped += 1
                continue
            places.append(place)
            payloads.append(Message(payload, delivery) if wants_message else payload)
        if payloads:
            for failed in await call(payloads) or ():
                results[places[_index(failed, len(payloads))]] = failed.error or Reject("the batch handler said Failed")
        return results

    return handle


def _index(failed: Failed, count: int) -> int:
    if not 0 <= failed.index < count:
        raise IndexError(f"Failed({failed.index}): the batch has {count} entries")
    return failed.index
