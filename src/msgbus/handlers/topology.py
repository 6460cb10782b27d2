"""What must exist on a broker for what a service declares, and what is refused because the broker can't do it."""

from __future__ import annotations

from typing import Any

from msgbus.broker import Binding, Capabilities, Part, QueueSpec, TopicSpec
from msgbus.brokers.plan import Use
from msgbus.errors import ConfigError
from msgbus.message import Source
from msgbus.options import Options
from msgbus.topic import Queue, Rpc, Topic

_REMEDY = "route it to another broker with MSGBUS_ROUTES"
_NATIVE_MARGIN = 10  # the broker's own crash-loop cap lies this much above ours: ours writes the better dead letter


def topology_of(source: Source, options: Options) -> list[Part]:
    """What must exist for a subscription with these options."""
    return parts_of(source, options.retry.deliveries_cap + _NATIVE_MARGIN, options.lease.seconds)


def parts_of(source: Source, max_deliveries: int | None = None, lease: float | None = None) -> list[Part]:
    """What must exist for a source to be read."""
    queue = QueueSpec(source, max_deliveries, lease)
    if source.kind != "topic":
        return [queue]
    return [TopicSpec(source.name, source.ordered), queue, Binding(source.name, source)]


def parts_of_published(target: Topic[Any] | Queue[Any] | Rpc[Any, Any], prefix: str) -> list[Part]:
    """What must exist for it to be published to, as far as a publisher makes it: queues are their consumers'."""
    return [TopicSpec(prefix + target.name, target.ordered)] if isinstance(target, Topic) else []


def use_of(source: Source, options: Options, *, answers: bool) -> Use:
    """What a subscription does; `answers`: it is that of a call."""
    return Use("answer" if answers else "consume", source, tuple(topology_of(source, options)))


def use_of_published(target: Topic[Any] | Queue[Any] | Rpc[Any, Any], prefix: str) -> Use:
    """What a publisher does."""
    name, parts = prefix + target.name, tuple(parts_of_published(target, prefix))
    if isinstance(target, Topic):
        return Use("publish", Source("topic", name, ordered=target.ordered), parts)
    ordered = isinstance(target, Queue) and target.ordered
    return Use("send" if isinstance(target, Queue) else "request", Source("queue", name, ordered=ordered), parts)


def check(source: Source, options: Options, capabilities: Capabilities, broker: str) -> None:
    """Refuse at start what this broker can't do. Raises ConfigError with the remedy."""
    if source.start is not None and not capabilities.replay:
        raise ConfigError(f"{source}: select.start needs replay, which {broker} has not; {_REMEDY}")
    _check_times(source, options, capabilities, broker)


def check_target(target: Topic[Any] | Queue[Any] | Rpc[Any, Any], capabilities: Capabilities, broker: str) -> None:
    """Refuse at start what this broker can't carry, be it published or handled. Raises ConfigError with the remedy."""
    if isinstance(target, Topic) and not capabilities.fanout:
        raise ConfigError(f"{target!r}: {broker} has no topics with groups; {_REMEDY}")
    if not isinstance(target, Topic) and not capabilities.queues:
        raise ConfigError(f"{target!r}: {broker} has no queues; {_REMEDY}")
    if isinstance(target, Rpc):
        if not capabilities.reply:
            raise ConfigError(f"{target!r}: {broker} has no reply inboxes; {_REMEDY}")
    elif target.ordered and capabilities.order == "none":
        raise ConfigError(f"{target!r}: ordered=True, and {broker} keeps no order; {_REMEDY}")


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
