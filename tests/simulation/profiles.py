"""Models of brokers: what each claims, on top of the embedded one, which does as it is told."""

from __future__ import annotations

from dataclasses import dataclass, replace

from msgbus.broker import Capabilities

_NEVER = 1e6  # seconds: a lease that no run outlives
_COMMON = Capabilities(
    send_batch=1000,
    send_slots=4,
    send_order="connection",
    binary=True,
    receive_batch=1000,
    settle_batch=1000,
    dead_letters=True,
    fanout=True,
    queues=True,
    reply=True,
    inboxes=r"inbox-\d+",
)


@dataclass(frozen=True, slots=True)
class Profile:
    """`capabilities` of a source that is not ordered, `ordered` of one that is. `lease`: what the server keeps."""

    capabilities: Capabilities
    ordered: Capabilities
    lease: float

    def of(self, *, ordered: bool) -> Capabilities:
        """Those of a source."""
        return self.ordered if ordered else self.capabilities


def _same(capabilities: Capabilities, lease: float = 30.0) -> Profile:
    return Profile(capabilities, capabilities, lease)


def _push(capabilities: Capabilities) -> Profile:
    """An ordered source can't be retried by such a server: a copy would come after its followers."""
    return Profile(capabilities, replace(capabilities, retry_delay=None), _NEVER)


_LEASED = replace(
    _COMMON,
    lease=30.0,
    lease_extends=True,
    counts_deliveries=True,
    confirms_settlement=True,
    order="key",
    retry_delay=43_200.0,
    retry_keeps_order=True,
)
_PUSH = replace(_COMMON, settle_slots=4, settle_linger=0.002)

PROFILES = {
    "embedded": _same(replace(_LEASED, settle_linger=0.001, release_counts=False)),
    "sqs": _same(
        replace(
            _LEASED,
            send_batch=10,
            send_slots=8,
            send_order="gated",
            receive_batch=100,
            settle_batch=10,
            settle_slots=8,
            settle_linger=0.02,
        )
    ),
    "amqp": _push(replace(_PUSH, order="key", counts_deliveries=True, retry_delay=86_400.0)),
    "activemq": _push(replace(_PUSH, order="key", counts_deliveries=True, retry_delay=86_400.0)),
    "stomp": _same(replace(_PUSH, counts_deliveries=True), _NEVER),
    "kinesis": _same(
        replace(
            _COMMON,
            send_batch=500,
            send_slots=8,
            send_order="gated",
            order="key",
            counts_deliveries=True,
            isolates=True,
            release_counts=False,
            queues=False,
            reply=False,
        ),
        _NEVER,
    ),
}
"""By name. "activemq" and "amqp" are alike but for the batches in which they settle."""
PROFILES["activemq"] = _push(replace(PROFILES["amqp"].capabilities, settle_batch=1, settle_linger=0.0, send_batch=1))
