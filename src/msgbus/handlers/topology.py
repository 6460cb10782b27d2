"""What must exist on a broker for a subscription, and what is refused because the broker can't do it."""

from __future__ import annotations

from msgbus.broker import Binding, Capabilities, Part, QueueSpec, TopicSpec
from msgbus.errors import ConfigError
from msgbus.message import Source
from msgbus.options import Options

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
