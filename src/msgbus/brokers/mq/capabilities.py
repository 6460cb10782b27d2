"""What all brokers that push claim alike."""

from __future__ import annotations

from msgbus.broker import Capabilities

BATCH = 1000  # messages of one call: they are written together, and confirmed by the server as it likes
LINGER = 0.002  # seconds: acknowledgements that are gathered cost one frame, or one write


def common(max_bytes: int) -> Capabilities:
    """Derive a server's own with dataclasses.replace. `max_bytes`: the largest body."""
    return Capabilities(
        send_batch=BATCH,
        send_slots=4,
        send_order="connection",
        message_bytes=max_bytes,
        binary=True,
        expiry=True,
        receive_batch=BATCH,
        settle_batch=BATCH,
        settle_slots=4,
        settle_linger=LINGER,
        dead_letters=True,
        fanout=True,
        queues=True,
        reply=True,
    )
